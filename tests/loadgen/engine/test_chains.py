"""Whole runs over redirects, TLS, new connections and few of them: each arrival ends as one row all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from loadgen.messages import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.certificates import Certificates, make_certificates
from tests.support.echo_server import EchoServer, Received, answer
from tests.support.http_target import HttpTarget

pytestmark = pytest.mark.slow

CHAIN = ["/first", "/second", "/third"]


def respond(received: Received) -> bytes:
    path = received.target
    if path in CHAIN[:-1]:
        return answer(302, b"over there", f"Location: {CHAIN[CHAIN.index(path) + 1]}")
    if path == "/for-ever":
        return answer(301, b"", "Location: /for-ever")
    if path == "/nowhere":
        return answer(307, b"", "Location: http://127.0.0.1:1/")
    if path == "/bare":
        return answer(302, b"no location")
    return answer(200, b"here")


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer(respond) as running:
        yield running


def ids(server: EchoServer) -> list[str]:
    return [received.header("x-request-id") for received in server.take()]


def test_a_redirect_is_followed_to_its_end_and_the_arrival_stays_one(run: Run[Result], server: EchoServer) -> None:
    result = run(play(build(server.host, rate=50, duration=0.2, path=CHAIN[0])))
    assert result.outcomes() == {Outcome.COMPLETED: 10}
    assert {(row.status, row.size, row.host) for row in result.rows} == {(200, 4, server.host)}
    first = sorted(result.ids())
    assert sorted(ids(server)) == sorted(name + hop for name in first for hop in ("", ".1", ".2"))


def test_a_redirect_that_must_not_be_followed_is_the_response(run: Run[Result], server: EchoServer) -> None:
    kwargs = {"allow_redirects": False}
    result = run(play(build(server.host, rate=50, duration=0.1, path=CHAIN[0], kwargs=kwargs)))
    assert {(row.outcome, row.status) for row in result.rows} == {(Outcome.COMPLETED, 302)}
    assert sorted(ids(server)) == sorted(result.ids())


def test_redirects_without_an_end_are_an_error_of_a_request_that_was_sent(run: Run[Result], server: EchoServer) -> None:
    result = run(play(build(server.host, rate=20, duration=0.1, path="/for-ever")))
    assert result.outcomes() == {Outcome.REDIRECT: 2}
    assert len(ids(server)) == 2 * 31


def test_a_redirect_to_where_nobody_listens_is_an_error_of_a_request_that_was_sent(
    run: Run[Result], server: EchoServer
) -> None:
    result = run(play(build(server.host, rate=20, duration=0.1, path="/nowhere")))
    assert result.outcomes() == {Outcome.REDIRECT: 2}
    assert {row.host for row in result.rows} == {server.host}
    assert sorted(ids(server)) == sorted(result.ids())


def test_a_redirect_that_leads_nowhere_is_a_response_like_any_other(run: Run[Result], server: EchoServer) -> None:
    result = run(play(build(server.host, rate=20, duration=0.1, path="/bare")))
    assert {(row.outcome, row.status) for row in result.rows} == {(Outcome.COMPLETED, 302)}
    server.take()


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
            engine.stop(5_000_000_000, "stopped")
            release.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            result = await play(build(host, rate=20, duration=0.1), stop)
            await asyncio.gather(*served)
        return result

    assert run(scenario()).outcomes() == {Outcome.ABORTED: 2}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_a_service_with_tls_is_spoken_to_over_connections_that_live_on(
    run: Run[Result], certificates: Certificates
) -> None:
    with EchoServer(respond, certificates.server_context()) as server:
        settings: dict[str, Any] = {"scheme": "https", "kwargs": {"verify": str(certificates.authority)}}
        result = run(play(build(server.host, rate=100, duration=0.3, **settings)))
        assert result.outcomes() == {Outcome.COMPLETED: 30}
        assert result.connections < 30
        assert sorted(ids(server)) == sorted(result.ids())


def test_a_certificate_that_nobody_vouches_for_is_a_failed_connect(
    run: Run[Result], certificates: Certificates
) -> None:
    with EchoServer(respond, certificates.server_context()) as server:
        result = run(play(build(server.host, rate=20, duration=0.2, scheme="https")))
        assert result.outcomes() == {Outcome.CONNECT_TLS: 4}


def test_without_an_id_header_a_request_has_none(run: Run[Result], server: EchoServer) -> None:
    result = run(play(build(server.host, rate=50, duration=0.1, request_id_header="")))
    assert result.outcomes() == {Outcome.COMPLETED: 5}
    assert ids(server) == [""] * 5


def test_with_new_connections_none_serves_twice(run: Run[Result], target: HttpTarget, group: str) -> None:
    before = target.connections()  # each question of this kind needs one of its own
    result = run(play(build(target.host, rate=100, duration=0.3, group=group, connection="new")))
    assert result.outcomes() == {Outcome.COMPLETED: 30}
    assert target.connections() - before == 30 + 1
    assert result.connections == 0


def test_who_finds_no_connection_and_may_open_none_waits(run: Run[Result], target: HttpTarget) -> None:
    before = target.connections()
    settings: dict[str, Any] = {"path": "/mode/slow/", "max_connections_per_host": 2}
    result = run(play(build(target.host, rate=50, duration=0.2, **settings)))
    assert result.outcomes() == {Outcome.COMPLETED: 10}
    assert target.connections() - before == 2 + 1
    assert max(row.sent_ns - row.dispatched_ns for row in result.rows) > 100_000_000


def test_when_a_connection_of_few_breaks_another_serves_who_waits(run: Run[Result], target: HttpTarget) -> None:
    settings: dict[str, Any] = {"path": "/mode/goodbye/", "max_connections_per_host": 1}
    result = run(play(build(target.host, rate=100, duration=0.1, **settings)))
    assert sum(result.outcomes().values()) == 10
    assert set(result.outcomes()) <= {Outcome.COMPLETED, Outcome.CLOSED, Outcome.RESET}


def test_when_few_connections_are_refused_each_attempt_ends_one_arrival(run: Run[Result]) -> None:
    result = run(play(build("127.0.0.1:1", rate=100, duration=0.2, max_connections_per_host=2)))
    assert result.outcomes() == {Outcome.CONNECT_REFUSED: 20}
