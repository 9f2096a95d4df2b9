"""Connections that a server has closed: no request is given to one, and one that was is sent again, or is an error."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.certificates import make_certificates
from tests.support.raw_targets import AnsweringEarly, ClosingUnread, KeepAliveExpiring, Lingering, RawTarget

pytestmark = pytest.mark.slow

LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
IDLE_S = 0.3  # longer than the loop runs between two stalls: no connection expires while one is chosen
REQUESTS = 20


async def stand_still(target: RawTarget) -> None:
    """Stops the event loop, as a stall, a slow app or SIGSTOP does, until the server has closed its connections."""
    for _ in range(3):
        await asyncio.sleep(0.1)
        until_s = time.monotonic() + 10
        while target.open_connections and time.monotonic() < until_s:
            time.sleep(0.01)


@pytest.mark.parametrize("goodbye", [b"", LATE, b"\r\n"])
def test_a_connection_closed_during_a_stall_is_not_used(run: Run[Result], goodbye: bytes) -> None:
    with KeepAliveExpiring(IDLE_S, goodbye) as target:
        result = run(play(build(target.host, rate=100, duration=1.3, method="POST"), lambda _: stand_still(target)))
    assert result.outcomes() == {Outcome.COMPLETED: 130}
    assert {(row.status, row.resent) for row in result.rows} == {(200, 0)}
    assert sorted(seen.request_id for seen in target.seen) == sorted(result.ids())
    assert target.connections >= 3


def repeated(target: RawTarget) -> set[str]:
    """The ids that the target saw with another end, as those of requests that were sent again."""
    return {seen.request_id.removesuffix("-1") for seen in target.seen if seen.request_id.endswith("-1")}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("is_reset", [False, True])
def test_an_unanswered_idempotent_request_is_sent_again(run: Run[Result], method: str, is_reset: bool) -> None:
    with ClosingUnread(is_reset=is_reset) as target:
        result = run(play(build(target.host, rate=50, duration=REQUESTS / 50, clients=1, method=method)))
    assert result.outcomes() == {Outcome.COMPLETED: REQUESTS}
    ids = dict(zip(result.ids(), result.rows, strict=True))
    resent = {name for name, row in ids.items() if row.resent}
    assert resent == repeated(target)
    assert len(resent) >= REQUESTS // 3
    assert len(target.seen) == REQUESTS + len(resent) == len({seen.request_id for seen in target.seen})
    by_id = {seen.request_id: seen.connection for seen in target.seen}
    first_on = {seen.connection: seen.request_id for seen in reversed(target.seen)}
    assert all(first_on[by_id[f"{name}-1"]] == f"{name}-1" for name in resent)  # each on a connection of its own


@pytest.mark.parametrize(("is_reset", "outcome"), [(False, Outcome.CLOSED), (True, Outcome.RESET)])
def test_an_unanswered_post_is_not_sent_again(run: Run[Result], is_reset: bool, outcome: Outcome) -> None:
    with ClosingUnread(is_reset=is_reset) as target:
        result = run(play(build(target.host, rate=50, duration=REQUESTS / 50, clients=1, method="POST")))
    assert set(result.outcomes()) == {Outcome.COMPLETED, outcome}
    assert not any(row.resent for row in result.rows)
    assert len(target.seen) == REQUESTS


@pytest.mark.parametrize(("method", "is_resent"), [("GET", True), ("POST", False)])
def test_requests_over_tls_are_sent_again_by_the_same_rule(
    run: Run[Result], method: str, is_resent: bool, tmp_path: Path
) -> None:
    with ClosingUnread() as target:
        target.tls = make_certificates(tmp_path).server_context()
        workload = {"scheme": "https", "method": method, "kwargs": {"verify": False}}
        result = run(play(build(target.host, rate=50, duration=REQUESTS / 50, clients=1, **workload)))
    resent = sum(row.resent for row in result.rows)
    assert (resent > 0) is is_resent
    assert set(result.outcomes()) == ({Outcome.COMPLETED} if is_resent else {Outcome.COMPLETED, Outcome.CLOSED})
    assert len(target.seen) == REQUESTS + resent


def test_a_request_on_a_new_connection_is_not_sent_again(run: Run[Result]) -> None:
    with ClosingUnread(served=0) as target:
        result = run(play(build(target.host, rate=50, duration=REQUESTS / 50, clients=1)))
    assert result.outcomes() == {Outcome.CLOSED: REQUESTS}
    assert not any(row.resent for row in result.rows)
    assert len(target.seen) == REQUESTS


def test_a_request_is_not_sent_again_after_a_byte_of_response(run: Run[Result]) -> None:
    with ClosingUnread(beginning=b"H") as target:
        result = run(play(build(target.host, rate=50, duration=REQUESTS / 50, clients=1)))
    assert set(result.outcomes()) == {Outcome.COMPLETED, Outcome.CLOSED}
    assert not any(row.resent for row in result.rows)
    assert len(target.seen) == REQUESTS


def test_a_request_is_sent_again_only_once(run: Run[Result]) -> None:
    class Failing(ClosingUnread):
        """Answers one request in all."""

        def serve(self, connection: Any, number: int) -> None:
            self._served = 1 if number == 1 else 0
            super().serve(connection, number)

    with Failing() as target:
        result = run(play(build(target.host, rate=10, duration=3 / 10, clients=1)))  # each after the last one's end
    assert [(row.outcome, row.resent) for row in sorted(result.rows, key=lambda row: row.sequence)] == [
        (Outcome.COMPLETED, 0),
        (Outcome.CLOSED, 1),
        (Outcome.CLOSED, 0),
    ]
    assert [seen.request_id.partition("-0000000000-")[2].lstrip("0") for seen in target.seen] == ["", "1", "1-1", "2"]


def test_a_resent_traceparent_has_the_next_span(run: Run[Result]) -> None:
    with ClosingUnread() as target:
        result = run(play(build(target.host, rate=50, duration=0.1, clients=1, request_id_header="traceparent")))
    assert result.outcomes() == {Outcome.COMPLETED: 5}
    assert sum(row.resent for row in result.rows) == sum(
        seen.request_id.endswith("00000002-01") for seen in target.seen
    )
    assert len({seen.request_id for seen in target.seen}) == len(target.seen)


def test_a_resent_request_counts_its_first_sending(run: Run[Result]) -> None:
    with ClosingUnread() as target:
        result = run(play(build(target.host, rate=50, duration=REQUESTS / 50, clients=1)))
    assert {row.host for row in result.rows} == {target.host}
    assert all(row.intended_ns <= row.dispatched_ns <= row.sent_ns <= row.done_ns for row in result.rows)
    assert result.counters.sent == REQUESTS


UPLOAD = {"data": "x" * (16 << 20)}  # the kernel has no room for all of it


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", [AnsweringEarly, Lingering])
def test_an_answer_that_comes_during_an_upload_counts(
    run: Run[Result], kind: type[AnsweringEarly], scheme: str, tmp_path: Path
) -> None:
    with kind(TOO_LARGE) as target:
        if scheme == "https":
            target.tls = make_certificates(tmp_path).server_context()
        workload: dict[str, Any] = {"scheme": scheme, "method": "POST", "kwargs": {**UPLOAD, "verify": False}}
        result = run(play(build(target.host, rate=20, duration=1, clients=1, **workload)))
    assert result.outcomes() == {Outcome.COMPLETED: REQUESTS}
    assert {row.status for row in result.rows} == {413}
    assert len(target.seen) == REQUESTS


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_early_answer_without_close_ends_its_connection(run: Run[Result], scheme: str, tmp_path: Path) -> None:
    """Queued requests get connections of their own: on the one that was reset they would have to be sent again."""
    with AnsweringEarly(TOO_LARGE.replace(b"Connection: close\r\n", b"")) as target:
        if scheme == "https":
            target.tls = make_certificates(tmp_path).server_context()
        workload: dict[str, Any] = {"scheme": scheme, "method": "PUT", "kwargs": {**UPLOAD, "verify": False}}
        engine = build(target.host, rate=200, duration=0.1, clients=1, max_connections_per_host=1, **workload)
        result = run(play(engine))
    assert result.outcomes() == {Outcome.COMPLETED: REQUESTS}
    assert {(row.status, row.resent) for row in result.rows} == {(413, 0)}
    assert len(target.seen) == REQUESTS
    assert target.connections == REQUESTS
