"""Redirects and TLS through the engine: an arrival has one row, whatever its way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from loadgen.engine.end import STOPPED
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.certificates import Certificates, make_certificates
from tests.support.echo_server import EchoServer, Received, answer
from tests.support.raw_targets import RawTarget, ok_to

pytestmark = pytest.mark.slow

PLANNED = 20  # 0.2 s at 100 requests/s


def routed(server: EchoServer, received: Received) -> bytes:
    """/a leads to /b here, that to /c on another address, and that is the end; /loop leads to itself."""
    places = {
        "/a": "/b",
        "/b": f"http://127.0.0.2:{server.port}/c",
        "/loop": "/loop",
        "/ftp": "ftp://127.0.0.1/",
        "/nowhere": "http://127.0.0.2:1/",
        "/secure": f"http://127.0.0.1:{server.port}/c",
    }
    if received.target == "/hints":
        hints = b"HTTP/1.1 103 Hints\r\nLocation: /no\r\n\r\n"
        return hints + answer(303, b"text", f"Location: http://127.0.0.2:{server.port}/c")
    place = places.get(received.target)
    return answer(404, b"end") if place is None else answer(302, b"moved", f"Location: {place}")


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer(lambda received: routed(running, received)) as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure_server(certificates: Certificates, server: EchoServer) -> Iterator[EchoServer]:
    with EchoServer(lambda received: routed(server, received), certificates.server_context()) as running:
        yield running


def play_path(run: Run[Result], server: EchoServer, path: str, **workload: Any) -> Result:
    server.take()
    result = run(play(build(server.host, path=path, **workload)))
    assert len(result.rows) == PLANNED
    return result


def test_an_interim_head_does_not_hide_the_redirect(run: Run[Result], server: EchoServer) -> None:
    result = play_path(run, server, "/hints", method="POST")
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    received = Counter((one.method, one.target) for one in server.take())
    assert received == {("POST", "/hints"): PLANNED, ("GET", "/c"): PLANNED}


@pytest.mark.parametrize("connection", ["keep-alive", "new"])
def test_a_followed_arrival_has_one_row_with_its_last_status(
    run: Run[Result], server: EchoServer, connection: str
) -> None:
    result = play_path(run, server, "/a", method="POST", kwargs={"data": "x"}, connection=connection)
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    assert {(row.status, row.size) for row in result.rows} == {(404, 3)}
    received = server.take()
    assert Counter((one.method, one.target, one.body) for one in received) == {
        ("POST", "/a", b"x"): PLANNED, ("GET", "/b", b""): PLANNED, ("GET", "/c", b""): PLANNED,
    }  # fmt: skip
    names = [name + hop for name in result.ids() for hop in ("", "-1", "-2")]
    assert sorted(one.header("x-request-id") for one in received) == sorted(names)


def test_a_redirect_is_a_response_where_it_is_not_to_be_followed(run: Run[Result], server: EchoServer) -> None:
    result = play_path(run, server, "/a", kwargs={"allow_redirects": False})
    assert {(row.outcome, row.status, row.size) for row in result.rows} == {(Outcome.COMPLETED, 302, 5)}
    assert len(server.take()) == PLANNED


@pytest.mark.parametrize("path", ["/loop", "/ftp", "/nowhere"])
def test_an_invalid_redirect_is_an_error_of_a_sent_request(run: Run[Result], server: EchoServer, path: str) -> None:
    result = play_path(run, server, path)
    assert result.outcomes() == {Outcome.REDIRECT: PLANNED}
    received = [one.header("x-request-id") for one in server.take()]
    assert len(received) == len(set(received)) == (31 * PLANNED if path == "/loop" else PLANNED)


BROKEN_BODIES = {
    "short": b"Content-Length: 10\r\n\r\nabc",
    "bad size of a chunk": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
    "cut chunk": b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "no last chunk": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
}


class BreakingOff(RawTarget):
    """Answers every other request with a redirect whose body is broken, and ends the connection."""

    def __init__(self, body: bytes, *, is_reset: bool, location: bytes = b"Location: /b\r\n") -> None:
        super().__init__()
        self._broken = b"HTTP/1.1 302 Found\r\n" + location + body
        self._is_reset = is_reset

    def serve(self, connection: socket.socket, number: int) -> None:
        while seen := self.read(connection, number):
            if len(self.seen) % 2 == 0:
                connection.sendall(ok_to(seen))
                continue
            connection.sendall(self._broken)
            if self._is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=list(BROKEN_BODIES))
def test_redirect_with_a_broken_body_is_followed(run: Run[Result], body: bytes, is_reset: bool) -> None:
    with BreakingOff(body, is_reset=is_reset) as target:
        with requests.Session() as session:
            session.trust_env = False
            response = session.get(f"http://{target.host}/a", timeout=10)
        assert (response.status_code, [one.status_code for one in response.history]) == (200, [302])
        target.seen.clear()
        result = run(play(build(target.host, path="/a", rate=20, duration=0.2, clients=1)))
    assert {(row.outcome, row.status, row.size, row.reason) for row in result.rows} == {(Outcome.COMPLETED, 200, 2, 0)}
    assert sorted(seen.request_id for seen in target.seen) == sorted(
        name + hop for name in result.ids() for hop in ("", "-1")
    )


def test_redirect_whose_body_times_out_is_not_followed(run: Run[Result]) -> None:
    """Its arrival has ended when its connection ends; `requests` does not follow it either."""
    with EchoServer(lambda _: b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 9\r\n\r\nabc") as server:
        result = run(play(build(server.host, path="/a", rate=20, duration=0.2, request_timeout_s=0.2)))
        assert result.outcomes() == {Outcome.TIMEOUT: 4}
        assert {one.target for one in server.take()} == {"/a"}


@pytest.mark.parametrize(
    ("location", "outcomes"),
    [
        (b"", {Outcome.MALFORMED: 2}),  # leads nowhere: a response like any other
        (b"Location: ftp://127.0.0.1/\r\n", {Outcome.REDIRECT: 2}),
    ],
)
def test_broken_redirect_that_leads_nowhere_is_an_error(
    run: Run[Result], location: bytes, outcomes: dict[Outcome, int]
) -> None:
    body = BROKEN_BODIES["bad size of a chunk"]
    with BreakingOff(body, is_reset=False, location=location) as target:
        result = run(play(build(target.host, path="/a", rate=20, duration=0.2, clients=1)))
    expected = {**outcomes, Outcome.COMPLETED: 2}
    assert result.outcomes() == expected
    assert all((row.reason != 0) == (row.outcome == Outcome.MALFORMED) for row in result.rows)


def test_the_time_out_is_that_of_all_hops_together(run: Run[Result]) -> None:
    with (
        socket.create_server(("127.0.0.2", 0)) as silent,
        EchoServer(
            lambda received: answer(302, b"", f"Location: http://127.0.0.2:{silent.getsockname()[1]}/")
        ) as server,
    ):
        result = run(play(build(server.host, request_timeout_s=0.1)))
    assert result.outcomes() == {Outcome.TIMEOUT: PLANNED}


def test_after_a_stop_no_redirect_is_followed(run: Run[Result]) -> None:
    release = asyncio.Event()

    async def scenario() -> Result:
        served: list[Any] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(asyncio.current_task())
            await reader.readuntil(b"\r\n\r\n")
            await release.wait()
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
            assert await reader.read(1) == b""
            writer.close()
            await writer.wait_closed()

        async def stop(engine: Any) -> None:
            while engine.counters.sent < 2:
                await asyncio.sleep(0.01)
            engine.stop(5_000_000_000, STOPPED)
            release.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            result = await play(build(host, rate=20, duration=0.1), stop)
            await asyncio.gather(*served)
        return result

    assert run(scenario()).outcomes() == {Outcome.ABORTED: 2}


def test_requests_over_tls_are_requests_like_any_other(
    run: Run[Result], secure_server: EchoServer, certificates: Certificates
) -> None:
    kwargs = {"verify": str(certificates.authority)}
    result = play_path(run, secure_server, "/x", scheme="https", kwargs=kwargs)
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    assert {row.host for row in result.rows} == {secure_server.host}
    assert sorted(one.header("x-request-id") for one in secure_server.take()) == sorted(result.ids())


def test_an_untrusted_certificate_is_a_failed_connect(run: Run[Result], secure_server: EchoServer) -> None:
    assert play_path(run, secure_server, "/x", scheme="https").outcomes() == {Outcome.CONNECT_TLS: PLANNED}


def test_a_redirect_may_lead_out_of_tls(run: Run[Result], secure_server: EchoServer, server: EchoServer) -> None:
    server.take()
    result = play_path(run, secure_server, "/secure", scheme="https", kwargs={"verify": False})
    assert {(row.outcome, row.status) for row in result.rows} == {(Outcome.COMPLETED, 404)}
    assert {one.target for one in server.take()} == {"/c"}


def test_without_an_id_header_requests_carry_none(run: Run[Result], server: EchoServer) -> None:
    result = play_path(run, server, "/a", request_id_header="")
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    received = server.take()
    assert len(received) == 3 * PLANNED
    assert not any(name == "x-request-id" or "group-" in value for one in received for name, value in one.headers)


def test_hosts_that_redirects_alone_lead_to_are_forgotten(run: Run[Any]) -> None:
    def lead_away(received: Received) -> bytes:
        if received.target == "/":
            return answer(302, b"", f"Location: http://127.0.0.2:{elsewhere.port}/there", "Connection: keep-alive")
        return answer(200, b"", "Connection: close")

    def strangers(engine: Any) -> set[Any]:
        return {key for key in engine._pool.hosts if key != server.host}

    async def until_forgotten(engine: Any) -> None:
        async with asyncio.timeout(20):
            while engine.counters.completed < 10 or strangers(engine):
                await asyncio.sleep(0.01)
        engine.stop(0, STOPPED)

    async def scenario() -> tuple[set[Any], Result]:
        engine = build(server.host, schedule=[[0.2, 50], [60, 0]])
        result = await play(engine, until_forgotten)
        return strangers(engine), result

    with EchoServer(lead_away) as elsewhere, EchoServer(lead_away) as server:
        left, result = run(scenario())
    assert left == set()
    assert result.outcomes() == {Outcome.COMPLETED: 10}
