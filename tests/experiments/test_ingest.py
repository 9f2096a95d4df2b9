"""A trace batch arrives once or more, in any order, whole or broken."""

from __future__ import annotations

import pytest
import redis
from django.db import DatabaseError

from experiments.ingest import acknowledge, ingest
from experiments.ingest.received import read
from experiments.models import Batch, SecondStats, Shard, Trace
from experiments.models.trace import trace_key
from loadgen.batch import NO_HOST, compress
from loadgen.messages import Counters, MessageError, Outcome, ack_key, ingest_progress_key, ingest_queue
from routing.connection import redis_client
from tests.support.batches import EPOCH_NS, make_experiment, payload, raw, row, run_payloads, shards_of

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


def test_a_batch_becomes_rows_in_the_brokers_clock(shard, broker):
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


def test_the_worker_hears_of_each_batch_and_progress_moves(shard, broker):
    for batch in run_payloads(shard):
        ingest(batch)
    assert acks(broker) == [f"{shard.id}.1.{number}" for number in range(3)]
    assert 0 < broker.ttl(ack_key("pi1")) <= 3600
    assert int(broker.get(ingest_progress_key(QUEUE))) == 3


def test_the_same_batch_again_is_only_acknowledged_again(shard, broker):
    batch = payload(shard, [row(0, 0, 0)])
    ingest(batch)
    ingest(batch)
    assert (Batch.objects.count(), Trace.objects.count()) == (1, 1)
    assert SecondStats.objects.get().arrivals == 1
    assert acks(broker) == [f"{shard.id}.1.0"] * 2


def test_batches_out_of_order_give_the_same_as_in_order(shard, broker):
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


