"""The desired state of a group: the row issues versions, Redis holds the newest."""

import pytest

from experiments.models import ClientGroup
from experiments.services import desired, workers
from loadgen.protocol.codec import from_json
from loadgen.protocol.keys import group_key
from loadgen.protocol.messages import GroupDocument
from routing.redis import redis_client
from tests.support.workers import register

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def group(broker, placed):
    register(broker, "pi-1")
    workers.sync_workers()
    placed()
    return ClientGroup.objects.get()


def document(broker, group):
    return from_json(GroupDocument, broker.hget(group_key(group.id), "document"))


def test_a_new_group_is_projected_as_held(broker, group):
    held = document(broker, group)
    assert (held.state, held.version, held.total_clients, held.seed) == ("hold", 1, 3, 7)
    assert held.workload.schedule == [[1.0, 10], [1.0, 10]]


def test_a_start_is_a_new_version_with_its_time(broker, group):
    desired.run_from([group.id], 123)
    assert (document(broker, group).state, document(broker, group).start_broker_ns) == ("run", 123)
    assert document(broker, group).version == 2


def test_an_older_version_never_overwrites_a_newer_one(broker, group):
    desired.run_from([group.id], 123)
    desired._write(desired.document_of(group))
    assert document(broker, group).version == 2


def test_a_stopped_group_cannot_be_started_any_more(broker, group):
    desired.stop_now([group.id])
    desired.run_from([group.id], 123)
    group.refresh_from_db()
    assert group.state == "stop"
    assert document(broker, group).state == "stop"


def test_a_stop_beside_another_change_wins_with_a_newer_version(broker, group, monkeypatch):
    write = desired._write

    def write_after_somebody_else(wanted):
        monkeypatch.setattr(desired, "_write", write)
        desired.run_from([group.id], 123)
        write(wanted)

    monkeypatch.setattr(desired, "_write", write_after_somebody_else)
    desired.stop_now([group.id])
    group.refresh_from_db()
    assert (group.state, document(broker, group).state) == ("stop", "stop")
    assert document(broker, group).version == group.version == 3


def test_a_document_that_redis_lost_is_projected_again(broker, group):
    broker.flushall()
    desired.project_stale([group.id])
    assert document(broker, group).version == 1


def test_without_a_broker_the_row_is_changed_and_projected_later(broker, group, settings):
    redis_client.cache_clear()
    good, settings.GALILEO_REDIS_URL = settings.GALILEO_REDIS_URL, "redis://127.0.0.1:1/0"
    desired.stop_now([group.id])
    redis_client().close()
    redis_client.cache_clear()
    settings.GALILEO_REDIS_URL = good
    assert document(broker, group).state == "hold"
    desired.project_stale([group.id])
    assert document(broker, group).state == "stop"
