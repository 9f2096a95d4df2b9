"""The recorder stores what it receives for every experiment that was active then, once, and counts the rest."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import IntegrityError, OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from experiments.models import Event, Experiment, NodeInfo, Recording, TelemetrySample
from experiments.recording import recorder as recorder_module
from experiments.recording.backlog import MAX_TALLIES, Arrival, Backlog, Taken, Tally
from experiments.recording.listener import Listener
from experiments.recording.recorder import ListenerEnded, Recorder
from experiments.recording.store import store
from experiments.services import experiments, nodes, workers
from loadgen.broker.options import redis_options
from loadgen.protocol.topics import Mark, Sample, commands_channel, node_info_key
from tests.support import batches
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for
from tests.support.workers import register

NS = 1_000_000_000
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.django_db


def sample(number: int = 0, **fields: Any) -> Sample:
    values: dict[str, Any] = {"node": "pi", "metric": "cpu", "subsystem": "", "timestamp_ns": number, "value": 1.0}
    return Sample(**{**values, **fields})


def active(starting: datetime = NOON, end: datetime | None = None, status: str = "RUNNING") -> Experiment:
    experiment = batches.make_experiment(status=status)
    Experiment.objects.filter(pk=experiment.pk).update(starting_at=starting, started_at=starting, ended_at=end)
    experiment.refresh_from_db()
    return experiment


def stored(experiment: Experiment) -> list[int]:
    return [row.timestamp_ns for row in TelemetrySample.objects.filter(experiment=experiment)]


def taken(*contents: Sample | Mark, at: datetime = NOON) -> Taken:
    return Taken([Arrival(at, content) for content in contents])


# --- the backlog ------------------------------------------------------------------------------------------------------


def test_backlog_is_bounded_and_counts_drops_by_the_second() -> None:
    times = iter([NOON, NOON, NOON + 0.5 * SECOND, NOON + SECOND, NOON + SECOND])
    backlog = Backlog(2, lambda: next(times))
    for number in range(4):
        backlog.add(sample(number))
    backlog.note_unparsable("telem/x: no")
    found = backlog.take(10)

    assert [arrival.content for arrival in found.arrivals] == [sample(0), sample(1)]
    assert found.tallies == {NOON: Tally(dropped=1), NOON + SECOND: Tally(1, 1, "telem/x: no")}
    assert backlog.take(10) == Taken()


def test_arrivals_given_back_come_first_in_order() -> None:
    backlog = Backlog(now=lambda: NOON)
    for number in range(4):
        backlog.add(sample(number))
    backlog.note_unparsable("first")
    first = backlog.take(2)
    backlog.note_unparsable("second")
    backlog.give_back(first)
    found = backlog.take(10)

    assert [arrival.content.timestamp_ns for arrival in found.arrivals] == [0, 1, 2, 3]
    assert found.tallies[NOON].unparsable == 2


def test_number_of_tallies_is_bounded() -> None:
    seconds = itertools.count()
    backlog = Backlog(0, lambda: NOON + next(seconds) * SECOND)
    for number in range(MAX_TALLIES + 50):
        backlog.add(sample(number))
    tallies = backlog.take(1).tallies

    assert len(tallies) == MAX_TALLIES
    assert sum(tally.dropped for tally in tallies.values()) == MAX_TALLIES + 50


def test_wait_ends_when_enough_arrivals_came() -> None:
    backlog = Backlog()
    timer = threading.Timer(0.05, lambda: [backlog.add(sample(number)) for number in range(3)])
    timer.start()
    began_s = time.monotonic()
    backlog.wait(3, 60.0)
    timer.join()

    assert len(backlog) == 3
    assert time.monotonic() - began_s < 30


# --- storing ----------------------------------------------------------------------------------------------------------


def test_sample_is_stored_for_each_active_experiment() -> None:
    long, second = active(NOON, None), active(NOON + 2 * SECOND, NOON + 4 * SECOND, "FINALIZING")
    ended = active(NOON - 60 * SECOND, NOON + SECOND, "FINISHED")
    queued = batches.make_experiment(status="QUEUED")
    Experiment.objects.filter(pk=queued.pk).update(starting_at=None, started_at=None)
    arrivals = [Arrival(NOON + number * SECOND, sample(number)) for number in (-1, 0, 1, 2, 3, 4, 5)]
    store(Taken(arrivals))

    assert stored(long) == [0, 1, 2, 3, 4, 5]
    assert stored(second) == [2, 3, 4]
    assert stored(ended) == [-1, 0, 1]
    assert stored(queued) == []


def test_nothing_is_stored_without_an_active_experiment() -> None:
    active(NOON - 60 * SECOND, NOON - SECOND, "FINISHED")
    store(taken(sample(), Mark(1, "news")))
    store(Taken())
    assert not TelemetrySample.objects.exists()
    assert not Event.objects.exists()


def test_duplicates_are_stored_once_beside_new_rows() -> None:
    experiment = active()
    store(taken(sample(1), Mark(1, "up", "3")))
    store(taken(sample(1, value=2.0), sample(2), sample(1, subsystem="0"), Mark(1, "up", "3"), Mark(1, "up", "4")))

    rows = TelemetrySample.objects.filter(experiment=experiment).values_list("subsystem", "timestamp_ns", "value")
    assert list(rows) == [("", 1, 1.0), ("", 2, 1.0), ("0", 1, 1.0)]
    assert list(experiment.events.values_list("name", "value").order_by("id")) == [("up", "3"), ("up", "4")]


def test_event_is_on_the_timeline_at_its_own_time() -> None:
    experiment = active()
    store(taken(Mark(batches.START_NS + 5_000_000, "scaled-up", "web 3")))
    event = experiment.events.get()
    assert (event.name, event.value) == ("scaled-up", "web 3")
    assert event.timestamp == batches.START + timedelta(milliseconds=5)


def test_malformed_messages_count_for_active_experiments() -> None:
    first, later = active(), active(NOON + 10 * SECOND)
    store(Taken([], {NOON: Tally(2, 1, "telem/x: no\0"), NOON + SECOND: Tally(1, 0, "telem/y: no")}))
    store(Taken([], {NOON + 2 * SECOND: Tally(1, 5, "telem/z: no")}))

    recording = Recording.objects.get(experiment=first)
    assert (recording.unparsable, recording.dropped, recording.example) == (4, 6, "telem/x: no\\0")
    assert not Recording.objects.filter(experiment=later).exists()


def test_recorded_rows_are_deleted_with_their_experiment(broker: redis.Redis) -> None:
    gone, other = active(status="FINISHED", end=NOON + SECOND), active()
    store(taken(*map(sample, range(50))))
    NodeInfo.objects.create(experiment=gone, node="pi")
    Recording.objects.create(experiment=gone, began_at=NOON)
    experiments.delete(gone.id)
    assert set(TelemetrySample.objects.values_list("experiment_id", flat=True)) == {other.id}
    assert not NodeInfo.objects.exists()
    assert not Recording.objects.exists()


# --- nodes ------------------------------------------------------------------------------------------------------------


@contextmanager
def listening(broker: redis.Redis, *names: str) -> Iterator[redis.client.PubSub]:
    with broker.pubsub() as pubsub:
        pubsub.subscribe(*map(commands_channel, names))
        wait_for(lambda: len(broker.pubsub_channels("telemcmd/*")) == len(names), "the subscriptions", 10)
        yield pubsub


def test_nodes_are_described_when_an_experiment_begins(broker: redis.Redis) -> None:
    register(broker, "pi-1")
    workers.sync_workers()
    broker.hset(node_info_key("pi-1"), mapping={"arch": "arm64", "ram": b"\xff\0"})
    broker.hset(node_info_key("camera"), mapping={"arch": "amd64"})
    broker.hset(node_info_key("gone"), mapping={"arch": "amd64"})
    experiment = active()
    with listening(broker, "pi-1", "camera"):
        nodes.store_nodes()
        broker.hset(node_info_key("camera"), "arch", "changed")
        nodes.store_nodes(also_known=True)

    found = {row.node: row for row in NodeInfo.objects.filter(experiment=experiment)}
    assert set(found) == {"camera", "pi-1", "pi1"}
    assert found["pi-1"].info == {"arch": "arm64", "ram": "\ufffd"}
    assert (found["pi-1"].worker["cores"], found["pi-1"].worker["labels"]["zone"]) == (4, "A")
    assert (found["camera"].info, found["camera"].worker) == ({"arch": "amd64"}, {})
    assert (found["pi1"].info, found["pi1"].worker["hostname"]) == ({}, "pi1")  # a worker without telemetry


def test_node_that_appears_later_is_described(broker: redis.Redis) -> None:
    experiment = active()
    nodes.store_nodes()
    with listening(broker, "late"):
        nodes.store_nodes()
        assert not experiment.nodes.filter(node="late").exists()
        nodes.store_nodes(also_known=True)
    assert experiment.nodes.filter(node="late").exists()


def test_nodes_are_described_once_redis_is_back(broker: redis.Redis, monkeypatch: Any, caplog: Any) -> None:
    experiment = active()
    recorder = Recorder(broker)
    with monkeypatch.context() as patch:
        patch.setattr(nodes, "listening", _raises(RedisConnectionError("away")))
        assert [recorder.turn() for _ in range(3)] == [True] * 3
    assert not Recording.objects.exists()
    assert recorder.turn()
    assert Recording.objects.get().experiment == experiment
    assert caplog.text.count("cannot be read yet") == 1


# --- the recorder -----------------------------------------------------------------------------------------------------


def _raises(error: Exception) -> Any:
    def call(*_: Any, **__: Any) -> None:
        raise error

    return call


@contextmanager
def listened(broker: redis.Redis) -> Iterator[Backlog]:
    """A backlog that a listener fills."""
    backlog = Backlog()
    listener = Listener(broker, backlog)
    listener.start()
    try:
        wait_for(lambda: broker.pubsub_numpat() and broker.pubsub_channels("galileo/*"), "the listener", 10)
        yield backlog
    finally:
        listener.stop()
        listener.join(10)
        assert not listener.is_alive()


def test_published_samples_are_stored_malformed_ones_counted(broker: redis.Redis) -> None:
    experiment = active()
    with listened(broker) as backlog:
        broker.publish("telem/pi/rd/sda", "1700000000.5 3.5")
        broker.publish("telem/pi/cpu", "yesterday 3.5")
        broker.publish("telem/pi/cpu", "1700000000 nan")
        broker.publish("galileo/events", "1700000001 scaled-up web 3")
        broker.publish("galileo/events", "scaled-up")
        broker.publish("telem/pi/cpu", "1700000002 4")
        wait_for(lambda: len(backlog) == 3, "the samples and the event", 10)
        assert Recorder(broker, backlog).turn()

    rows = experiment.telemetry.values_list("node", "metric", "subsystem", "timestamp_ns", "value")
    assert list(rows) == [
        ("pi", "cpu", "", 1_700_000_002 * NS, 4.0),
        ("pi", "rd", "sda", 1_700_000_000_500_000_000, 3.5),
    ]
    assert list(experiment.events.values_list("name", "value")) == [("scaled-up", "web 3")]
    recording = Recording.objects.get()
    assert (recording.unparsable, recording.dropped) == (3, 0)
    assert recording.example.startswith("telem/pi/cpu: timestamp: ")


@pytest.mark.slow
def test_listener_subscribes_again_and_logs_an_outage_once(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO")
    with RedisServer(tmp_path) as server:
        client = redis.Redis.from_url(server.url, **redis_options())
        with client, listened(client) as backlog:
            server.stop()
            wait_for(lambda: "cannot be received" in caplog.text, "the outage to be logged", 10)
            time.sleep(1.5)
            server.start()
            wait_for(lambda: _reaches_somebody(client), "a listener", 10)
            wait_for(lambda: len(backlog), "the sample", 10)
    assert caplog.text.count("cannot be received") == 1
    assert caplog.text.count("are received again") == 1


def _reaches_somebody(client: redis.Redis) -> bool:
    try:
        return bool(client.publish("telem/pi/cpu", "1700000002 4"))
    except RedisConnectionError:
        return False


def test_arrivals_of_a_database_outage_are_stored_later(broker: redis.Redis, monkeypatch: Any, caplog: Any) -> None:
    caplog.set_level("INFO")
    # The connection is that of the test's own transaction.
    monkeypatch.setattr(recorder_module.connection, "close", lambda: None)
    experiment = active()
    backlog = Backlog(now=lambda: NOON)
    recorder = Recorder(broker, backlog)
    assert recorder.turn()
    with monkeypatch.context() as patch:
        patch.setattr(recorder_module, "store", _raises(OperationalError("away")))
        for number in range(3):
            backlog.add(sample(number))
            assert not recorder.turn()
    assert recorder.turn()

    assert stored(experiment) == [0, 1, 2]
    assert len(backlog) == 0
    assert [record.message.partition(":")[0] for record in caplog.records if "database" in record.message] == [
        "telemetry and events wait, the database is away",
        "the database is back, telemetry and events are stored",
    ]


@pytest.mark.slow
def test_database_outage_is_polled_with_pauses(broker: redis.Redis, monkeypatch: Any) -> None:
    monkeypatch.setattr(recorder_module.connection, "close", lambda: None)
    monkeypatch.setattr(recorder_module, "STORE_EVERY_S", 0.1)
    monkeypatch.setattr(recorder_module, "STORE_ROWS", 1)
    asked_s: list[float] = []
    stop = threading.Event()

    def away(_: Taken) -> None:
        asked_s.append(time.monotonic())
        if len(asked_s) == 5:
            stop.set()
        raise OperationalError("away")

    monkeypatch.setattr(recorder_module, "store", away)
    backlog = Backlog()
    backlog.add(sample())
    Recorder(broker, backlog).run(stop)
    assert min(later - earlier for earlier, later in itertools.pairwise(asked_s[:5])) >= 0.09
    assert len(backlog) == 1


def test_store_is_retried_after_an_experiment_was_deleted(broker: redis.Redis, monkeypatch: Any) -> None:
    experiment = active()
    backlog = Backlog(now=lambda: NOON)
    backlog.add(sample(1))
    errors: list[Exception] = [IntegrityError("its row is gone")]
    monkeypatch.setattr(recorder_module, "store", lambda batch: _raises(errors.pop())() if errors else store(batch))
    assert Recorder(broker, backlog).turn()
    assert stored(experiment) == [1]


def test_rows_refused_by_the_database_are_counted_as_dropped(
    broker: redis.Redis, monkeypatch: Any, caplog: Any
) -> None:
    experiment = active()
    backlog = Backlog(now=lambda: NOON)
    recorder = Recorder(broker, backlog)
    with monkeypatch.context() as patch:
        patch.setattr(recorder_module, "store", _raises(IntegrityError("refused")))
        backlog.add(sample(1))
        assert recorder.turn()
    backlog.add(sample(2))
    assert recorder.turn()
    assert stored(experiment) == [2]
    assert Recording.objects.get().dropped == 1
    assert "1 samples and events cannot be stored" in caplog.text


def test_one_turn_stores_more_than_one_transaction(broker: redis.Redis, monkeypatch: Any) -> None:
    monkeypatch.setattr(recorder_module, "MAX_ROWS", 7)
    experiment = active()
    backlog = Backlog(now=lambda: NOON)
    for number in range(20):
        backlog.add(sample(number))
    assert Recorder(broker, backlog).turn()
    assert stored(experiment) == list(range(20))


def test_recorder_ends_with_an_error_if_its_listener_died(broker: redis.Redis, monkeypatch: Any) -> None:
    monkeypatch.setattr(recorder_module.connection, "close", lambda: None)
    monkeypatch.setattr(recorder_module, "STORE_EVERY_S", 0.05)
    monkeypatch.setattr(Listener, "run", lambda self: None)
    with pytest.raises(ListenerEnded):
        Recorder(broker).run(threading.Event())


def test_stopped_recorder_stores_everything_first(broker: redis.Redis, monkeypatch: Any) -> None:
    monkeypatch.setattr(recorder_module, "STORE_EVERY_S", 0.05)
    monkeypatch.setattr(recorder_module.connection, "close", lambda: None)
    experiment = active(batches.START)
    stop = threading.Event()

    def publish_and_stop() -> None:
        wait_for(broker.pubsub_numpat, "the listener", 10)
        wait_for(lambda: broker.publish("telem/pi/cpu", "1700000002 4"), "a hearer", 10)
        time.sleep(0.1)
        stop.set()

    publisher = threading.Thread(target=publish_and_stop)
    publisher.start()
    Recorder(broker).run(stop)
    publisher.join()
    assert stored(experiment) == [1_700_000_002 * NS]
    assert broker.pubsub_numpat() == 0
