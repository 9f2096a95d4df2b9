"""TLS is what `requests` makes of `verify` and `cert`, and its failure is an outcome of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from loadgen.engine.errors import AppError
from loadgen.engine.http import tls
from loadgen.engine.http.dialer import Dialer, connect_outcome
from loadgen.engine.http.request import Preparer
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.support.certificates import Certificates, make_certificates
from tests.support.echo_server import EchoServer, answer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[EchoServer]:
    with EchoServer(lambda received: answer(200), certificates.server_context()) as running:
        yield running


@pytest.fixture(scope="module")
def strict_server(certificates: Certificates) -> Iterator[EchoServer]:
    """Wants a certificate of its clients."""
    with EchoServer(lambda received: answer(200), certificates.server_context(client_needed=True)) as running:
        yield running


class Client(asyncio.Protocol):
    """Sends a request and keeps the answer's status line."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.protocol = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data.partition(b"\r\n")[0])


async def dial(host: str, chosen: tls.TlsOptions, timeout_s: float = 10) -> bytes | Outcome:
    """The status line of a request over a new connection, or why there was none."""
    made: list[Client] = []

    def protocol() -> Client:
        made.append(Client())
        return made[-1]

    try:
        await Dialer(asyncio.get_running_loop(), host, timeout_s, chosen).connect(protocol)
    except (OSError, ValueError) as error:
        return connect_outcome(error)
    try:
        assert made[0].protocol == "http/1.1"
        return await asyncio.wait_for(made[0].answered, 10)
    finally:
        made[0].transport.abort()
        await asyncio.sleep(0.01)


def through_requests(host: str, **kwargs: Any) -> bytes | Outcome:
    with requests.Session() as session:
        session.trust_env = False
        try:
            response = session.get(f"https://{host}/", timeout=10, **kwargs)
        except requests.exceptions.SSLError:
            return Outcome.CONNECT_TLS
        return b"HTTP/1.1 %d %b" % (response.status_code, response.reason.encode())


ANSWERED = b"HTTP/1.1 200 Some Reason"


@pytest.mark.parametrize(
    ("address", "verify", "expected"),
    [
        ("127.0.0.1", "authority", ANSWERED),
        ("localhost", "authority", ANSWERED),
        ("127.0.0.2", "authority", Outcome.CONNECT_TLS),  # the certificate does not name it
        ("127.0.0.1", True, Outcome.CONNECT_TLS),  # nobody in the bundle of `requests` has signed it
    ],
)
def test_a_certificate_is_checked_as_requests_checks_it(
    run: Run[Any], server: EchoServer, certificates: Certificates, address: str, verify: bool | str, expected: Any
) -> None:
    path = str(certificates.authority) if verify == "authority" else verify
    host = f"{address}:{server.port}"
    assert run(dial(host, tls.options(path))) == expected
    assert through_requests(host, verify=path) == expected


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_without_verify_any_certificate_will_do(run: Run[Any], server: EchoServer, address: str) -> None:
    assert run(dial(f"{address}:{server.port}", tls.options(False))) == ANSWERED


def test_a_client_shows_its_certificate_where_it_is_asked(
    run: Run[Any], strict_server: EchoServer, certificates: Certificates
) -> None:
    authority, client = str(certificates.authority), str(certificates.client)
    assert run(dial(strict_server.host, tls.options(authority, client))) == ANSWERED
    assert run(dial(strict_server.host, tls.options(authority, (client, client)))) == ANSWERED
    assert run(dial(strict_server.host, tls.options(authority))) == Outcome.CONNECT_TLS


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
def test_a_server_that_does_not_speak_tls_is_a_failed_handshake(run: Run[Any], reply: bytes | None) -> None:
    async def scenario() -> bytes | Outcome:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if reply is None:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                writer.transport.abort()
                return
            writer.write(reply)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await dial(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", tls.options())

    assert run(scenario()) == Outcome.CONNECT_TLS


def test_the_connect_time_out_covers_the_handshake(run: Run[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        assert run(dial(host, tls.options(), timeout_s=0.1)) == Outcome.CONNECT_TIMEOUT


def test_a_refused_connect_is_none_of_tls(run: Run[Any]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert run(dial(f"127.0.0.1:{unused.getsockname()[1]}", tls.options())) == Outcome.CONNECT_REFUSED


def test_equal_options_share_one_context(certificates: Certificates) -> None:
    one, other = tls.options(str(certificates.authority)), tls.options(str(certificates.authority))
    assert tls.context(one) is tls.context(other)
    assert tls.context(tls.options(False)) is not tls.context(one)


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"verify": "nowhere.pem"}, "verify: nowhere.pem"),
        ({"cert": "nowhere.pem"}, "cert: nowhere.pem"),
        ({"cert": ("nowhere.pem", "nowhere.key")}, "cert: nowhere.pem"),
    ],
)
def test_an_unusable_file_is_reported_before_anything_is_sent(kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(AppError, match=named):
        Preparer("X-Request-Id", "group", 30).prepare("https://pi", "GET", "/", kwargs)


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "bundle.pem").write_text("no certificate")
    with pytest.raises(AppError, match=r"verify: .* is not a bundle"):
        Preparer("X-Request-Id", "group", 30).prepare(
            "https://pi", "GET", "/", {"verify": str(tmp_path / "bundle.pem")}
        )


def test_a_request_carries_its_options_only_to_https(certificates: Certificates) -> None:
    one, path = Preparer("X-Request-Id", "group", 30), str(certificates.authority)
    assert one.prepare("https://pi", "GET", "/", {"verify": path}).tls is tls.options(path)
    assert one.prepare("https://pi", "GET", "/", {}).tls is tls.options()
    assert one.prepare("http://pi", "GET", "/", {"verify": path}).tls is None


@pytest.mark.parametrize(
    ("base", "host"),
    [("https://pi", "pi"), ("https://pi:443", "pi"), ("https://pi:80", "pi:80"), ("http://pi:80", "pi")],
)
def test_the_default_port_of_the_scheme_is_not_named(base: str, host: str) -> None:
    head = Preparer("X-Request-Id", "group", 30).prepare(base, "GET", "/", {}).head
    assert f"\r\nHost: {host}\r\n".encode() in head
