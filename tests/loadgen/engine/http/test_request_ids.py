"""What a target receives as request ids is what can be computed from the rows, in whatever form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import IDS_VERSION, TRACEPARENT, IdForm, id_form, request_id
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import GROUP, Result, build, play
from tests.support.echo_server import EchoServer, Received, answer

pytestmark = pytest.mark.slow


def respond(received: Received) -> bytes:
    return answer(302, b"", "Location: /second") if received.target == "/first" else answer(200, b"here")


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer(respond) as running:
        yield running


@pytest.mark.parametrize("header", ["X-Request-Id", "X-Correlation", TRACEPARENT, ""])
def test_each_request_carries_the_id_of_its_row(run: Run[Result], server: EchoServer, header: str) -> None:
    result = run(play(build(server.host, rate=50, duration=0.2, request_id_header=header)))
    assert result.outcomes() == {Outcome.COMPLETED: 10}
    received = sorted(one.header(header.lower()) for one in server.take())
    assert received == sorted(
        request_id(GROUP, row.client, row.sequence, id_form(header, IDS_VERSION)) for row in result.rows
    )
    assert len(set(received)) == (10 if header else 1)


def test_a_followed_redirect_is_another_span_of_the_same_trace(run: Run[Result], server: EchoServer) -> None:
    result = run(play(build(server.host, rate=50, duration=0.2, path="/first", request_id_header=TRACEPARENT)))
    assert result.outcomes() == {Outcome.COMPLETED: 10}
    first = [request_id(GROUP, row.client, row.sequence, IdForm.TRACEPARENT) for row in result.rows]
    expected = [name.replace("00000001-01", f"0000000{number}-01") for name in first for number in (1, 2)]
    assert sorted(one.header(TRACEPARENT) for one in server.take()) == sorted(expected)
