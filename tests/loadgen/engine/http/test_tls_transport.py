"""TLS hands up what a server sends, however it is cut, and ends once, however it ends."""

from __future__ import annotations

import asyncio
import gc
import random
import select
import socket
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from loadgen.engine.http import tls
from loadgen.engine.http.tls_transport import TlsTransport
from tests.loadgen.engine.conftest import Run
from tests.support.certificates import Certificates, make_certificates

pytestmark = pytest.mark.slow

RECORD = 16 * 1024
RESET = b"\x01\0\0\0\0\0\0\0"  # SO_LINGER of 0 s


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Server(asyncio.Protocol):
    """The other end, whose every encrypted byte is in the test's hand."""

    def __init__(self, certificates: Certificates) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = certificates.server_context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self.received = bytearray()
        self.alert = ""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._ssl.do_handshake()
                self._shaken = True
            while True:
                self.received += self._ssl.read(RECORD)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.alert = str(error)
        self.transport.write(self._outgoing.read())

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def sealed(self, data: bytes) -> bytes:
        """It as records of TLS."""
        self._ssl.write(data)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self._ssl.unwrap()
        return self._outgoing.read()

    def reset(self) -> None:
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


class Client(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[Any] = []  # "eof", and what connection_lost was given
        self.lost = asyncio.Event()
        self.greeting = b"hello"

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def eof_received(self) -> None:
        self.ends.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)
        self.lost.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


Script = Callable[[Client, Server], Coroutine[Any, Any, None]]


async def talk(certificates: Certificates, script: Script, client: Client | None = None) -> Client:
    """Runs a script with the two ends of a new connection, after the client's greeting came; then all is closed."""
    loop = asyncio.get_running_loop()
    client, servers = client or Client(), [Server(certificates)]
    async with await loop.create_server(lambda: servers[0], "127.0.0.1", 0) as listening:
        await opened(loop, listening.sockets[0].getsockname()[1], lambda: client)
        await until(lambda: bytes(servers[0].received[:5]) == client.greeting[:5])
        await script(client, servers[0])
        if not client.lost.is_set():
            client.transport.abort()
        servers[0].transport.abort()
        await asyncio.wait_for(client.lost.wait(), 20)
        await asyncio.wait_for(servers[0].ended.wait(), 20)
        await asyncio.sleep(0.01)
    return client


async def opened(
    loop: asyncio.AbstractEventLoop, port: int, make_client: Callable[[], Client], verify: bool = False
) -> None:
    transport = TlsTransport(loop, tls.context(tls.options(verify)), "localhost", make_client)
    await loop.create_connection(lambda: transport, "127.0.0.1", port)
    await transport.opened()


def test_a_large_body_comes_whole_and_in_pieces_that_are_small(run: Run[Client], certificates: Certificates) -> None:
    body = bytes(range(256)) * 40_000

    async def script(client: Client, server: Server) -> None:
        server.transport.write(server.sealed(body))
        await until(lambda: sum(map(len, client.pieces)) == len(body))

    client = run(talk(certificates, script))
    assert client.data == body
    assert max(map(len, client.pieces)) == RECORD


