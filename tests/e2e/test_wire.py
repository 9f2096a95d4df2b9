"""What went over the wire: ids as trace contexts that a target's log proves, and captures beside their traces."""

from __future__ import annotations

import time

from loadgen.protocol.request_ids import TRACEPARENT, IdForm, request_id
from tests.e2e.test_load import routes, traces_of
from tests.support.echo_server import EchoServer, Received, answer
from tests.support.plans import plan_data

CAPTURES = """
    SELECT t.client, t.sequence, c.request, c.response
    FROM experiments_capture c JOIN experiments_trace t ON t.id = c.id AND t.experiment_id = c.experiment_id
    WHERE c.experiment_id = ?
"""


def test_trace_contexts_prove_account_and_match_captures(galileo, tmp_path):
    log: list[str] = []

    def respond(received: Received) -> bytes:
        log.append(f"{time.time():.6f} {received.header(TRACEPARENT)} {received.method} {received.target}\n")
        return answer(503, b"busy")

    with EchoServer(respond) as server:
        done = galileo.run(
            plan_data(
                duration="4s",
                interval="2s",
                ticks=[20, 20],
                routing=routes(server.host),
                request_id_header=TRACEPARENT,
                capture="errors",
            )
        )
    path = tmp_path / "target.log"
    path.write_text("".join(log))
    report = galileo.report(done["id"], path)
    assert report["problems"] == []
    assert (report["target"]["sent"], report["target"]["logged"]) == (80, 80)

    rows = traces_of(galileo, done["id"])
    captures = galileo.query(CAPTURES, done["id"])
    assert len(rows) == len(captures) == 80
    group = rows[0][0]
    for client, sequence, request, response in captures:
        line = f"\r\ntraceparent: {request_id(group, client, sequence, IdForm.TRACEPARENT)}\r\n".encode()
        assert line in bytes(request)
        assert bytes(response) == answer(503, b"busy")
