"""What crosses the wire comes back as it was; unknown versions and fields are refused, and named."""

from __future__ import annotations

import json
import re
from typing import Any

import msgpack
import pytest

from loadgen.protocol import keys, messages, request_ids
from loadgen.protocol.codec import MessageError, from_json, from_wire, to_json, to_wire
from loadgen.protocol.enums import DesiredState
from loadgen.protocol.messages import (
    BatchHeader,
    ClockSample,
    Counters,
    Gauges,
    GroupDocument,
    ShardOrder,
    ShardStatus,
    WorkerInfo,
    WorkloadSpec,
)
from loadgen.protocol.outcomes import Outcome, account_line
from loadgen.protocol.request_ids import IDS_VERSION, IdForm, id_form

WORKLOAD = WorkloadSpec(index=0, service="s", schedule=[[5.0, 50.0], [2.5, 0]], kwargs={"params": {"a": [1, None]}})
MESSAGES: list[Any] = [
    ShardOrder(1, 2, 0, "g", None, [[0, 10, 2]], 2**62),
    GroupDocument(3, "g", "e", "run", 2**63, 10, WORKLOAD, start_broker_ns=1_700_000_000_000_000_000),
    GroupDocument(1, "g", None, "hold", 1, 10, WORKLOAD),
    ShardStatus(1, 1, "pi", 99, "ready", ClockSample(-5, 100), 1024),
    ShardStatus(1, 1, "pi", 99, "failed", reason="a sentence"),
    WorkerInfo(
        "pi", "i", {"zone": "A"}, 4, 2, 2**32, "aarch64", "host", "boot", 1, {"python": "3.11"}, "ready", 5, 6,
        ClockSample(0, 1), 0, 0,
    ),
    ShardOrder(1, 2, 0, "g", None, [[0, 10, 2]], None),
    Counters(planned=1),
]  # fmt: skip
ORDER = to_wire(MESSAGES[0])


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message: Any) -> None:
    assert from_wire(type(message), to_wire(message)) == message
    assert from_json(type(message), to_json(message)) == message
    assert from_json(type(message), to_json(message).encode()) == message


@pytest.mark.parametrize("version", [0, 2, None, "1", 1.5])
def test_an_unknown_version_is_refused(version: Any) -> None:
    with pytest.raises(MessageError, match=rf"ShardOrder: version {version!r} is unknown"):
        from_wire(ShardOrder, {**ORDER, "v": version})


def test_a_message_without_a_version_is_refused() -> None:
    with pytest.raises(MessageError, match="version None"):
        from_wire(ShardOrder, {name: value for name, value in ORDER.items() if name != "v"})


def test_unknown_fields_are_refused_and_named() -> None:
    with pytest.raises(MessageError, match="ShardOrder: unknown fields colour, size"):
        from_wire(ShardOrder, {**ORDER, "size": 1, "colour": 2})


def test_unknown_field_of_inner_message_is_named_with_its_path() -> None:
    wire = to_wire(MESSAGES[1])
    wire["workload"]["colour"] = "red"
    with pytest.raises(MessageError, match=r"GroupDocument\.workload: unknown fields colour"):
        from_wire(GroupDocument, wire)


def test_a_missing_field_is_refused_and_named() -> None:
    wire = {name: value for name, value in ORDER.items() if name != "attempt"}
    with pytest.raises(MessageError, match="attempt"):
        from_wire(ShardOrder, wire)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shard_id", "1"),
        ("shard_id", 1.0),
        ("shard_id", True),
        ("shard_id", None),
        ("group_id", 5),
        ("experiment_id", 5),
        ("clients", {"0": 1}),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_and_named(field: str, value: Any) -> None:
    with pytest.raises(MessageError, match=rf"ShardOrder\.{field}: must be "):
        from_wire(ShardOrder, {**ORDER, field: value})


def test_unknown_enum_value_is_refused_with_the_choices() -> None:
    with pytest.raises(MessageError, match=r"GroupDocument\.state: must be one of hold, run, stop, got 'pause'"):
        from_wire(GroupDocument, {**to_wire(MESSAGES[1]), "state": "pause"})


def test_enum_value_is_a_plain_string_on_the_wire() -> None:
    assert json.loads(to_json(MESSAGES[1]))["state"] == "run"
    assert msgpack.unpackb(msgpack.packb(to_wire(MESSAGES[1])))["workload"]["model"] == "open"
    assert from_wire(GroupDocument, to_wire(MESSAGES[1])).state is DesiredState.RUN


