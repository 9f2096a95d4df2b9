"""A trace batch arrives once or more, in any order, whole or broken."""

from __future__ import annotations

import struct

import msgpack
import pytest
import redis
import zstandard
from django.db import DatabaseError

from experiments.analysis.live import read_client_counts
from experiments.ingest.ingest import MALFORMED_KEY, ORPHANS_KEY, ingest
from experiments.ingest.received import read
from experiments.ingest.writers import SQLITE_ROWS
from experiments.models import Batch, Capture, Experiment, InteractiveGroup, SecondStats, Shard, Trace
from experiments.models.trace import trace_key
from loadgen.agent.forwarder import Forwarder
from loadgen.agent.ingest_link import RedisIngest
from loadgen.device.spool import BatchName, Spool
from loadgen.protocol.codec import MessageError
from loadgen.protocol.keys import ack_key, ingest_progress_key, ingest_queue
from loadgen.protocol.messages import Counters
from loadgen.protocol.outcomes import MalformedReason, Outcome
from loadgen.protocol.trace_batch import MESSAGE_MAGIC, NO_HOST, encode_captures, to_message, unpack_message
from loadgen.protocol.trace_batch import Capture as Captured
from routing.redis import redis_client
from tests.support.batches import EPOCH_NS, make_experiment, payload, raw, row, run_payloads, shards_of
from tests.support.worker_process import settings_for

pytestmark = pytest.mark.django_db

QUEUE = ingest_queue(1, 1)


@pytest.fixture
def shard() -> Shard:
    return shards_of(make_experiment())[0]


@pytest.fixture
def no_broker(settings):
    """Redis is away."""
    redis_client.cache_clear()
    settings.GALILEO_REDIS_OPTIONS = {"retry": None}
    yield
    redis_client.cache_clear()


def acks(broker: redis.Redis, worker: str = "pi1") -> list[str]:
    return [name.decode() for name in broker.lrange(ack_key(worker), 0, -1)]


def batch_of(shard: Shard, number: int = 0) -> str:
    return f"{shard.group_id}.{shard.id}.1.{number}"


@pytest.mark.parametrize("number", [1, SQLITE_ROWS - 1, SQLITE_ROWS, SQLITE_ROWS + 1, 2 * SQLITE_ROWS])
def test_every_row_is_stored_for_any_size_of_a_statement(shard, broker, number):
    ingest(payload(shard, [row(client, client + 1, 1_000 * client) for client in range(number)]))
    stored = Trace.objects.order_by("id").values_list("id", "client", "sequence", "intended_ns")
    assert list(stored) == [
        (trace_key(shard.id, client), client, client + 1, EPOCH_NS + 1_000 * client) for client in range(number)
    ]


def test_batch_becomes_rows_in_the_clock_of_redis(shard, broker):
    rows = [
        row(3, 7, 1_000, host=1, size=42, routing_version=5),
        row(1, 0, 2_000, Outcome.TIMEOUT),
        row(2, 0, 3_000, Outcome.DROPPED, host=NO_HOST, routing_version=0),
        row(0, 9, 4_000, Outcome.CUT),
    ]
    ingest(payload(shard, rows, first_row=10))

    traces = list(Trace.objects.all())
    assert [trace.id for trace in traces] == [trace_key(shard.id, number) for number in range(10, 14)]
    done, timed_out, dropped, cut = traces
    assert (done.experiment_id, done.shard_id) == (shard.group.experiment_id, shard.id)
    assert (done.client, done.sequence, done.host, done.size, done.status) == (3, 7, "10.0.0.2:80", 42, 200)
    assert (done.outcome, done.routing_version) == (Outcome.COMPLETED, 5)
    times = (done.intended_ns, done.dispatched_ns, done.sent_ns, done.done_ns)
    assert times == tuple(EPOCH_NS + 1_000 + after for after in (0, 50_000, 150_000, 5_150_000))
    assert (timed_out.sent_ns, timed_out.done_ns, timed_out.status) == (EPOCH_NS + 152_000, None, None)
    assert (dropped.dispatched_ns, dropped.sent_ns, dropped.host) == (EPOCH_NS + 53_000, None, "")
    assert (cut.intended_ns, cut.dispatched_ns, cut.sent_ns) == (EPOCH_NS + 4_000, None, None)


