"""Recordings are read from users' lists only, never from a key of Galileo or Celery."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.test import Client

from experiments import throttling
from experiments.ingest import ingest
from experiments.plans.recordings import read_lists
from experiments.services import broker as brokers
from experiments.services import experiments, workers
from experiments.services.reconcile import LOCK_KEY, reconcile
from loadgen.protocol import keys, topics
from routing.redis import table
from routing.services import set_record
from tests.experiments.plans.bad_plans import MISSING, WORKLOAD, plan_with
from tests.support.plans import plan
from tests.support.workers import register


def made_by(module: Any) -> Iterator[str]:
    """The keys and queues that a module names: its constants, and what its functions return for some arguments."""
    for name, value in vars(module).items():
        if isinstance(value, str) and name.endswith(("_KEY", "_QUEUE", "KEY_PREFIX", "PASSWORD_PREFIX")):
            yield value
        elif inspect.isfunction(value) and name.endswith(("_key", "_queue")) and name != "is_own_key":
            numbers = {"shard_id": 7, "queues": 3}
            yield value(*(numbers.get(parameter, "x") for parameter in inspect.signature(value).parameters))


NAMED = sorted({key for module in (keys, table, throttling, ingest, brokers) for key in made_by(module)})
OTHERS = [
    LOCK_KEY, topics.node_info_key("pi"), "galileo.control\x06\x163", "galileo.ingest.12", "_kombu.binding.galileo",
    "unacked", "unacked_index", "unacked_mutex", "celery", "celery-task-meta-1", "celeryev.1", "celery\x06\x169",
    "control@pi.celery.pidbox", "0e8a.reply.celery.pidbox",
]  # fmt: skip
# Ids of clients, and names that users give to their lists.
USERS = ["202611222110-0kdr.0.3", "g-1a2b3c4d.0", "galileo.0.1", "celery.0.0", "monday", "client-1", "my:list", "unack"]


@pytest.mark.parametrize("key", [*NAMED, *OTHERS])
def test_each_key_of_our_own_is_known(key: str) -> None:
    assert keys.is_own_key(key)


@pytest.mark.parametrize("key", USERS)
def test_key_of_a_user_is_not_one_of_our_own(key: str) -> None:
    assert not keys.is_own_key(key)


@pytest.mark.django_db(transaction=True)
def test_each_key_that_a_running_galileo_writes_is_known(api: Client, broker: redis.Redis) -> None:
    register(broker, "pi-1")
    set_record("web", ["127.0.0.1:9"], [2])
    experiments.create(plan(), "tester")
    reconcile()
    workers.ping(0.05)
    api.get("/api/experiments")
    broker.lpush(keys.INSTRUCTIONS_KEY, "{}")
    written = [key.decode() for key in broker.scan_iter()]
    assert {"galileo:workers", "routing:weights:web", keys.INSTRUCTIONS_KEY} <= set(written)
    assert any(key.startswith("_kombu.") for key in written)
    assert [key for key in written if not keys.is_own_key(key)] == []


@pytest.mark.parametrize("key", ["routing:weights:web", "galileo:experiments:instructions", "unacked", "absent.pidbox"])
def test_own_key_is_refused_unread(broker: redis.Redis, key: str) -> None:
    if key != "absent.pidbox":
        broker.lpush(key, "1.5", "2.5")
    with pytest.raises(ValueError, match="is a key of Galileo or Celery, not a recording") as refused:
        read_lists(broker, [key])
    assert "2.5" not in str(refused.value)


@pytest.mark.django_db
def test_api_refuses_a_plan_that_names_an_own_key(api: Client, broker: redis.Redis) -> None:
    broker.rpush("routing:weights:web", "3", "1")
    pattern = {"process": "prerecorded", "lists": ["routing:weights:web"]}
    data = plan_with({f"{WORKLOAD}.ticks": MISSING, f"{WORKLOAD}.arrival_pattern": pattern})
    answer = api.post("/api/experiments", json.dumps(data), content_type="application/json")
    assert answer.status_code == 400
    ((field, message),) = [(error["field"], error["message"]) for error in answer.json()["errors"]]
    assert field == "configuration.workloads[0].arrival_pattern.lists"
    assert "not a recording" in message
