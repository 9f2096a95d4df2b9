"""Trace logs: bounded files of lines, and messages in the original's format."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from loadgen.agent.forwarder import BrokerAwayError
from loadgen.agent.trace_log import CHANNEL, FILES, CsvTraceLog, RedisTraceLog, lines_of, open_trace_log
from loadgen.protocol.messages import BatchHeader, Counters, Gauges
from loadgen.protocol.outcomes import MalformedReason, Outcome
from loadgen.protocol.request_ids import IdForm, request_id
from loadgen.protocol.trace_batch import COLUMNS
from routing.errors import InvalidInput
from tests.support.records import Row, pack
from tests.support.redis_server import RedisServer
from tests.support.worker_process import settings_for

pytestmark = pytest.mark.costly

EPOCH_NS = 1_700_000_000_000_000_000
MS = 1_000_000
HEADER = BatchHeader(
    7, 1, "202611220101-ab1c.0", "202611220101-ab1c", "pi1", 0, 0, 3, EPOCH_NS, ["10.0.0.1:80"], Counters(), Gauges(),
    service="web", request_id_header="X-Request-Id", ids_version=2, columns=COLUMNS,
)  # fmt: skip
COMPLETED = Row(3, 14, 1, 1 + MS, 1 + 2 * MS, 1 + 5 * MS, Outcome.COMPLETED, 200, 0, 100, 6)
TIMED_OUT = Row(3, 15, 2, 2 + MS, 2 + 2 * MS, outcome=Outcome.TIMEOUT, host=0, routing_version=6)
DROPPED = Row(4, 0, 3, 3 + MS, outcome=Outcome.DROPPED)
RECORDS = b"".join(map(pack, (COMPLETED, TIMED_OUT, DROPPED)))


def open_log(folder: Path, limit_bytes: int = 16 << 20) -> CsvTraceLog:
    log = CsvTraceLog(folder, "pi1", limit_bytes)
    log.open()
    return log


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_is_a_line_below_the_names(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.write(HEADER, RECORDS)
    completed, timed_out, dropped = read(tmp_path / "traces-pi1.csv")
    assert completed == {
        "request_id": "202611220101-ab1c-0-0000000003-0000000014",
        "client": "202611220101-ab1c.0.3",
        "service": "web",
        "created": "1700000000.000000001",
        "sent": "1700000000.002000001",
        "done": "1700000000.005000001",
        "status": "200",
        "server": "10.0.0.1:80",
        "exp_id": "202611220101-ab1c",
        "dispatched": "1700000000.001000001",
        "outcome": "completed",
        "size": "100",
        "routing_version": "6",
        "reason": "",
        "resent": "0",
        "address": "",
    }
    assert (timed_out["sent"], timed_out["done"], timed_out["status"]) == ("1700000000.002000002", "", "")
    assert (dropped["outcome"], dropped["sent"], dropped["server"]) == ("dropped", "", "")


def test_a_line_has_the_address_behind_the_name(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    hosts = replace(HEADER, hosts=["web:80", "web:80"], addresses=["10.0.0.1", "10.0.0.2"])
    log.write(hosts, b"".join(map(pack, (COMPLETED, replace(COMPLETED, host=1), DROPPED))))
    assert [(line["server"], line["address"]) for line in read(tmp_path / "traces-pi1.csv")] == [
        ("web:80", "10.0.0.1"), ("web:80", "10.0.0.2"), ("", ""),
    ]  # fmt: skip


def test_a_line_says_why_a_response_is_malformed(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    malformed = replace(TIMED_OUT, outcome=Outcome.MALFORMED, reason=MalformedReason.CONTENT_LENGTHS, resent=1)
    log.write(HEADER, pack(malformed))
    (line,) = read(tmp_path / "traces-pi1.csv")
    assert (line["outcome"], line["reason"], line["resent"]) == ("malformed", "content_lengths", "1")


def test_an_agent_that_is_started_again_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for _ in range(2):
        open_log(tmp_path).write(HEADER, RECORDS)
    assert [row["client"] for row in read(tmp_path / "traces-pi1.csv")] == [
        "202611220101-ab1c.0." + n for n in "334334"
    ]


def test_ids_are_those_on_the_wire(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.write(replace(HEADER, request_id_header="traceparent"), RECORDS)
    log.write(replace(HEADER, request_id_header=""), RECORDS)
    rows = read(tmp_path / "traces-pi1.csv")
    assert rows[0]["request_id"] == request_id(HEADER.group_id, 3, 14, IdForm.TRACEPARENT)
    assert rows[3]["request_id"] == request_id(HEADER.group_id, 3, 14)
    older = replace(HEADER, ids_version=1)  # of an agent that knew no other ids
    assert next(lines_of(older, RECORDS)).request_id == f"{HEADER.group_id}.3.14"


def test_the_files_are_rotated_and_bounded(tmp_path: Path) -> None:
    limit_bytes = FILES * 4096
    log = open_log(tmp_path, limit_bytes)
    for number in range(200):
        log.write(HEADER, pack(replace(COMPLETED, sequence=number)) * 2)
    files = [log.path(age) for age in range(FILES)]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert sum(path.stat().st_size for path in files) <= limit_bytes
    kept = [int(row["request_id"].rpartition("-")[2]) for path in reversed(files) for row in read(path)]
    first = kept[0]
    assert first > 0
    assert kept == [number for number in range(first, 200) for _ in range(2)]


def test_a_batch_without_rows_leaves_no_trace(tmp_path: Path) -> None:
    open_log(tmp_path).write(HEADER, b"")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_once_and_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path / "traces")
    log.path().mkdir()
    with caplog.at_level(logging.ERROR):
        log.write(HEADER, RECORDS)
        log.write(HEADER, RECORDS)
    assert [record.getMessage() for record in caplog.records] == [
        f"traces are not written to {log.path()}: Is a directory"
    ]
    log.path().rmdir()
    log.write(HEADER, RECORDS)
    assert len(read(log.path())) == 3


def test_a_folder_that_is_gone_is_made_again(tmp_path: Path) -> None:
    log = open_log(tmp_path / "traces")
    (tmp_path / "traces").rmdir()
    log.write(HEADER, RECORDS)
    assert len(read(log.path())) == 3


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"galileo_trace_dir: .*/file/traces cannot be used: Not a directory"):
        open_log(tmp_path / "file" / "traces")


def test_sent_requests_are_published_in_the_originals_format(redis_server: RedisServer, store: redis.Redis) -> None:
    subscriber: Any = store.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(CHANNEL)
    subscriber.get_message(timeout=5)
    log = open_trace_log(replace(settings_for(redis_server, "pi1", Path()), trace_logging="redis"), store)
    assert log is not None
    log.write(replace(HEADER, experiment_id=None, service="a,b"), RECORDS)
    lines = [subscriber.get_message(timeout=5)["data"].decode() for _ in range(2)]
    assert subscriber.get_message(timeout=0.05) is None
    subscriber.close()
    group = HEADER.group_id
    first, second = request_id(group, 3, 14), request_id(group, 3, 15)
    assert lines == [
        f"{first},{group}.3,a;b,1700000000.0000000,1700000000.0020000,1700000000.0050000,200,10.0.0.1:80,None,None",
        f"{second},{group}.3,a;b,1700000000.0000000,1700000000.0020000,-1,-1,10.0.0.1:80,None,None",
    ]


def test_a_broker_that_is_away_is_told_apart() -> None:
    client = redis.Redis(port=1)
    with pytest.raises(BrokerAwayError):
        RedisTraceLog(client).write(HEADER, RECORDS)
    client.close()


def test_by_default_there_is_no_log_besides_the_database(redis_server: RedisServer, store: redis.Redis) -> None:
    assert open_trace_log(settings_for(redis_server, "pi1", Path()), store) is None