def test_a_crash_between_commit_and_acknowledgement_is_made_good_by_the_next_delivery(shard, broker, monkeypatch):
    batch = payload(shard, [row(0, 0, 0)])
    with monkeypatch.context() as patch:
        patch.setattr(acknowledge, "acknowledge", lambda *_, **__: pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            ingest(batch)
    assert (Batch.objects.count(), acks(broker)) == (1, [])
    ingest(batch)
    assert (Batch.objects.count(), Trace.objects.count(), acks(broker)) == (1, 1, [f"{shard.id}.1.0"])


def test_a_broker_that_is_away_loses_nothing(shard, no_broker, caplog):
    ingest(payload(shard, [row(0, 0, 0)]))
    assert Trace.objects.count() == 1
    assert "could not be acknowledged" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_database_error_stores_nothing_acknowledges_nothing_and_reaches_the_caller(shard, broker, monkeypatch):
    def fail(*_):
        raise DatabaseError("the disk is full")

    monkeypatch.setattr("experiments.ingest.aggregate.add", fail)
    with pytest.raises(DatabaseError):
        ingest(payload(shard, [row(0, 0, 0)]))
    assert (Batch.objects.count(), Trace.objects.count(), acks(broker)) == (0, 0, [])


def test_the_final_batch_brings_the_shards_totals(shard, broker):
    ingest(payload(shard, number=4, final=True, reason="stopped", counters=Counters(planned=20, rows=20)))
    shard.refresh_from_db()
    assert (shard.batches, shard.reason, shard.totals["planned"]) == (5, "stopped", 20)


def test_an_end_without_a_reason_keeps_the_one_that_is_known(shard, broker):
    Shard.objects.update(reason="worker pi1 was lost")
    ingest(payload(shard, final=True))
    shard.refresh_from_db()
    assert shard.reason == "worker pi1 was lost"


def test_the_final_batch_of_an_earlier_attempt_leaves_the_present_one_alone(shard, broker):
    batch = payload(shard, [row(0, 0, 0)], final=True)
    Shard.objects.update(attempt=2)
    ingest(batch)
    shard.refresh_from_db()
    assert (shard.totals, shard.batches) == (None, None)
    assert (Trace.objects.count(), acks(broker)) == (1, [f"{shard.id}.1.0"])


@pytest.mark.parametrize(
    "change",
    [
        {"shard_id": 4711},
        {"group_id": "202001010000-old1.0"},
        {"experiment_id": "202001010000-old1"},
    ],
)
def test_a_batch_of_what_was_deleted_is_acknowledged_and_counted(shard, broker, change):
    ingest(payload(shard, [row(0, 0, 0)], **change))
    assert (Batch.objects.count(), Trace.objects.count()) == (0, 0)
    assert acks(broker) == [f"{change.get('shard_id', shard.id)}.1.0"]
    assert int(broker.get(acknowledge.ORPHANS_KEY)) == 1


def test_with_tracing_paused_only_the_statistics_are_kept(shard, broker):
    ingest(payload(shard, [row(0, 0, 0)], experiment_id=None))
    assert (Trace.objects.count(), SecondStats.objects.get().arrivals, acks(broker)) == (0, 1, [f"{shard.id}.1.0"])


def test_acknowledgements_of_a_worker_that_is_gone_do_not_pile_up(shard, broker, monkeypatch):
    monkeypatch.setattr(acknowledge, "MAX_ACKS", 2)
    for number in range(4):
        ingest(payload(shard, number=number))
    assert acks(broker) == [f"{shard.id}.1.2", f"{shard.id}.1.3"]


def malformed(shard: Shard) -> dict[str, tuple[bytes, str]]:
    good = raw(shard, [row(0, 0, 0)])
    return {
        "nothing": (b"", "zstd"),
        "not zstd": (b"hello", "zstd"),
        "cut short": (compress(good[:-1]), "do not fit"),
        "no batch": (compress(b"GALX" + good[4:]), "does not start"),
        "only its magic": (compress(good[:6]), "does not start"),
        "no header": (compress(good[:20]), "header"),
        "an unknown version": (compress(good.replace(b"\xa1v\x01", b"\xa1v\x09", 1)), "version 9 is unknown"),
        "an unknown outcome": (payload(shard, [row(0, 0, 0, outcome=99, sent_ns=0)]), "row 0: outcome cannot be 99"),
        "a host of no list": (payload(shard, [row(0, 0, 0, host=7)]), "host cannot be 7"),
        "a client that no database holds": (payload(shard, [row(2**31, 0, 0)]), "client cannot be"),
        "a time before the start": (payload(shard, [row(0, 0, 0, dispatched_ns=-2)]), "dispatched_ns cannot be -2"),
        "an intended time that is missing": (payload(shard, [row(0, 0, -1)]), "intended_ns cannot be -1"),
        "a status that is none": (payload(shard, [row(0, 0, 0, status=1000)]), "status cannot be 1000"),
        "a row beyond the shard's keys": (payload(shard, [row(0, 0, 0)], first_row=2**32), "first_row"),
        "a negative number": (payload(shard, number=-1), "number"),
        "an attempt 0": (payload(shard, attempt=0), "attempt"),
        "a shard beyond all keys": (payload(shard, shard_id=2**31), "shard_id"),
        "a host that is no text": (payload(shard, hosts=[7]), "hosts"),
        "a host with a zero byte": (payload(shard, hosts=["a\0b"]), "hosts"),
        "a host twice": (payload(shard, hosts=["a", "a"]), "hosts: each"),
    }


def test_what_is_no_batch_is_logged_counted_and_dropped(shard, broker, caplog):
    cases = malformed(shard)
    for name, (data, reason) in cases.items():
        caplog.clear()
        ingest(data)
        assert reason in caplog.text, name
    assert int(broker.get(acknowledge.MALFORMED_KEY)) == len(cases)
    assert (Batch.objects.count(), Trace.objects.count(), acks(broker)) == (0, 0, [])


def test_a_payload_that_is_not_bytes_is_no_batch():
    with pytest.raises(MessageError, match="bytes are needed, not str"):
        read("text")  # type: ignore[arg-type]


def test_a_malformed_batch_without_a_broker_is_only_logged(no_broker, db, caplog):
    ingest(b"hello")
    assert "could not be counted" in caplog.text


def test_a_late_batch_revises_the_summary_of_an_ended_experiment(broker):
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    first, second, final = run_payloads(shard)
    ingest(first)
    ingest(final)
    experiment.refresh_from_db()
    assert experiment.summary["account"]["missing"] == 7
    assert experiment.summary["verdict"]["status"] == "INVALID"
    ingest(second)
    experiment.refresh_from_db()
    assert experiment.summary["account"]["missing"] == 0
    assert experiment.summary["account"]["closes"] is True
    assert experiment.summary["verdict"] == {"status": "VALID", "reasons": []}


def test_of_many_late_batches_the_last_one_revises_the_summary(broker):
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    batches = run_payloads(shard)
    broker.lpush(QUEUE, b"more")
    for batch in batches[:-1]:
        ingest(batch)
    experiment.refresh_from_db()
    assert experiment.summary is None
    broker.delete(QUEUE)
    ingest(batches[-1])
    experiment.refresh_from_db()
    assert experiment.summary["batches"] == 3


def test_a_batch_of_a_running_experiment_makes_no_summary(shard, broker):
    ingest(payload(shard, [row(0, 0, 0)]))
    shard.group.experiment.refresh_from_db()
    assert shard.group.experiment.summary is None