def test_rows_keep_what_a_batch_names_in_columns(shard, broker):
    rows = [row(0, 0, 1_000, Outcome.MALFORMED, reason=MalformedReason.CHUNK), row(0, 1, 2_000, resent=1, size=5 << 30)]
    ingest(payload(shard, rows))
    malformed, resent = Trace.objects.order_by("id")
    assert (malformed.reason, malformed.resent) == (MalformedReason.CHUNK, 0)
    assert (resent.reason, resent.resent, resent.size) == (0, 1, 5 << 30)
    (second,) = SecondStats.objects.all()
    assert (second.reasons, second.resent, second.size) == ({"5": 1}, 1, 5 << 30)


def test_rows_keep_the_addresses_behind_names(shard, broker):
    rows = [row(0, n, 1_000 * n, host=n % 3) for n in range(6)] + [row(1, 0, 9_000, Outcome.CUT)]
    ingest(payload(shard, rows, hosts=["web:80", "web:80", "10.0.0.1:80"], addresses=["10.1.0.1", "10.1.0.2", ""]))
    stored = list(Trace.objects.order_by("id").values_list("host", "address"))
    assert stored == [("web:80", "10.1.0.1"), ("web:80", "10.1.0.2"), ("10.0.0.1:80", "")] * 2 + [("", "")]
    (second,) = SecondStats.objects.all()
    assert second.hosts == {"web:80": {"sent": 4, "completed": 4}, "10.0.0.1:80": {"sent": 2, "completed": 2}}
    assert second.addresses == {"web:80": {"10.1.0.1": 2, "10.1.0.2": 2}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hosts": ["a:1", "a:1"]}, "hosts: must be different, or have different addresses"),
        ({"hosts": ["a:1", "a:1"], "addresses": ["1.1.1.1", "1.1.1.1"]}, "hosts: must be different"),
        ({"hosts": ["a:1"], "addresses": ["1.1.1.1", "2.2.2.2"]}, "addresses: must be as many as hosts, 1"),
        ({"hosts": ["a:1"], "addresses": ["x" * 65]}, "addresses: must be strings of at most 64 characters"),
    ],
)
def test_hosts_and_addresses_that_do_not_fit_are_refused(shard, broker, fields, message):
    ingest(payload(shard, [row(0, 0, 0)], **fields))
    assert Batch.objects.count() == 0
    assert message in acks(broker)[0]


@pytest.mark.parametrize("change", [{"reason": 6}, {"reason": 255}, {"resent": 2}, {"size": -1}])
def test_a_row_with_a_value_that_cannot_be_is_refused(shard, broker, change):
    ingest(payload(shard, [row(0, 0, 0), row(0, 1, 0, **change)]))
    assert (Batch.objects.count(), Trace.objects.count()) == (0, 0)
    (name, value) = next(iter(change.items()))
    assert f"row 1: {name} must not be {value}" in acks(broker)[0]


def test_captures_are_stored_beside_their_traces_once(shard, broker):
    rows = [row(0, 0, 0), row(1, 0, 1_000, Outcome.TIMEOUT)]
    section = encode_captures([Captured(1, b"GET /\xff", b"\0")])
    file = raw(shard, rows, first_row=10, captures_bytes=len(section)) + section
    for _ in range(2):
        ingest(to_message(file))
    (capture,) = Capture.objects.all()
    assert (capture.id, capture.experiment_id) == (trace_key(shard.id, 11), shard.group.experiment_id)
    assert (bytes(capture.request), bytes(capture.response)) == (b"GET /\xff", b"\0")
    assert Trace.objects.get(id=capture.id).outcome == Outcome.TIMEOUT


