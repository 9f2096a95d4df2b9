"""Every planned arrival ends as one row, whatever the target does."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, finish, play
from tests.support.http_target import OK, HttpTarget

pytestmark = pytest.mark.slow

PLANNED = 20  # 0.2 s at 100 requests/s


def run_mode(run: Run[Result], target: HttpTarget, mode: str, group: str, **workload: Any) -> Result:
    result = run(play(build(target.host, group=group, path=f"/mode/{mode}/x", **workload)))
    assert len(result.rows) == PLANNED
    assert result.reason == ""
    # Every id that the target saw was sent, and it saw each once.
    seen = target.ids(group)
    assert sorted(seen) == sorted(set(seen))
    assert set(seen) <= set(result.ids(group_id=group))
    return result


@pytest.mark.parametrize(
    ("mode", "status", "size"),
    [
        ("ok", 200, 2),
        ("error", 503, 4),
        ("chunked", 200, 6),
        ("nocontent", 204, 0),
        ("notmodified", 304, 0),
        ("continue", 200, 2),
        ("split", 200, 2),
        ("hints", 200, 2),
        ("gzip", 200, 22),
        ("binary", 200, 3),
        ("drip", 200, 20),
    ],
)
def test_a_complete_response_keeps_its_connection(
    run: Run[Result], target: HttpTarget, group: str, mode: str, status: int, size: int
) -> None:
    result = run_mode(run, target, mode, group)
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    assert {(row.status, row.size) for row in result.rows} == {(status, size)}
    assert result.counters.bytes_received == PLANNED * size
    assert result.connections > 0


@pytest.mark.parametrize(("mode", "size"), [("lastresponse", 2), ("claimsclose", 2), ("eof", 13), ("http10", 3)])
def test_a_response_that_ends_its_connection_is_completed(
    run: Run[Result], target: HttpTarget, group: str, mode: str, size: int
) -> None:
    result = run_mode(run, target, mode, group)
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    assert {(row.status, row.size) for row in result.rows} == {(200, size)}
    assert result.connections == 0


@pytest.mark.parametrize("mode", ["excess", "garbagebehind"])
def test_excess_data_closes_only_the_connection(run: Run[Result], target: HttpTarget, group: str, mode: str) -> None:
    before = target.connections()
    result = run_mode(run, target, mode, group)
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    assert {row.size for row in result.rows} == {2}
    assert target.connections() - before == PLANNED + 2  # and the two questions, of ids and of connections


@pytest.mark.parametrize(("mode", "kept"), [("headlength", True), ("headbare", True), ("headbody", False)])
def test_a_response_to_head_has_no_body(
    run: Run[Result], target: HttpTarget, group: str, mode: str, kept: bool
) -> None:
    result = run_mode(run, target, mode, group, method="HEAD")
    assert result.outcomes() == {Outcome.COMPLETED: PLANNED}
    assert {row.size for row in result.rows} == {0}
    assert (result.connections > 0) is kept


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("close", Outcome.CLOSED),
        ("partial", Outcome.CLOSED),
        ("reset", Outcome.RESET),
        ("garbage", Outcome.MALFORMED),
        ("endlesshead", Outcome.MALFORMED),
        ("longheader", Outcome.MALFORMED),
        ("halfway", Outcome.CLOSED),
    ],
)
def test_a_failed_request_is_recorded_and_not_retried(
    run: Run[Result], target: HttpTarget, group: str, mode: str, outcome: Outcome
) -> None:
    result = run_mode(run, target, mode, group)
    assert result.outcomes() == {outcome: PLANNED}
    assert {row.host for row in result.rows} == {target.host}
    assert len(target.ids(group)) == PLANNED


@pytest.mark.parametrize("mode", ["hang", "stall"])
def test_a_time_out_closes_the_connection(run: Run[Result], target: HttpTarget, group: str, mode: str) -> None:
    before = target.connections()
    result = run_mode(run, target, mode, group, request_timeout_s=0.05)
    assert result.outcomes() == {Outcome.TIMEOUT: PLANNED}
    assert target.connections() - before - 2 == PLANNED


def test_a_slow_body_counts_whole_against_the_time_out(run: Run[Result], target: HttpTarget) -> None:
    result = run(play(build(target.host, path="/mode/drip/x", request_timeout_s=0.1)))
    assert result.outcomes() == {Outcome.TIMEOUT: PLANNED}
    assert all(0 < row.size < 20 for row in result.rows)


def test_a_body_of_100_mb_is_counted_and_not_kept(run: Run[Result], target: HttpTarget) -> None:
    tracemalloc.start()
    try:
        result = run(play(build(target.host, path="/mode/huge/x", rate=10, duration=0.2, clients=1)))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.outcomes() == {Outcome.COMPLETED: 2}
    assert {row.size for row in result.rows} == {100 << 20}
    assert peak_bytes < 10 << 20


def test_a_time_out_starts_at_its_own_request(run: Run[Result], target: HttpTarget) -> None:
    engine = build(target.host, path="/mode/slow/x", rate=4, duration=2, clients=1, request_timeout_s=1)
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 8}


def test_a_refused_connect_ends_the_arrival_that_waited(run: Run[Result]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening: no other process gets the port
        result = run(play(build(f"127.0.0.1:{unused.getsockname()[1]}")))
    assert result.outcomes() == {Outcome.CONNECT_REFUSED: PLANNED}


def test_a_connect_without_an_answer_times_out(run: Run[Result]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        with socket.create_connection(listener.getsockname()):  # fills the backlog: further SYNs are ignored
            result = run(play(build(host, connect_timeout_s=0.1)))  # of the 30 s for a response nothing has to pass
    outcomes = result.outcomes()
    assert outcomes[Outcome.CONNECT_TIMEOUT] >= PLANNED - 1
    assert sum(outcomes.values()) == PLANNED


def test_a_name_that_cannot_be_resolved_is_a_failed_connect(run: Run[Result]) -> None:
    # A label of more than 63 letters needs no resolver's answer.
    result = run(play(build("x" * 64 + ".invalid:80")))
    assert result.outcomes() == {Outcome.CONNECT_DNS: PLANNED}


def test_without_a_route_nothing_is_sent(run: Run[Result]) -> None:
    result = run(play(build()))
    assert result.outcomes() == {Outcome.NO_ROUTE: PLANNED}
    assert {row.host for row in result.rows} == {None}


def test_an_arrival_above_max_in_flight_is_dropped(run: Run[Result], target: HttpTarget) -> None:
    result = run(play(build(target.host, path="/mode/hang/x", max_in_flight=3, request_timeout_s=1)))
    assert result.outcomes() == {Outcome.TIMEOUT: 3, Outcome.DROPPED: PLANNED - 3}


@pytest.mark.parametrize("mode", ["goodbye", "halfclose"])
def test_a_connection_closed_while_idle_is_not_reused(run: Run[Result], target: HttpTarget, mode: str) -> None:
    # Half a second between the requests, in each of which the server closes the connection without having said so.
    result = run(play(build(target.host, path=f"/mode/{mode}/x", rate=2, duration=1.5, clients=1)))
    assert result.outcomes() == {Outcome.COMPLETED: 3}


@pytest.mark.parametrize("unasked", [b"\x00\x01 this is not HTTP at all", OK, b"\r\n"])
def test_a_connection_with_unsolicited_data_is_not_reused(run: Run[Result], unasked: bytes) -> None:
    sent_later: list[bytes] = []

    async def scenario() -> Result:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            before = engine.counters.completed
            writer.write(OK)
            while engine.counters.completed == before:  # the connection is idle only when its request has ended
                await asyncio.sleep(0.001)
            writer.write(unasked)
            sent_later.append(await reader.read())
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            # Half a second between the requests, in which what is said to nobody arrives.
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            engine = build(host, rate=2, duration=1.5, clients=1, request_timeout_s=1)
            result = await play(engine)
            await asyncio.sleep(0.05)
        return result

    assert run(scenario()).outcomes() == {Outcome.COMPLETED: 3}
    assert sent_later == [b""] * 3  # each request had a connection of its own, which the engine closed


def test_running_out_of_descriptors_is_a_failed_connect(run: Run[Result], target: HttpTarget) -> None:
    async def starved() -> Result:
        engine = build(target.host, path="/mode/slow/x", rate=400, duration=0.1)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        used = len(list(Path("/proc/self/fd").iterdir()))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
        try:
            return await finish(engine)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    outcomes = run(starved()).outcomes()
    assert outcomes[Outcome.CONNECT_NO_DESCRIPTOR] > 0
    assert outcomes[Outcome.COMPLETED] > 0
    assert sum(outcomes.values()) == 40


def test_connections_leave_the_reserved_descriptors_free(run: Run[Result], target: HttpTarget) -> None:
    result = run(play(build(target.host, path="/mode/hang/x", request_timeout_s=1, max_connections=3)))
    assert result.outcomes() == {Outcome.TIMEOUT: 3, Outcome.CONNECT_NO_DESCRIPTOR: PLANNED - 3}


@pytest.mark.parametrize("status_line", [b"HTTP/1.1 150 X", b"HTTP/1.1 099 X", b"HTTP/1.1 000 X"])
def test_an_interim_response_with_a_body_is_malformed(run: Run[Result], status_line: bytes) -> None:
    async def scenario() -> Result:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(status_line + b"\r\nContent-Length: 2\r\n\r\nab")
            await reader.read()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            result = await play(build(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", rate=20, duration=0.2))
            await asyncio.sleep(0.05)
        return result

    assert run(scenario()).outcomes() == {Outcome.MALFORMED: 4}
