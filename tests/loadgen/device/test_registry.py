"""A worker's name: its holder, and when another worker may take it."""

import os
import platform
from dataclasses import replace

import pytest
import redis

from loadgen.device.process import boot_id
from loadgen.device.registry import NameTakenError, Registry, free_name, read_worker_info
from loadgen.protocol.codec import to_json
from loadgen.protocol.keys import WORKER_TTL_S, WORKERS_KEY, worker_key
from loadgen.protocol.messages import WorkerInfo
from tests.support.workers import worker_info

NO_PID = 1 << 30


def put(store: redis.Redis, info: WorkerInfo) -> None:
    store.set(worker_key(info.name), to_json(info), ex=WORKER_TTL_S)


def here(**fields: object) -> WorkerInfo:
    """A worker on this boot of this machine."""
    return worker_info("w", hostname=platform.node(), boot_id=boot_id(), **fields)


def test_a_name_without_a_holder_is_free(store: redis.Redis) -> None:
    assert free_name(store, "w") == ""


def test_a_live_process_of_this_machine_keeps_its_name(store: redis.Redis) -> None:
    put(store, here(pid=os.getpid()))

    with pytest.raises(NameTakenError, match=f"'w' already .process {os.getpid()} on {platform.node()}."):
        free_name(store, "w", lambda _: pytest.fail("it is known at once"))


def test_a_dead_process_of_this_boot_is_taken_over_at_once(store: redis.Redis) -> None:
    put(store, here(pid=NO_PID, instance="dead"))

    assert free_name(store, "w", lambda _: pytest.fail("it is known at once")) == "dead"


def test_a_remote_worker_that_renews_keeps_its_name(store: redis.Redis) -> None:
    info = worker_info("w", hostname="elsewhere")
    put(store, info)
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            put(store, replace(info, heartbeat_broker_ns=info.heartbeat_broker_ns + 1))

    with pytest.raises(NameTakenError, match="on elsewhere"):
        free_name(store, "w", sleep)
    assert len(naps) == 3


def test_a_remote_worker_whose_registration_expires_is_dead(store: redis.Redis) -> None:
    put(store, worker_info("w", hostname="elsewhere"))

    assert free_name(store, "w", lambda _: store.delete(worker_key("w"))) == ""


def test_a_registration_is_renewed_by_its_own_instance_only(store: redis.Redis) -> None:
    one, other = Registry(store, "w", "1"), Registry(store, "w", "2")
    one.hold(worker_info("w", instance="1"))
    one.hold(worker_info("w", instance="1"))

    with pytest.raises(NameTakenError):
        other.hold(worker_info("w", instance="2"))
    other.leave()

    assert read_worker_info(store, "w").instance == "1"
    assert store.smembers(WORKERS_KEY) == {b"w"}
    assert 0 < store.ttl(worker_key("w")) <= WORKER_TTL_S
    one.leave()
    assert read_worker_info(store, "w") is None


def test_a_predecessor_cannot_take_its_name_back(store: redis.Redis) -> None:
    dead, successor = Registry(store, "w", "1"), Registry(store, "w", "2", predecessor="1")
    dead.hold(worker_info("w", instance="1"))

    successor.hold(worker_info("w", instance="2"))

    with pytest.raises(NameTakenError):
        dead.hold(worker_info("w", instance="1"))