def test_batch_with_wrong_captures_is_refused(shard, broker):
    section = encode_captures([Captured(5, b"", b"")])
    ingest(to_message(raw(shard, [row(0, 0, 0)], captures_bytes=len(section)) + section))
    assert (Batch.objects.count(), Trace.objects.count(), Capture.objects.count()) == (0, 0, 0)
    assert "captures: must be bytes of different rows" in acks(broker)[0]


def test_rows_keep_their_hosts_and_outcomes(shard, broker):
    hosts = ["größer.example:80", "tab\tnew\nline\\N", "h" * 255, "x", "🚀:1"]
    outcomes = [Outcome.COMPLETED, Outcome.TIMEOUT, Outcome.DROPPED, Outcome.CUT]
    rows = []
    for number in range(200):
        host = number % len(hosts) if outcomes[number % 4] != Outcome.CUT else NO_HOST
        rows.append(row(number % 7, number // 7, number * 1000, outcomes[number % 4], host=host, size=number))
    ingest(payload(shard, rows, hosts=hosts))

    stored = list(Trace.objects.order_by("id"))
    assert [trace.size for trace in stored] == list(range(200))
    assert [trace.host for trace in stored] == ["" if row.host == NO_HOST else hosts[row.host] for row in rows]
    assert [trace.outcome for trace in stored] == [row.outcome for row in rows]
    for name in ("intended_ns", "dispatched_ns", "sent_ns", "done_ns"):
        times = [getattr(row, name) for row in rows]
        assert [getattr(trace, name) for trace in stored] == [None if t == -1 else EPOCH_NS + t for t in times], name


def test_each_batch_is_acknowledged_and_counts_as_progress(shard, broker):
    for batch in run_payloads(shard):
        ingest(batch)
    assert acks(broker) == [batch_of(shard, number) for number in range(3)]
    assert 0 < broker.ttl(ack_key("pi1")) <= 3600
    assert int(broker.get(ingest_progress_key(QUEUE))) == 3


def test_duplicate_batch_is_only_acknowledged(shard, broker):
    batch = payload(shard, [row(0, 0, 0)])
    ingest(batch)
    ingest(batch)
    assert (Batch.objects.count(), Trace.objects.count()) == (1, 1)
    assert SecondStats.objects.get().arrivals == 1
    assert acks(broker) == [batch_of(shard)] * 2


def test_order_of_batches_does_not_matter(shard, broker):
    batches = run_payloads(shard)
    for batch in reversed(batches):
        ingest(batch)
    backwards = list(SecondStats.objects.order_by("second").values())
    shard.refresh_from_db()
    assert (shard.batches, shard.totals["rows"], Trace.objects.count()) == (3, 20, 20)

    for model in (Batch, Trace, SecondStats):
        model.objects.all().delete()
    for batch in batches:
        ingest(batch)
    forwards = list(SecondStats.objects.order_by("second").values())
    for stored in (*backwards, *forwards):
        del stored["id"]
    assert forwards == backwards


def test_batch_sent_again_after_a_crash_is_acknowledged(shard, broker, monkeypatch):
    batch = payload(shard, [row(0, 0, 0)])
    with monkeypatch.context() as patch:
        patch.setattr("experiments.ingest.ingest._acknowledge", lambda *_, **__: pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            ingest(batch)
    assert (Batch.objects.count(), acks(broker)) == (1, [])
    ingest(batch)
    assert (Batch.objects.count(), Trace.objects.count(), acks(broker)) == (1, 1, [batch_of(shard)])


def test_batch_is_stored_while_redis_is_away(shard, no_broker, caplog):
    ingest(payload(shard, [row(0, 0, 0)]))
    assert Trace.objects.count() == 1
    assert "could not be acknowledged" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_database_error_propagates_without_acknowledgement(shard, broker, monkeypatch):
    def fail(*_, **__):
        raise DatabaseError("the disk is full")

    monkeypatch.setattr("experiments.ingest.aggregate.add", fail)
    with pytest.raises(DatabaseError):
        ingest(payload(shard, [row(0, 0, 0)]))
    assert (Batch.objects.count(), Trace.objects.count(), acks(broker)) == (0, 0, [])


def test_final_batch_has_the_totals_of_the_shard(shard, broker):
    ingest(payload(shard, number=4, end="stopped", reason="stopped", counters=Counters(planned=20, rows=20)))
    shard.refresh_from_db()
    assert (shard.batches, shard.reason, shard.totals["planned"]) == (5, "stopped", 20)


@pytest.mark.parametrize(("end", "process_ended"), [("finished", False), ("failed", False), ("lost", True)])
def test_final_batch_tells_how_the_shard_ended(shard, broker, end, process_ended):
    ingest(payload(shard, end=end, counters=Counters(planned=12, skipped=8)))
    shard.refresh_from_db()
    assert (shard.final_state, shard.process_ended, shard.totals["skipped"]) == (end, process_ended, 8)


def test_batch_that_is_not_final_does_not_end_the_shard(shard, broker):
    ingest(payload(shard, [row(0, 0, 0)]))
    shard.refresh_from_db()
    assert (shard.final_state, shard.process_ended, shard.totals) == ("", False, None)


def test_end_without_a_reason_keeps_the_stored_reason(shard, broker):
    Shard.objects.update(reason="worker pi1 was lost")
    ingest(payload(shard, end="finished"))
    shard.refresh_from_db()
    assert shard.reason == "worker pi1 was lost"


def test_final_batch_of_an_earlier_attempt_changes_nothing(shard, broker):
    batch = payload(shard, [row(0, 0, 0)], end="finished")
    Shard.objects.update(attempt=2)
    ingest(batch)
    shard.refresh_from_db()
    assert (shard.totals, shard.batches, shard.final_state, shard.process_ended) == (None, None, "", False)
    assert (Trace.objects.count(), acks(broker)) == (1, [batch_of(shard)])


@pytest.mark.parametrize(
    "change", [{"shard_id": 4711}, {"group_id": "202001010000-old1.0"}, {"experiment_id": "202001010000-old1"}]
)
def test_batch_of_a_deleted_experiment_counts_as_orphan(shard, broker, change):
    ingest(payload(shard, [row(0, 0, 0)], **change))
    assert (Batch.objects.count(), Trace.objects.count()) == (0, 0)
    changed = {"group_id": shard.group_id, "shard_id": shard.id, **change}
    assert acks(broker) == [f"{changed['group_id']}.{changed['shard_id']}.1.0"]
    assert int(broker.get(ORPHANS_KEY)) == 1


def test_untraced_rows_are_only_in_the_statistics(shard, broker):
    rows = [row(0, 0, 0), row(1, 0, 1_000, Outcome.TIMEOUT, host=1, routing_version=2), row(2, 0, 2_000, Outcome.CUT)]
    section = encode_captures([Captured(0, b"GET /", b"")])
    file = raw(shard, rows, traced=False, captures_bytes=len(section)) + section
    for _ in range(2):
        ingest(to_message(file))
    assert (Trace.objects.count(), Capture.objects.count(), acks(broker)) == (0, 0, [batch_of(shard)] * 2)
    assert Batch.objects.values_list("rows", "traced").get() == (3, False)
    second = SecondStats.objects.get()
    assert (second.arrivals, second.sent, second.completed, second.traced) == (3, 2, 1, False)
    assert (second.outcomes, second.statuses) == ({"0": 1, "1": 1, "25": 1}, {"200": 1})
    assert second.routed == {"1": {"10.0.0.1:80": 1}, "2": {"10.0.0.2:80": 1}}


def test_traced_and_untraced_arrivals_of_a_second_are_apart(shard, broker):
    for number, traced in enumerate([True, False, False, True]):
        ingest(payload(shard, [row(number, 0, number)], number=number, first_row=number, traced=traced))
    assert list(SecondStats.objects.order_by("traced").values_list("traced", "arrivals", "routed")) == [
        (False, 2, {"1": {"10.0.0.1:80": 2}}),
        (True, 2, {}),
    ]
    assert [trace.client for trace in Trace.objects.order_by("id")] == [0, 3]


def test_clients_of_a_group_are_counted_without_tracing(shard, broker):
    experiment = shard.group.experiment
    Experiment.objects.update(interactive=True)
    InteractiveGroup.objects.create(group=shard.group, seed=1, command_fields={"number": 1, "start_broker_ns": 0})
    ingest(payload(shard, [row(0, 0, 0), row(3, 0, 1)], traced=False, experiment_id=experiment.id))
    shard.refresh_from_db()
    assert read_client_counts(shard.client_counts) == {0: (1, 0), 3: (1, 0)}
    assert (Trace.objects.count(), SecondStats.objects.get().arrivals) == (0, 2)


def test_number_of_unread_answers_is_bounded(shard, broker, monkeypatch):
    monkeypatch.setattr("experiments.ingest.ingest.MAX_ANSWERS", 2)
    for number in range(4):
        ingest(payload(shard, number=number))
    assert acks(broker) == [batch_of(shard, 2), batch_of(shard, 3)]


def without_origin(shard: Shard) -> dict[str, tuple[bytes, str]]:
    """What is no batch and does not tell whose, with a word of the reason."""
    good = unpack_message(payload(shard, [row(0, 0, 0)]))
    return {
        "nothing": (b"", "zstd"),
        "not zstd": (b"hello", "zstd"),
        "no batch": (zstandard.compress(b"GALX" + good[4:]), "does not begin"),
        "only its magic": (zstandard.compress(good[:6]), "does not begin"),
        "no header": (zstandard.compress(good[:20]), "header"),
        "a header that is no mapping": (zstandard.compress(good[:4] + b"\1\0\0\0\x07" + good[8:]), "must be a mapping"),
        "a negative number": (payload(shard, number=-1), "number"),
        "an attempt 0": (payload(shard, attempt=0), "attempt"),
        "a shard beyond all keys": (payload(shard, shard_id=2**31), "shard_id"),
        "a group that is no file name": (payload(shard, group_id="../../x"), "group_id"),
        "a group of nothing": (payload(shard, group_id=""), "group_id"),
        "a group beyond all names": (payload(shard, group_id="g" * 65), "group_id"),
        "a group of two lines": (payload(shard, group_id="g\n1"), "group_id"),
        "a worker of no name": (payload(shard, worker="pi 1"), "worker"),
    }


def malformed(shard: Shard) -> dict[str, tuple[bytes, str]]:
    """What ingest will never take, of a batch whose origin can be read, with a word of the reason."""
    good = unpack_message(payload(shard, [row(0, 0, 0)]))
    return {
        "cut short": (zstandard.compress(good[:-1]), "do not fit"),
        "an unknown version": (zstandard.compress(good.replace(b"\xa1v\x01", b"\xa1v\x09", 1)), "version 9 is unknown"),
        "an unknown outcome": (payload(shard, [row(0, 0, 0, outcome=99, sent_ns=0)]), "row 0: outcome must not be 99"),
        "a host of no list": (payload(shard, [row(0, 0, 0, host=7)]), "host must not be 7"),
        "a client that no database holds": (payload(shard, [row(2**31, 0, 0)]), "client must not be"),
        "a time before the one ahead of it": (
            payload(shard, [row(0, 0, 9, dispatched_ns=7)]),
            "lateness_ns must not be -2",
        ),
        "a time that no clock shows": (payload(shard, [row(0, 0, 2**60)]), "intended_ns must not be"),
        "a response without a request": (
            payload(shard, [row(0, 0, 0, sent_ns=-1)]),
            "service_time_ns without connection_wait_ns",
        ),
        "an intended time that is missing": (payload(shard, [row(0, 0, -1)]), "intended_ns must not be -1"),
        "a status that is none": (payload(shard, [row(0, 0, 0, status=1000)]), "status must not be 1000"),
        "a row beyond the shard's keys": (payload(shard, [row(0, 0, 0)], first_row=2**32), "first_row"),
        "an end that is none": (payload(shard, end="over"), "end: must be one of finished, stopped, failed, lost"),
        "a host that is no text": (payload(shard, hosts=[7]), "hosts"),
        "a host with a zero byte": (payload(shard, hosts=["a\0b"]), "hosts"),
        "a host twice": (payload(shard, hosts=["a", "a"]), "hosts: must be different"),
        "a host of endless length": (payload(shard, hosts=["h" * 10_000]), "hosts: must be strings of at most"),
    }


def test_malformed_batch_without_origin_is_logged_and_counted(shard, broker, caplog):
    cases = without_origin(shard)
    for name, (data, reason) in cases.items():
        caplog.clear()
        ingest(data)
        assert reason in caplog.text, name
    assert int(broker.get(MALFORMED_KEY)) == len(cases)
    assert (Batch.objects.count(), broker.keys("galileo:acks:*")) == (0, [])


def test_malformed_batch_is_logged_counted_and_refused(shard, broker, caplog):
    cases = malformed(shard)
    for name, (data, reason) in cases.items():
        caplog.clear()
        ingest(data)
        assert reason in caplog.text, name
        answer = broker.rpop(ack_key("pi1")).decode()
        batch, _, why = answer.partition(" ")
        assert batch == batch_of(shard), name
        assert reason in why, name
        assert len(answer) < 400, name
    assert int(broker.get(MALFORMED_KEY)) == len(cases)
    assert int(broker.get(ingest_progress_key(QUEUE))) == len(cases)
    assert (Batch.objects.count(), Trace.objects.count(), acks(broker)) == (0, 0, [])


def test_header_of_a_later_version_has_an_origin(shard, broker):
    packed = msgpack.packb({"v": 2, "worker": "pi1", "group_id": shard.group_id, "shard_id": shard.id, "attempt": 1,
                            "number": 5, "colour": {"red": [1]}})  # fmt: skip
    ingest(zstandard.compress(MESSAGE_MAGIC + struct.pack("<I", len(packed)) + packed + b"columns"))
    (answer,) = acks(broker)
    assert answer.startswith(f"{batch_of(shard, 5)} BatchHeader: version 2 is unknown")


@pytest.mark.parametrize(
    "change",
    [{"worker": None}, {"group_id": 7}, {"shard_id": "1"}, {"attempt": True}, {"number": 1.0}, {"number": 2**40}],
)
def test_origin_of_another_type_is_not_answered(shard, broker, change):
    fields = {"v": 2, "worker": "pi1", "group_id": "g", "shard_id": 1, "attempt": 1, "number": 5, **change}
    packed = msgpack.packb(fields)
    ingest(zstandard.compress(MESSAGE_MAGIC + struct.pack("<I", len(packed)) + packed))
    assert broker.keys("galileo:acks:*") == []
    assert int(broker.get(MALFORMED_KEY)) == 1


def test_refusal_goes_only_to_the_worker_in_the_header(shard, broker):
    ingest(payload(shard, worker="pi2", hosts=["a", "a"]))
    assert [answer.split(" ")[0] for answer in acks(broker, "pi2")] == [batch_of(shard)]
    assert acks(broker) == []


def test_payload_must_be_bytes():
    with pytest.raises(MessageError, match="must be bytes, got str"):
        read("text")  # type: ignore[arg-type]


def test_agent_sets_refused_batches_aside_and_deletes_others(shard, broker, redis_server, tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    link = RedisIngest(settings_for(redis_server, "pi1", tmp_path), redis_server.client())
    forwarder = Forwarder(spool, link, 1)
    for number, hosts in enumerate((["a"], ["a", "a"], ["a"])):
        spool.write(BatchName(shard.group_id, shard.id, 1, number), raw(shard, number=number, hosts=hosts))

    forwarder.step()
    for number, hosts in enumerate((["a"], ["a", "a"], ["a"])):
        ingest(payload(shard, number=number, hosts=hosts))
    forwarder.step()

    assert [path.name for path in tmp_path.iterdir()] == [f"{batch_of(shard, 1)}.refused"]
    assert forwarder.unacknowledged == 0
    link.close()


def test_malformed_batch_is_only_logged_while_redis_is_away(no_broker, db, caplog):
    ingest(b"hello")
    assert "could not be counted" in caplog.text
