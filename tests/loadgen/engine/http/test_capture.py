"""Requests and responses are kept as they went over the wire, where a workload asks for it, and up to its limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from loadgen.engine import Engine
from loadgen.engine.http.capture import Captures, CapturingConnection
from loadgen.engine.recorder import Recorder
from loadgen.protocol.enums import CaptureMode
from loadgen.protocol.messages import Counters
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id
from loadgen.protocol.trace_batch import MAX_CAPTURES_BYTES, Capture
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import GROUP, build, unpack
from tests.support.echo_server import EchoServer, Received, answer

BODY = b"b" * 200


def respond(received: Received) -> bytes:
    if received.target == "/first":
        return answer(302, b"", "Location: /second")
    return answer(503 if received.target == "/fails" else 200, received.body)


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer(respond) as running:
        yield running


def captured(run: Run[Any], host: str, path: str, **settings: Any) -> tuple[list[Any], list[Capture], Counters]:
    """Rows, captures and totals of five POST requests."""

    async def scenario() -> tuple[list[Any], list[Capture], Counters]:
        kwargs = {"data": BODY.decode()}
        engine: Engine = build(host, rate=50, duration=0.1, method="POST", path=path, kwargs=kwargs, **settings)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await engine.wait()
        captures = engine.take_captures()
        rows = unpack(*engine.take())
        assert engine.take_captures() == []
        await engine.close()
        return rows, captures, engine.counters

    result: tuple[list[Any], list[Capture], Counters] = run(scenario())
    return result


@pytest.mark.slow
def test_full_keeps_heads_and_bodies_each_with_its_row(run: Run[Any], server: EchoServer) -> None:
    rows, captures, _ = captured(run, server.host, "/", capture="full")
    assert [capture.row for capture in captures] == list(range(5))
    for capture in captures:
        row = rows[capture.row]
        head, _, body = capture.request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST / HTTP/1.1\r\n")
        assert request_id(GROUP, row.client, row.sequence).encode() in head
        assert body == BODY
        assert capture.response == answer(200, BODY)


@pytest.mark.slow
def test_headers_keeps_the_heads_alone(run: Run[Any], server: EchoServer) -> None:
    _, captures, _ = captured(run, server.host, "/", capture="headers")
    assert len(captures) == 5
    for capture in captures:
        assert capture.request.endswith(b"\r\n\r\n") and BODY not in capture.request
        assert capture.response == answer(200, BODY).removesuffix(BODY)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "kept"), [("/", 0), ("/fails", 5)])
def test_errors_keeps_those_that_failed(run: Run[Any], server: EchoServer, path: str, kept: int) -> None:
    _, captures, _ = captured(run, server.host, path, capture="errors")
    assert len(captures) == kept
    assert {capture.response for capture in captures} == ({answer(503, BODY)} if kept else set())


@pytest.mark.slow
def test_capture_none_uses_plain_connections(run: Run[Any], server: EchoServer) -> None:
    rows, captures, totals = captured(run, server.host, "/", capture="none")
    assert (len(rows), captures, totals.captures_left_out) == (5, [], 0)


@pytest.mark.slow
def test_what_is_longer_than_the_limit_is_cut_off(run: Run[Any], server: EchoServer) -> None:
    _, captures, _ = captured(run, server.host, "/", capture="full", capture_bytes=64)
    assert {(len(capture.request), len(capture.response)) for capture in captures} == {(64, 64)}
    assert answer(200, BODY).startswith(captures[0].response)


@pytest.mark.slow
def test_of_redirects_the_last_request_is_kept(run: Run[Any], server: EchoServer) -> None:
    rows, captures, _ = captured(run, server.host, "/first", capture="full")
    assert (len(rows), len(captures)) == (5, 5)
    assert {capture.request.split(b"\r\n")[0] for capture in captures} == {b"GET /second HTTP/1.1"}


def record(recorder: Recorder, outcome: int = Outcome.COMPLETED, status: int = 200) -> None:
    recorder.row(0, 0, 0, 0, 0, 0, outcome, status, "h", 0, 1)


def test_captures_beyond_a_batchs_limit_are_counted() -> None:
    recorder = Recorder()
    captures = Captures("full", 65_536, recorder)
    for _ in range(10):
        captures.add(Outcome.COMPLETED, 200, b"q" * 32_768, b"r" * 32_768)
        record(recorder)
    kept = captures.take()
    assert [capture.row for capture in kept] == [0, 1, 2]
    assert sum(len(capture.request) + len(capture.response) for capture in kept) <= MAX_CAPTURES_BYTES
    assert captures.left_out == 7
    recorder.take()
    captures.add(Outcome.COMPLETED, 200, b"q", b"r")
    record(recorder)
    assert captures.take() == [Capture(0, b"q", b"r")]


def test_headers_mode_keeps_interim_and_incomplete_heads() -> None:
    recorder = Recorder()
    captures = Captures("headers", 4096, recorder)
    interim, head = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    for response in (interim + head + b"ok", head[:-2], b""):
        captures.add(Outcome.COMPLETED, 200, b"GET / HTTP/1.1\r\n\r\n", response)
        record(recorder)
    assert [capture.response for capture in captures.take()] == [interim + head, head[:-2], b""]


@pytest.mark.parametrize(
    ("outcome", "status", "kept"),
    [(Outcome.COMPLETED, 399, 0), (Outcome.COMPLETED, 400, 1), (Outcome.TIMEOUT, 0, 1), (Outcome.MALFORMED, 0, 1)],
)
def test_an_error_is_an_outcome_or_a_status(outcome: int, status: int, kept: int) -> None:
    recorder = Recorder()
    captures = Captures("errors", 4096, recorder)
    record(recorder, outcome, status)
    captures.add(outcome, status, b"q", b"r")
    assert len(captures.take()) == kept


@pytest.mark.parametrize("capture", CaptureMode)
def test_only_captures_use_capturing_connections(run: Run[Any], server: EchoServer, capture: str) -> None:
    async def kind() -> type:
        engine = build(server.host, capture=capture)
        await engine.close()
        return engine._pool.connection_kind

    assert (run(kind()) is CapturingConnection) == (capture != "none")