def test_whole_number_is_accepted_for_a_fraction() -> None:
    wire = to_wire(MESSAGES[1])
    wire["stop_grace_s"] = 1
    assert from_wire(GroupDocument, wire).stop_grace_s == 1
    wire["stop_grace_s"] = True
    with pytest.raises(MessageError, match="stop_grace_s"):
        from_wire(GroupDocument, wire)


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_message_that_is_not_a_mapping_is_refused(data: Any) -> None:
    with pytest.raises(MessageError, match="ShardOrder: must be a mapping"):
        from_wire(ShardOrder, data)
    with pytest.raises(MessageError, match="must be a mapping"):
        from_json(ShardOrder, json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe"])
def test_text_that_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(MessageError, match="is not valid JSON"):
        from_json(ShardOrder, text)


def test_batch_without_the_traced_field_is_traced() -> None:
    header = to_wire(BatchHeader(1, 1, "g", "e", "w", 0, 0, 0, 0, [], Counters(), Gauges()))
    document = to_wire(MESSAGES[1])
    del header["traced"], document["tracing"]
    assert from_wire(BatchHeader, header).traced
    assert from_wire(GroupDocument, document).tracing


def test_every_outcome_has_its_line_in_the_account() -> None:
    lines = {outcome.name: account_line(outcome) for outcome in Outcome}
    assert {name for name, line in lines.items() if line == "errors"} == {
        "TIMEOUT", "RESET", "CLOSED", "MALFORMED", "ABORTED", "REDIRECT",
    }  # fmt: skip
    assert {name for name, line in lines.items() if line == "connect_failed"} == {
        "CONNECT_REFUSED", "CONNECT_TIMEOUT", "CONNECT_DNS", "CONNECT_NO_DESCRIPTOR", "CONNECT_NO_PORT",
        "CONNECT_OTHER", "NO_ROUTE", "CONNECT_TLS",
    }  # fmt: skip
    assert [lines[name] for name in ("COMPLETED", "DROPPED", "LATE", "CUT")] == ["completed", "dropped", "late", "cut"]


def test_names_on_the_broker_are_stable() -> None:
    assert keys.label_queue("zone", "A") == "galileo_zone=A"
    assert [keys.ingest_queue(shard, 2) for shard in (1, 2, 3)] == [f"galileo.ingest.{n}" for n in (1, 0, 1)]
    assert messages.batch_id("202611220101-abcd.0", 7, 2, 3) == "202611220101-abcd.0.7.2.3"
    assert request_ids.request_id("202611220101-abcd.0", 4, 5) == "202611220101-abcd-0-0000000004-0000000005"
    assert request_ids.request_id("g", 4, 5, IdForm.DOTTED) == "g.4.5"


@pytest.mark.parametrize("hop", [0, 1, 10])
@pytest.mark.parametrize("length", range(3, 30))
def test_id_passes_through_targets_whatever_the_name_of_the_experiment_is(length: int, hop: int) -> None:
    group = f"{'e' * (length - 2)}.0"
    made = request_ids.request_id(group, 2**32 - 1, 0) + request_ids.id_end(IdForm.DASHED, hop)
    # Ruby on Rails, Phoenix, Heroku; Envoy changes ids of the length of a UUID.
    assert re.fullmatch(r"[0-9A-Za-z-]{20,128}", made) and len(made) != 36


def test_ids_of_groups_with_similar_names_differ() -> None:
    groups = ["demo.0", "demo-0.0", "galileo-request-demo.0", "galileo-request-galileo-request-demo.0", "demo.00"]
    assert len({request_ids.id_begin(IdForm.DASHED, group) for group in groups}) == len(groups)


def test_stored_workloads_keep_the_form_of_their_ids() -> None:
    spec = WorkloadSpec(index=0, service="s", schedule=[])  # as from a row without the version
    assert id_form(spec.request_id_header, spec.ids_version) == IdForm.DOTTED
    assert id_form(spec.request_id_header, IDS_VERSION) == IdForm.DASHED


def test_a_trace_context_names_one_arrival_and_is_never_void() -> None:
    arrivals = [(group, client, sequence) for group in ("g", "h") for client in (0, 300) for sequence in (0, 2**32 - 1)]
    ids = [request_ids.request_id(*arrival, IdForm.TRACEPARENT) for arrival in arrivals]
    for name in ids:
        trace, span = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", name).groups()  # type: ignore[union-attr]
        assert int(trace, 16) and int(span, 16)
    assert len({name.split("-")[1] for name in ids}) == len(arrivals)
    assert request_ids.request_id("g", 300, 9, id_form("TraceParent", 2))[19:] == "0000012c00000009-0000000900000001-01"


def test_without_a_header_there_is_no_id() -> None:
    assert request_ids.request_id("g", 4, 5, id_form("", 2)) == ""


@pytest.mark.parametrize("group_id", ["", ".g", "-g", "a/b", "..", "a b", "g\n", "g\0", "ä", "g" * 65])
def test_a_group_id_that_no_file_name_may_hold_is_refused(group_id: str) -> None:
    with pytest.raises(MessageError, match="group_id"):
        messages.check_group_id(group_id)
    messages.check_group_id("202611220101-abcd.0")
