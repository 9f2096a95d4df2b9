"""A real shard on a real broker whose wall clock steps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from loadgen.protocol.enums import CommandKind, DesiredState
from loadgen.protocol.keys import lease_key
from loadgen.protocol.messages import GroupDocument
from loadgen.protocol.settings import WorkerSettings
from loadgen.shard.start_clock import SAMPLE_EVERY_S
from tests.loadgen.shard.test_runner import interactive, phases_of, rows_of, run_shards, running, until
from tests.support.http_target import HttpTarget
from tests.support.redis_server import RedisServer
from tests.support.shards import broker_ns, document_of, order_of, put_document, put_route, state_of
from tests.support.stepped_clock import SteppedClock
from tests.support.worker_process import settings_for

pytestmark = [pytest.mark.slow, pytest.mark.long]

STEPS = pytest.mark.parametrize("step_s", [90, -90])


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> SteppedClock:
    return SteppedClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: SteppedClock) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), clock=clock) as running_server:
        yield running_server


@pytest.fixture
def store(server: RedisServer, target: HttpTarget) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        put_route(client, {target.host: 1.0})
        yield client


@pytest.fixture
def settings(server: RedisServer, store: redis.Redis, tmp_path: Path) -> WorkerSettings:
    return settings_for(server, "w", tmp_path / "spool")


async def step(clock: SteppedClock, store: redis.Redis, seconds: int) -> None:
    """Returns when the broker has noticed."""
    before_ns = broker_ns(store)
    clock.step(seconds)
    await until(lambda: abs(broker_ns(store) - before_ns) > 60e9)


@STEPS
def test_step_before_the_start_delays_nothing(clock, store, settings, target, step_s: int) -> None:
    document = document_of(f"s-hold{step_s}", rate_rps=50.0, duration_s=1.0)
    document = replace(document, workload=replace(document.workload, max_lateness_s=5.0))
    put_document(store, document)
    started: list[GroupDocument] = []

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        await step(clock, store, step_s)
        started.append(running(store, document, 1.5))
        put_document(store, started[0])

    run_shards(settings, order_of(1, f"s-hold{step_s}"), script=script)
    rows = rows_of(settings)
    assert rows.final.counters.completed == len(target.ids(f"s-hold{step_s}")) == 50
    assert rows.final.epoch_broker_ns == started[0].start_broker_ns


@STEPS
def test_step_during_a_load_moves_no_request(clock, store, settings, target, step_s: int) -> None:
    document = document_of(f"s-run{step_s}", rate_rps=50.0, duration_s=4.0)
    document = running(store, replace(document, on_worker_loss="replace"), 0.3)
    put_document(store, document)

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        await step(clock, store, step_s)
        # Expired or not, the lease is the shard's.
        await until(lambda: 0 < store.pttl(lease_key(1)) <= 6000)

    run_shards(settings, order_of(1, f"s-run{step_s}"), script=script)
    rows = rows_of(settings)
    assert (rows.final.end, rows.final.counters.completed) == ("finished", 200)
    assert {header.epoch_broker_ns for header in rows.headers} == {document.start_broker_ns}


@STEPS
def test_attempt_that_takes_over_after_a_step_skips_what_has_passed(
    clock, store, settings, target, step_s: int
) -> None:
    document = document_of(f"s-next{step_s}", rate_rps=50.0, duration_s=9.0)
    document = running(store, replace(document, on_worker_loss="replace"), -1.0)
    put_document(store, document)

    asyncio.run(step(clock, store, step_s))
    order = order_of(1, f"s-next{step_s}", attempt=2, takes_over=True, clock_step_ns=step_s * 1_000_000_000)
    run_shards(settings, order)
    rows = rows_of(settings)
    counters = rows.final.counters
    assert counters.skipped + counters.rows == 450
    assert counters.skipped > 40  # those of the second before the order, and of the start
    assert counters.completed > 0


@STEPS
def test_rows_of_an_interactive_group_follow_the_brokers_clock(clock, store, settings, target, step_s: int) -> None:
    group_id = f"s-live{step_s}"
    put_document(store, interactive(store, group_id))
    stepped_ns: list[int] = []

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        await step(clock, store, step_s)
        await asyncio.sleep(SAMPLE_EVERY_S + 1)
        stepped_ns.append(broker_ns(store))
        put_document(store, interactive(store, group_id, 2, kind=CommandKind.BACK_TO_BACK, requests=3))
        await until(lambda: phases_of(store) == (2, 2))
        put_document(store, replace(interactive(store, group_id, 3), state=DesiredState.STOP))

    run_shards(settings, order_of(1, group_id), script=script)
    rows = rows_of(settings)
    assert len(rows) == 4 * 3
    (epoch_ns,) = {header.epoch_broker_ns for header in rows.headers if header.rows}
    for intended_ns in rows.column("intended_ns"):
        assert abs(epoch_ns + intended_ns - stepped_ns[0]) < 2_000_000_000


EXPERIMENT = "202601010000-abcd"


@STEPS
def test_rows_of_an_interactive_experiment_keep_its_clock(clock, store, settings, target, step_s: int) -> None:
    group_id = f"s-rec{step_s}"
    put_document(store, interactive(store, group_id))

    async def command(version: int, experiment_id: str | None) -> None:
        document = interactive(store, group_id, version, kind=CommandKind.BACK_TO_BACK, requests=version)
        put_document(store, replace(document, experiment_id=experiment_id))
        await until(lambda: phases_of(store) == (version, version))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        await command(2, EXPERIMENT)
        await asyncio.sleep(0.5)  # the clocks are compared when an experiment begins
        await step(clock, store, step_s)
        await asyncio.sleep(SAMPLE_EVERY_S + 1)
        await command(3, EXPERIMENT)
        put_document(store, interactive(store, group_id, 4))
        await asyncio.sleep(0.5)
        await command(5, None)
        put_document(store, replace(interactive(store, group_id, 6), state=DesiredState.STOP))

    run_shards(settings, order_of(1, group_id), script=script)
    headers = [header for header in rows_of(settings).headers if header.rows]
    epochs_ns = {experiment: [] for experiment in (EXPERIMENT, None)}
    for header in headers:
        epochs_ns[header.experiment_id].append(header.epoch_broker_ns)
    (recorded_ns,) = set(epochs_ns[EXPERIMENT])
    (later_ns,) = set(epochs_ns[None])
    assert sum(header.rows for header in headers if header.experiment_id) == 4 * (2 + 3)
    assert abs(later_ns - recorded_ns - step_s * 10**9) < 2 * 10**9


@STEPS
def test_clients_added_to_a_stepped_experiment_keep_its_clock(clock, store, settings, target, step_s: int) -> None:
    group_id = f"s-join{step_s}"
    document = replace(interactive(store, group_id), experiment_id=EXPERIMENT)
    spawned_ns = document.start_broker_ns

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        await asyncio.sleep(SAMPLE_EVERY_S + 1)
        command = interactive(store, group_id, 2, kind=CommandKind.BACK_TO_BACK, requests=3)
        put_document(store, replace(command, experiment_id=EXPERIMENT, start_broker_ns=spawned_ns))
        await until(lambda: phases_of(store) == (2, 2))
        put_document(store, replace(interactive(store, group_id, 3), state=DesiredState.STOP))

    asyncio.run(step(clock, store, step_s))
    put_document(store, document)
    order = order_of(1, group_id, experiment_id=EXPERIMENT, clock_step_ns=step_s * 10**9)
    run_shards(settings, order, script=script)
    rows = rows_of(settings)
    (epoch_ns,) = {header.epoch_broker_ns for header in rows.headers if header.rows}
    assert len(rows) == 4 * 3
    for intended_ns in rows.column("intended_ns"):
        assert abs(epoch_ns + intended_ns - (broker_ns(store) - step_s * 10**9)) < 5 * 10**9
