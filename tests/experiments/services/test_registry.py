"""Workers, as the registry in Redis shows them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from experiments.models import Worker, WorkerStatus
from experiments.services import workers
from experiments.services.broker import broker_now_ns
from loadgen.protocol.keys import WORKERS_KEY, label_queue, worker_key
from tests.support.workers import register

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def long_running_broker(monkeypatch):
    monkeypatch.setattr(workers, "broker_is_fresh", lambda: False)
    monkeypatch.setattr(workers, "MISSED", timedelta(microseconds=1))
    monkeypatch.setattr(workers, "AFTER_GAP", timedelta(0))


def status_of(name):
    return Worker.objects.get(name=name).status


def test_a_registered_worker_is_stored_with_its_facts(broker):
    register(broker, "pi-1", cores=3, labels={"zone": "B", "worker_name": "pi-1"})
    workers.sync_workers()
    worker = Worker.objects.get(name="pi-1")
    assert (worker.status, worker.cores, worker.labels["zone"]) == ("READY", 3, "B")


def test_worker_without_heartbeat_for_a_while_is_lost(broker):
    register(broker, "pi-1")
    workers.sync_workers()
    broker.delete(worker_key("pi-1"))
    workers.sync_workers()
    assert status_of("pi-1") == "READY"
    workers.sync_workers()
    assert status_of("pi-1") == "LOST"


def test_wait_for_a_worker_begins_when_it_is_overdue(broker):
    register(broker, "pi-1", heartbeat_broker_ns=broker_now_ns() - workers.OVERDUE_NS - 1)
    workers.sync_workers()
    assert (status_of("pi-1"), Worker.objects.get().missed_since is None) == ("READY", False)
    broker.delete(worker_key("pi-1"))
    workers.sync_workers()
    assert status_of("pi-1") == "LOST"


def test_an_overdue_heartbeat_that_comes_ends_the_wait(broker):
    register(broker, "pi-1", heartbeat_broker_ns=broker_now_ns() - workers.OVERDUE_NS - 1)
    workers.sync_workers()
    workers.sync_workers()
    register(broker, "pi-1")
    workers.sync_workers()
    assert Worker.objects.get(name="pi-1").missed_since is None


def test_expiry_between_checks_prolongs_the_wait(broker, monkeypatch):
    monkeypatch.setattr(workers, "AFTER_GAP", timedelta(seconds=60))
    register(broker, "pi-1")
    workers.sync_workers()
    broker.delete(worker_key("pi-1"))
    for _ in range(4):
        workers.sync_workers()
    assert status_of("pi-1") == "READY"


def test_what_waits_for_a_lost_worker_is_dropped(broker):
    register(broker, "pi-1")
    workers.sync_workers()
    broker.lpush(label_queue("worker_name", "pi-1"), "an order")
    broker.delete(worker_key("pi-1"))
    workers.sync_workers()
    workers.sync_workers()
    assert not broker.exists(label_queue("worker_name", "pi-1"))


def test_a_heartbeat_between_two_looks_keeps_a_worker(broker):
    register(broker, "pi-1")
    workers.sync_workers()
    for _ in range(3):
        broker.delete(worker_key("pi-1"))
        workers.sync_workers()
        register(broker, "pi-1")
        workers.sync_workers()
    assert status_of("pi-1") == "READY"


def test_nobody_is_lost_just_after_the_broker_came_back(broker, monkeypatch):
    monkeypatch.setattr(workers, "broker_is_fresh", lambda: True)
    register(broker, "pi-1")
    workers.sync_workers()
    broker.delete(worker_key("pi-1"))
    for _ in range(4):
        workers.sync_workers()
    assert status_of("pi-1") == "READY"


def test_looks_with_a_gap_between_them_begin_the_wait_anew(broker):
    register(broker, "pi-1")
    workers.sync_workers()
    broker.delete(worker_key("pi-1"))
    workers.sync_workers()
    long_ago = timezone.now() - timedelta(seconds=60)
    Worker.objects.update(missed_since=long_ago, missed_at=long_ago)
    workers.sync_workers()
    assert status_of("pi-1") == "READY"
    workers.sync_workers()
    assert status_of("pi-1") == "LOST"


def test_a_broker_that_came_back_empty_loses_nobody(broker, monkeypatch):
    monkeypatch.setattr(workers, "broker_is_fresh", lambda: True)
    register(broker, "pi-1")
    workers.sync_workers()
    broker.flushall()
    for _ in range(4):
        workers.sync_workers()
    assert status_of("pi-1") == "READY"


def test_a_registration_that_the_database_refuses_is_passed_over(broker, caplog):
    register(broker, "pi-1", slots=0)
    register(broker, "pi-2")
    workers.sync_workers()
    assert [worker.name for worker in Worker.objects.all()] == ["pi-2"]
    assert "pi-1" in caplog.text


def test_a_worker_that_said_goodbye_is_gone(broker):
    register(broker, "pi-1")
    workers.sync_workers()
    broker.srem(WORKERS_KEY, "pi-1")
    broker.delete(worker_key("pi-1"))
    workers.sync_workers()
    workers.sync_workers()
    assert status_of("pi-1") == "GONE"


def test_a_lost_worker_that_comes_back_is_ready_again(broker):
    register(broker, "pi-1")
    workers.sync_workers()
    Worker.objects.update(status=WorkerStatus.LOST)
    register(broker, "pi-1", instance="pi-1-2")
    workers.sync_workers()
    assert (status_of("pi-1"), Worker.objects.get().instance) == ("READY", "pi-1-2")


def test_a_registration_that_cannot_be_read_is_passed_over(broker, caplog):
    register(broker, "pi-1")
    broker.sadd(WORKERS_KEY, "pi-2")
    broker.set(worker_key("pi-2"), '{"v": 99}')
    workers.sync_workers()
    assert [worker.name for worker in Worker.objects.all()] == ["pi-1"]
    assert "pi-2" in caplog.text and "version 99" in caplog.text


def test_worker_name_in_another_case_is_ignored(broker, caplog):
    register(broker, "PI", cores=1)
    register(broker, "pi", cores=2)
    for _ in range(3):
        workers.sync_workers()
    assert list(Worker.objects.values_list("name", "cores", "status")) == [("PI", 1, "READY")]
    assert "worker pi is ignored" in caplog.text


def test_returning_worker_in_another_case_keeps_its_row(broker):
    register(broker, "PI")
    workers.sync_workers()
    broker.srem(WORKERS_KEY, "PI")
    broker.delete(worker_key("PI"))
    register(broker, "pi")
    workers.sync_workers()
    assert list(Worker.objects.values_list("name", "status")) == [("pi", "READY")]