def test_records_that_come_in_one_segment_are_all_handed_up(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        server.transport.write(b"".join(server.sealed(b"%d." % number) for number in range(50)))
        await until(lambda: len(client.pieces) == 50)

    assert run(talk(certificates, script)).pieces == [b"%d." % number for number in range(50)]


def test_a_record_may_come_byte_by_byte(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        for byte in server.sealed(b"one") + server.sealed(b"two"):
            server.transport.write(bytes([byte]))
            await asyncio.sleep(0)
        await until(lambda: len(client.pieces) == 2)

    assert run(talk(certificates, script)).pieces == [b"one", b"two"]


@pytest.mark.parametrize("said", [True, False])
def test_the_end_of_data_needs_no_close_notify(run: Run[Client], certificates: Certificates, said: bool) -> None:
    async def script(client: Client, server: Server) -> None:
        server.transport.write(server.sealed(b"last words") + (server.goodbye() if said else b""))
        server.transport.write_eof()
        await client.lost.wait()

    client = run(talk(certificates, script))
    assert client.data == b"last words"
    assert client.ends == ["eof", None]


def test_close_notify_closes_the_connection(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        server.transport.write(server.goodbye())
        await asyncio.wait_for(server.ended.wait(), 20)

    assert run(talk(certificates, script)).ends == ["eof", None]


def test_a_reset_is_reported_after_the_data_before_it(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        server.transport.write(server.sealed(b"half a respo"))
        await until(lambda: bool(client.pieces))
        server.reset()
        await client.lost.wait()

    client = run(talk(certificates, script))
    assert client.data == b"half a respo"
    assert [type(end) for end in client.ends] == [ConnectionResetError]


def test_a_forged_record_closes_the_connection_with_an_alert(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        record = bytearray(server.sealed(b"truth"))
        record[-1] ^= 1
        server.transport.write(bytes(record) + b"\0" * 9)
        await until(lambda: bool(server.alert))
        assert "bad record mac" in server.alert
        await client.lost.wait()

    client = run(talk(certificates, script))
    assert client.pieces == []
    assert [type(end) for end in client.ends] == [ssl.SSLError]


def test_a_refused_certificate_sends_an_alert(run: Run[None], certificates: Certificates) -> None:
    async def scenario() -> None:
        loop, server = asyncio.get_running_loop(), Server(certificates)
        async with await loop.create_server(lambda: server, "127.0.0.1", 0) as listening:
            with pytest.raises(ssl.SSLCertVerificationError):
                await opened(loop, listening.sockets[0].getsockname()[1], Client, verify=True)
            await until(lambda: bool(server.alert))
            assert "unknown ca" in server.alert
            await asyncio.wait_for(server.ended.wait(), 20)

    run(scenario())


def spoiled(rng: random.Random, sealed: bytes) -> bytes:
    data, at = bytearray(sealed), rng.randrange(len(sealed))
    match rng.randrange(4):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
    return bytes(data)


def test_arbitrary_input_yields_only_genuine_data_and_one_end(run: Run[Client], certificates: Certificates) -> None:
    words = [b"%d," % number * 500 for number in range(30)]
    kinds = set()
    for seed in range(30):
        rng = random.Random(seed)

        async def script(client: Client, server: Server, rng: random.Random = rng) -> None:
            data = spoiled(rng, b"".join(map(server.sealed, words)))
            for start in range(0, len(data), 7001):
                if server.transport.is_closing():
                    break
                server.transport.write(data[start : start + 7001])
                await asyncio.sleep(0)
            if not server.transport.is_closing():
                server.transport.write_eof()
            await client.lost.wait()

        client = run(talk(certificates, script))
        assert client.pieces == words[: len(client.pieces)]
        assert client.ends == ["eof", None] or [type(end) for end in client.ends] in (
            [ssl.SSLError],
            [ConnectionResetError],
        )
        kinds.add(type(client.ends[-1]))
    assert {ssl.SSLError, type(None)} <= kinds


def test_unread_data_is_buffered_and_arrives_whole(run: Run[Client], certificates: Certificates) -> None:
    body = bytes(range(251)) * 80_000

    async def script(client: Client, server: Server) -> None:
        server.transport.pause_reading()
        client.transport.write(body[:100])
        client.transport.write(body[100:])
        waiting = client.transport.get_write_buffer_size()
        assert 0 < waiting < len(body)
        client.transport.write(b"end")  # behind what waits
        assert client.transport.get_write_buffer_size() >= waiting
        server.transport.resume_reading()
        await until(lambda: len(server.received) == len(body) + 8)
        assert bytes(server.received) == b"hello" + body + b"end"
        await until(lambda: client.transport.get_write_buffer_size() == 0)
        client.transport.write(b"at once")
        await until(lambda: server.received.endswith(b"at once"))

    run(talk(certificates, script))


def test_data_is_sent_within_the_same_turn_of_the_loop(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        arrived = [server.transport.get_extra_info("socket").fileno()]
        assert select.select(arrived, [], [], 0)[0] == []
        client.transport.write(b"now")
        assert select.select(arrived, [], [], 5)[0] == arrived
        await until(lambda: server.received.endswith(b"now"))

    run(talk(certificates, script))


def test_abort_calls_connection_lost_once_in_a_later_turn(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        server.transport.write(server.sealed(b"never"))
        client.transport.abort()
        client.transport.abort()
        client.transport.write(b"into nowhere")
        assert client.ends == []
        await asyncio.wait_for(server.ended.wait(), 20)
        assert bytes(server.received) == b"hello"

    client = run(talk(certificates, script))
    assert (client.pieces, client.ends) == ([], [None])


def test_a_protocol_aborting_in_connection_made_gets_no_data(run: Run[Client], certificates: Certificates) -> None:
    class Shy(Client):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.abort()

    async def script(client: Client, server: Server) -> None:
        await asyncio.wait_for(server.ended.wait(), 20)

    client = run(talk(certificates, script, Shy()))
    assert (client.pieces, client.ends) == ([], [None])


def test_a_protocol_that_aborts_amid_records_is_spared_the_rest(run: Run[Client], certificates: Certificates) -> None:
    class Satisfied(Client):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.abort()

    async def script(client: Client, server: Server) -> None:
        server.transport.write(server.sealed(b"one") + server.sealed(b"two") + server.sealed(b"x" * 200_000))
        await client.lost.wait()

    client = run(talk(certificates, script, Satisfied()))
    assert (client.pieces, client.ends) == ([b"one"], [None])


def test_a_protocols_error_closes_the_connection(run: Run[Client], certificates: Certificates) -> None:
    complaints: list[dict[str, Any]] = []

    class Faulty(Client):
        def data_received(self, data: bytes) -> None:
            raise LookupError("a mistake")

    async def script(client: Client, server: Server) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        server.transport.write(server.sealed(b"one") + server.sealed(b"two"))
        await client.lost.wait()

    client = run(talk(certificates, script, Faulty()))
    assert [type(context["exception"]) for context in complaints] == [LookupError]
    assert [type(end) for end in client.ends] == [LookupError]


async def interrupted(turns: int, certificates: Certificates) -> tuple[Client, bool]:
    """A connect that is cancelled after so many turns of the loop, and whether it had come to its end before."""
    loop = asyncio.get_running_loop()
    client, server = Client(), Server(certificates)
    async with await loop.create_server(lambda: server, "127.0.0.1", 0) as listening:
        task = asyncio.ensure_future(opened(loop, listening.sockets[0].getsockname()[1], lambda: client))
        for _ in range(turns):
            await asyncio.sleep(0)
        done = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if done:
            client.transport.abort()
        await until(lambda: not hasattr(server, "transport") or server.ended.is_set())
        await asyncio.sleep(0.01)
    return client, done


def test_a_connect_cancelled_in_any_turn_leaves_no_socket(
    run: Run[tuple[Client, bool]], certificates: Certificates
) -> None:
    for turns in range(200):
        client, done = run(interrupted(turns, certificates))
        assert client.ends in ([], [None])
        assert bool(client.ends) == hasattr(client, "transport")
        if done:
            break
    assert done
    assert turns > 4


@pytest.mark.parametrize("ending", ["well", "badly", "unwelcome"])
def test_a_connection_leaves_no_cycle_for_the_collector(run: Run[Any], certificates: Certificates, ending: str) -> None:
    def transports() -> int:
        return sum(type(thing) is TlsTransport for thing in gc.get_objects())

    async def script(client: Client, server: Server) -> None:
        server.transport.write(server.sealed(b"fine") if ending == "well" else b"no record at all")
        await until(lambda: bool(client.pieces or client.ends))

    async def unwelcome() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Client, "127.0.0.1", 0) as listening:  # speaks no TLS
            with pytest.raises(ssl.SSLError):
                await opened(loop, listening.sockets[0].getsockname()[1], Client)
        await asyncio.sleep(0.01)

    gc.collect()
    gc.disable()
    try:
        before = transports()
        run(unwelcome() if ending == "unwelcome" else talk(certificates, script))
        assert transports() == before
    finally:
        gc.enable()


@pytest.mark.parametrize(("version", "command"), [("-tls1_3", "K"), ("-tls1_2", "r")])
def test_a_server_may_change_keys_or_shake_hands_again(
    run: Run[None], certificates: Certificates, version: str, command: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    arguments = ["openssl", "s_server", version, "-accept", f"127.0.0.1:{port}", "-naccept", "1"]
    arguments += ["-cert", str(certificates.server), "-key", str(certificates.server_key)]

    async def scenario() -> None:
        server = await asyncio.create_subprocess_exec(
            *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert server.stdin is not None and server.stdout is not None
        try:
            await asyncio.wait_for(server.stdout.readuntil(b"ACCEPT\n"), 20)
            client = Client()
            client.greeting = b"hello\n"
            await opened(asyncio.get_running_loop(), port, lambda: client)
            await asyncio.wait_for(server.stdout.readuntil(b"hello\n"), 20)
            server.stdin.write(b"before\n")
            await until(lambda: client.data == b"before\n")
            server.stdin.write(command.encode() + b"\n")
            await asyncio.sleep(0.1)  # it takes a command only where one begins what it has read
            server.stdin.write(b"behind\n")
            await until(lambda: client.data == b"before\nbehind\n")
            client.transport.write(b"and back\n")
            await asyncio.wait_for(server.stdout.readuntil(b"and back\n"), 20)
            client.transport.abort()
            await asyncio.wait_for(client.lost.wait(), 20)
        finally:
            if server.returncode is None:
                server.terminate()
            await server.communicate()

    run(scenario())


def test_an_invalid_server_name_is_refused_before_connecting() -> None:
    async def scenario() -> None:
        with pytest.raises(UnicodeError):
            TlsTransport(asyncio.get_running_loop(), tls.context(tls.options()), ".pi", Client)

    asyncio.run(scenario())


def test_the_protocol_can_ask_about_tls_and_about_the_socket(run: Run[Client], certificates: Certificates) -> None:
    async def script(client: Client, server: Server) -> None:
        assert client.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert client.transport.get_extra_info("peername")[0] == "127.0.0.1"
        assert client.transport.get_extra_info("nothing", Path()) == Path()

    run(talk(certificates, script))
