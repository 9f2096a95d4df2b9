"""The shard runner in this process: real engine, real target, real Redis."""

import asyncio
import os
import pickle
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from loadgen.apps.archive import digest_of
from loadgen.device.running_shards import marked_shards
from loadgen.device.spool import Spool
from loadgen.protocol.codec import from_json
from loadgen.protocol.enums import ENDS, CommandKind, DesiredState, OnWorkerLoss
from loadgen.protocol.keys import app_key, group_key, lease_key, newest_attempt_key, shard_key
from loadgen.protocol.messages import GroupCommand, GroupDocument, ShardOrder
from loadgen.protocol.settings import WorkerSettings
from loadgen.protocol.trace_batch import decode
from loadgen.shard.lease import Fence
from loadgen.shard.lease_keeper import LEASE_EXPIRED
from loadgen.shard.runner import NOT_TAKEN_OVER, OUT_OF_TOUCH, ShardRunner
from loadgen.tasks import run_loop
from tests.support.archives import app_archive
from tests.support.http_target import HttpTarget
from tests.support.ids import begin_of
from tests.support.redis_server import RedisServer
from tests.support.shards import Rows, broker_ns, document_of, order_of, put_document, put_route, state_of, status_of
from tests.support.worker_process import settings_for

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(redis_server: RedisServer, store: redis.Redis, tmp_path: Path) -> WorkerSettings:
    return settings_for(redis_server, "w", tmp_path / "spool")


Script = Callable[[], Awaitable[None]]


def run_shards(settings: WorkerSettings, *orders: ShardOrder, script: Script | None = None) -> None:
    """Runs shards on one loop until all have ended, and a script beside them."""

    async def run() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for order in orders:
                group.create_task(ShardRunner(order, settings).run())
            if script is not None:
                group.create_task(script())

    run_loop(run())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def rows_of(settings: WorkerSettings) -> Rows:
    spool, rows = Spool(settings.spool_dir, 1), Rows()
    for name in spool.scan():
        rows.add(*decode(spool.read(name)))
    return rows


def running(store: redis.Redis, document: GroupDocument, ahead_s: float) -> GroupDocument:
    return replace(document, version=2, state="run", start_broker_ns=broker_ns(store, ahead_s))


def test_a_shard_holds_until_it_may_run_and_gives_its_lease_back(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("s-hold", rate_rps=50.0, duration_s=1.0)
    put_document(store, document)
    seen = []

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        await asyncio.sleep(0.2)
        seen.append((len(target.ids("s-hold")), store.exists(lease_key(1)), len(marked_shards(settings.spool_dir))))
        put_document(store, running(store, document, 0.3))
        await until(lambda: state_of(store, 1) == "running")

    run_shards(settings, order_of(1, "s-hold"), script=script)

    rows = rows_of(settings)
    assert seen == [(0, 1, 1)]
    assert rows.final.counters.completed == len(rows) == len(target.ids("s-hold")) == 50
    assert state_of(store, 1) == "finished"
    assert not store.exists(lease_key(1))
    assert marked_shards(settings.spool_dir) == []


def test_late_start_leaves_the_intended_times(settings: WorkerSettings, store: redis.Redis, target: HttpTarget) -> None:
    put_route(store, {target.host: 1.0})
    document = running(store, document_of("s-late", rate_rps=20.0, duration_s=3.0), -1.95)
    document = replace(document, workload=replace(document.workload, max_lateness_s=1.0))
    put_document(store, document)

    run_shards(settings, order_of(1, "s-late"))

    rows = rows_of(settings)
    # The zero lies in the past: what is more than max_lateness late is LATE, the rest is sent, nothing is moved.
    assert sorted(rows.column("intended_ns")) == [25_000_000 + 50_000_000 * number for number in range(60)]
    assert rows.final.counters.late > 0
    assert rows.final.counters.late + rows.final.counters.completed == 60
    assert rows.final.epoch_broker_ns == document.start_broker_ns


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGQUIT])
def test_signal_ends_a_holding_shard_as_lost(
    settings: WorkerSettings, store: redis.Redis, signum: signal.Signals
) -> None:
    put_document(store, document_of("s-signal", rate_rps=100.0, duration_s=10.0))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        os.kill(os.getpid(), signum)

    run_shards(settings, order_of(1, "s-signal"), script=script)

    final = rows_of(settings).final
    assert (final.reason, final.counters.planned, final.counters.cut) == ("worker shut down", 0, 0)
    assert (final.end, state_of(store, 1)) == ("lost", "lost")


def test_signal_before_the_document_seals_an_empty_batch(settings: WorkerSettings, store: redis.Redis) -> None:
    async def script() -> None:
        await until(lambda: state_of(store, 1) == "starting")
        os.kill(os.getpid(), signal.SIGTERM)

    run_shards(settings, order_of(1, "nobody"), script=script)

    final = rows_of(settings).final
    assert (final.number, final.rows, final.reason) == (0, 0, "worker shut down")


def test_a_document_that_does_not_appear_fails_the_shard(
    settings: WorkerSettings, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.runner.DOCUMENT_TIMEOUT_S", 0.3)

    run_shards(settings, order_of(1, "nobody"))

    assert state_of(store, 1) == "failed"
    assert "document of group nobody did not appear" in status_of(store, 1).reason
    assert rows_of(settings).final.reason == status_of(store, 1).reason


def test_a_document_that_appears_late_is_waited_for(settings: WorkerSettings, store: redis.Redis) -> None:
    async def script() -> None:
        await until(lambda: state_of(store, 1) == "starting")
        put_document(store, document_of("s-appears", state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-appears"), script=script)

    assert rows_of(settings).final.reason == "stopped"


def test_missing_client_app_fails_the_shard(settings: WorkerSettings, store: redis.Redis) -> None:
    document = document_of("s-app")
    put_document(store, replace(document, workload=replace(document.workload, client_app="nowhere")))

    run_shards(settings, order_of(1, "s-app"))

    assert state_of(store, 1) == "failed"
    assert "nowhere" in status_of(store, 1).reason
    assert (rows_of(settings).final.rows, rows_of(settings).final.counters.planned) == (0, 0)


@pytest.mark.parametrize("state", [None, DesiredState.STOP])
def test_queue_order_of_an_ended_group_is_refused(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, state: str | None
) -> None:
    put_route(store, {target.host: 1.0})
    if state is not None:
        put_document(store, document_of("s-over", state=state))

    run_shards(settings, order_of(1, "s-over", void_after_broker_ns=None))

    assert not store.keys("galileo:shard:1*")
    assert rows_of(settings).headers == []
    assert marked_shards(settings.spool_dir) == []
    assert target.ids("s-over") == []


def test_two_copies_of_an_order_without_expiry_run_once(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    put_document(store, running(store, document_of("s-twice", rate_rps=20.0), 0.3))

    run_shards(settings, *[order_of(1, "s-twice", void_after_broker_ns=None)] * 2)

    assert [header.end for header in rows_of(settings).headers if header.final] == ["finished"]
    assert len(target.ids("s-twice")) == 20


def test_document_of_unknown_version_fails_the_shard(settings: WorkerSettings, store: redis.Redis) -> None:
    store.hset(group_key("s-newer"), mapping={"version": 1, "document": '{"v": 99}'})

    run_shards(settings, order_of(1, "s-newer", void_after_broker_ns=None))

    assert (state_of(store, 1), "version 99 is unknown" in status_of(store, 1).reason) == ("failed", True)


def test_a_stale_attempt_exits_without_a_trace(settings: WorkerSettings, store: redis.Redis) -> None:
    document = document_of("s-stale", state=DesiredState.STOP)
    put_document(store, document)
    run_shards(settings, order_of(1, "s-stale", attempt=2))
    files = sorted(path.name for path in settings.spool_dir.iterdir())

    run_shards(settings, order_of(1, "s-stale", attempt=1))

    assert sorted(path.name for path in settings.spool_dir.iterdir()) == files
    assert status_of(store, 1).attempt == 2


def test_higher_attempt_supersedes_a_running_one(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, tmp_path: Path
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("s-super", rate_rps=50.0, duration_s=6.0)
    put_document(store, document)
    said = []

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        put_document(store, running(store, document, 0.1))
        await until(lambda: state_of(store, 1) == "running")
        second = asyncio.create_task(ShardRunner(order_of(1, "s-super", attempt=2), settings).run())
        await until(lambda: [shard.attempt for shard in marked_shards(settings.spool_dir)] == [2])
        said.append(state_of(store, 1))
        put_document(store, replace(document, version=3, state=DesiredState.STOP))
        await second

    run_shards(settings, order_of(1, "s-super"), script=script)

    rows = rows_of(settings)
    ends = {header.attempt: header.end for header in rows.headers if header.final}
    assert said[0] not in ENDS  # the newer attempt speaks for the shard
    assert ends == {1: "lost", 2: "stopped"}
    first = [header for header in rows.headers if header.attempt == 1]
    assert sum(header.rows for header in first) == first[-1].counters.rows == first[-1].counters.planned
    counters = first[-1].counters
    assert counters.planned == counters.sent + counters.cut < 300, "the rest of the plan is not cut"
    assert status_of(store, 1).attempt == 2
    firsts = {header.attempt: header.first_row for header in rows_of(settings).headers if header.number == 0}
    assert firsts == {1: 0, 2: 1 << 28}


def test_full_spool_stops_the_load_and_the_account_closes(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("s-full", rate_rps=100.0, duration_s=20.0)
    put_document(store, running(store, document, 0.1))

    run_shards(replace(settings, spool_limit_bytes=2000), order_of(1, "s-full"))

    rows = rows_of(settings)
    assert rows.final.reason == "spool full"
    assert rows.final.counters.planned == len(rows) == 2000
    assert rows.final.counters.cut > 0
    assert (state_of(store, 1), status_of(store, 1).reason) == ("failed", "spool full")


def test_a_changed_route_is_obeyed_while_running(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    hosts = target.hosts
    put_route(store, {hosts[0]: 1.0})
    document = document_of("s-route", rate_rps=100.0, duration_s=2.0)
    put_document(store, running(store, document, 0.1))

    async def script() -> None:
        await until(lambda: len(target.ids("s-route")) > 50)
        put_route(store, {hosts[1]: 1.0}, version=2)

    run_shards(settings, order_of(1, "s-route"), script=script)

    rows = rows_of(settings)
    assert rows.final.counters.completed == 200
    assert {host for header in rows.headers for host in header.hosts} == set(hosts[:2])


def test_an_older_or_unreadable_document_changes_nothing(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = running(store, document_of("s-old", rate_rps=50.0, duration_s=2.0), 0.1)
    put_document(store, document)

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        put_document(store, replace(document, version=1, state=DesiredState.STOP))
        await asyncio.sleep(0.5)
        store.hset("galileo:group:s-old", mapping={"version": 9, "document": "{no json"})
        store.publish("galileo:group:s-old:changed", 9)
        await asyncio.sleep(0.5)
        store.delete("galileo:group:s-old")

    run_shards(settings, order_of(1, "s-old"), script=script)

    assert rows_of(settings).final.counters.completed == 100


def replaceable(group_id: str, rate_rps: float = 100.0, duration_s: float = 30.0) -> GroupDocument:
    return document_of(group_id, rate_rps=rate_rps, duration_s=duration_s, on_worker_loss=OnWorkerLoss.REPLACE)


def test_expired_lease_stops_a_replaceable_shard(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_TTL_MS", 1000)
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_RENEW_S", 0.2)
    put_route(store, {target.host: 1.0})
    put_document(store, running(store, replaceable("s-expires"), 0.1))
    renewals = []

    async def renew(_: Fence) -> bool:
        renewals.append(time.monotonic_ns())
        if len(renewals) > 3:
            raise redis.ConnectionError("cut off")
        return True

    monkeypatch.setattr("loadgen.shard.runner.Fence.renew", renew)
    run_shards(settings, order_of(1, "s-expires"))

    rows = rows_of(settings)
    counters = rows.final.counters
    assert (rows.final.end, rows.final.reason) == ("lost", LEASE_EXPIRED.reason)
    # The rest of the plan is not cut, only what waited for a connection at that moment.
    assert counters.planned == counters.sent + counters.cut == len(rows) < 1000
    assert sorted(rows.sent_ids("s-expires")) == sorted(target.ids("s-expires"))
    assert state_of(store, 1) == "lost"
    assert len(renewals) > 4


def test_expired_lease_does_not_stop_other_shards(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_TTL_MS", 400)
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_RENEW_S", 0.1)
    put_route(store, {target.host: 1.0})
    put_document(store, running(store, document_of("s-goes-on", rate_rps=50.0, duration_s=2.0), 0.1))

    async def renew(_: Fence) -> bool:
        if target.ids("s-goes-on"):
            raise redis.ConnectionError("cut off")
        return True

    monkeypatch.setattr("loadgen.shard.runner.Fence.renew", renew)
    run_shards(settings, order_of(1, "s-goes-on"))

    assert rows_of(settings).final.counters.completed == 100
    assert state_of(store, 1) == "finished"


def test_next_attempt_continues_after_a_shutdown(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    put_document(store, running(store, replaceable("s-moves"), 0.1))

    async def script() -> None:
        await until(lambda: len(target.ids("s-moves")) > 20)
        os.kill(os.getpid(), signal.SIGTERM)

    run_shards(settings, order_of(1, "s-moves"), script=script)
    run_shards(settings, order_of(1, "s-moves", attempt=2, takes_over=True), script=stop_when_it_runs(store, "s-moves"))

    rows = rows_of(settings)
    first, second = (header for header in rows.headers if header.final)
    assert (first.end, first.reason) == ("lost", "worker shut down")
    # As above: what waited for a connection at that moment is cut, and not the rest of the plan.
    assert first.counters.planned == first.counters.sent + first.counters.cut < 1500
    assert second.counters.skipped >= first.counters.planned
    # Nothing was sent twice, nothing was cut twice, and everything is a row or was skipped in between.
    sent = rows.sent_ids("s-moves")
    assert len(set(sent)) == len(sent)
    assert sorted(sent) == sorted(target.ids("s-moves"))
    assert second.counters.planned + second.counters.skipped == 3000


def stop_when_it_runs(store: redis.Redis, group_id: str) -> Script:
    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        await asyncio.sleep(0.3)
        text = store.hget(group_key(group_id), "document")
        document = from_json(GroupDocument, text)
        put_document(store, replace(document, version=document.version + 1, state=DesiredState.STOP))

    return script


def test_holding_shard_out_of_touch_gives_up(
    settings: WorkerSettings, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.runner.HOLD_ALONE_S", 1.5)
    monkeypatch.setattr("loadgen.shard.desired.READ_EVERY_S", 0.2)
    monkeypatch.setattr("loadgen.shard.runner.LEASE_RENEW_S", 0.1)
    put_document(store, document_of("s-alone"))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        store.delete(group_key("s-alone"))  # as when its broker is away, or its group is forgotten

    run_shards(settings, order_of(1, "s-alone"), script=script)

    assert (rows_of(settings).final.end, rows_of(settings).final.reason) == ("lost", OUT_OF_TOUCH.reason)


def test_a_stop_before_the_start_cuts_the_whole_plan(settings: WorkerSettings, store: redis.Redis) -> None:
    document = document_of("s-early", rate_rps=100.0, duration_s=10.0)
    put_document(store, document)

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        put_document(store, replace(document, version=2, state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-early"), script=script)

    final = rows_of(settings).final
    assert (final.end, final.reason, final.counters.planned, final.counters.cut) == ("stopped", "stopped", 1000, 1000)


def test_stop_before_the_takeover_records_no_rows(settings: WorkerSettings, store: redis.Redis) -> None:
    put_document(store, replaceable("s-untaken"))
    put_document(store, replace(replaceable("s-untaken"), version=2, state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-untaken", attempt=2, takes_over=True))

    final = rows_of(settings).final
    assert (final.end, final.reason, final.rows, final.counters.planned) == ("lost", NOT_TAKEN_OVER.reason, 0, 0)


def test_expired_lease_is_renewed_before_the_first_request(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_TTL_MS", 500)
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_RENEW_S", 60.0)  # so that only the start can ask
    put_route(store, {target.host: 1.0})
    document = document_of("s-waited", rate_rps=100.0, duration_s=5.0)
    put_document(store, document)

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        await asyncio.sleep(0.6)
        store.set(newest_attempt_key(1), "2 s-waited")  # another attempt has run meanwhile
        put_document(store, running(store, document, 0.1))

    run_shards(settings, order_of(1, "s-waited"), script=script)

    assert target.ids("s-waited") == []
    assert rows_of(settings).final.reason == "superseded"
    assert len(rows_of(settings)) == 0


def test_short_outage_costs_no_lease(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_TTL_MS", 2000)
    monkeypatch.setattr("loadgen.shard.lease_keeper.LEASE_RENEW_S", 0.6)
    put_route(store, {target.host: 1.0})
    put_document(store, running(store, replaceable("s-outage", duration_s=3.0), 0.1))
    begun = time.monotonic()
    genuine = Fence.renew

    async def renew(fence: Fence) -> bool | None:
        if 0.5 < time.monotonic() - begun < 1.6:
            raise redis.ConnectionError("away")
        return await genuine(fence)

    monkeypatch.setattr("loadgen.shard.runner.Fence.renew", renew)
    run_shards(settings, order_of(1, "s-outage"))

    assert rows_of(settings).final.end == "finished"
    assert rows_of(settings).final.counters.completed == 300


def test_a_status_that_redis_lost_is_written_again(
    settings: WorkerSettings, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.status.STATUS_EVERY_S", 0.3)
    monkeypatch.setattr("loadgen.shard.status.LEASE_RENEW_S", 0.1)
    document = document_of("s-status")
    put_document(store, document)

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "ready")
        store.delete(shard_key(1))
        await until(lambda: state_of(store, 1) == "ready")
        put_document(store, replace(document, version=2, state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-status"), script=script)
    assert state_of(store, 1) == "stopped"


def test_a_second_copy_of_an_order_leaves_the_first_ones_mark(
    settings: WorkerSettings, store: redis.Redis, tmp_path: Path
) -> None:
    document = document_of("s-copy")
    put_document(store, document)

    async def script() -> None:
        await until(lambda: [shard.leased for shard in marked_shards(settings.spool_dir)] == [True])
        copy = """
import asyncio, pickle, sys
from loadgen.shard.runner import ShardRunner
asyncio.run(ShardRunner(*pickle.loads(bytes.fromhex(sys.argv[1]))).run())
"""
        arguments = pickle.dumps((order_of(1, "s-copy"), settings)).hex()
        done = await asyncio.create_subprocess_exec(sys.executable, "-c", copy, arguments)
        assert await done.wait() == 0
        assert [shard.pid for shard in marked_shards(settings.spool_dir)] == [os.getpid()]
        put_document(store, replace(document, version=2, state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-copy"), script=script)
    assert state_of(store, 1) == "stopped"


def interactive(store: redis.Redis, group_id: str, version: int = 1, **phase: Any) -> GroupDocument:
    """A document of an interactive group of four clients that runs."""
    document = document_of(group_id)
    workload = replace(document.workload, model="interactive", schedule=[])
    now_ns = broker_ns(store)
    return replace(
        document,
        version=version,
        state="run",
        start_broker_ns=now_ns,
        workload=workload,
        phase=GroupCommand(version, now_ns, **phase),
        active=[[0, 4]],
    )


def test_interactive_shard_executes_commands_and_reports_them(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    put_document(store, interactive(store, "s-live"))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        put_document(store, interactive(store, "s-live", 2, kind=CommandKind.GAPS, requests=5, parameters=[0.01]))
        await until(lambda: phases_of(store) == (2, 2))
        put_document(store, interactive(store, "s-live", 3, kind=CommandKind.BACK_TO_BACK, requests=3))
        await until(lambda: phases_of(store) == (3, 3))
        put_document(store, replace(interactive(store, "s-live", 4), active=[]))

    run_shards(settings, order_of(1, "s-live"), script=script)
    rows = rows_of(settings)
    assert (rows.final.end, rows.final.reason) == ("finished", "")
    assert rows.final.counters.completed == len(target.ids("s-live")) == 4 * 8


def test_interactive_clients_added_after_a_step_back_record_their_rows(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    # The group was spawned when the broker's clock was ahead.
    spawned_ns = broker_ns(store, 90.0)
    put_document(store, replace(interactive(store, "s-added"), start_broker_ns=spawned_ns))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        document = interactive(store, "s-added", 2, kind=CommandKind.BACK_TO_BACK, requests=3)
        put_document(store, replace(document, start_broker_ns=spawned_ns))
        await until(lambda: phases_of(store) == (2, 2))
        put_document(store, replace(interactive(store, "s-added", 3), state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-added"), script=script)
    rows = rows_of(settings)
    assert len(rows) == len(target.ids("s-added")) == 4 * 3
    (epoch_ns,) = {header.epoch_broker_ns for header in rows.headers if header.rows}
    for intended_ns in rows.column("intended_ns"):
        assert intended_ns >= 0
        assert abs(epoch_ns + intended_ns - broker_ns(store)) < 10e9


def phases_of(store: redis.Redis) -> tuple[int, int]:
    status = status_of(store, 1)
    return (status.phase, max(status.phases_done, default=0)) if status is not None else (0, 0)


def test_batch_ends_where_an_interactive_experiment_does(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    put_document(store, interactive(store, "s-cut"))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        for version, experiment in ((2, None), (3, "202601010000-abcd"), (4, None)):
            document = interactive(store, "s-cut", version, kind=CommandKind.BACK_TO_BACK, requests=version)
            put_document(store, replace(document, experiment_id=experiment))
            await until(lambda version=version: phases_of(store) == (version, version))
        put_document(store, replace(interactive(store, "s-cut", 5), state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-cut"), script=script)
    by_experiment: dict[str | None, int] = {}
    for header in rows_of(settings).headers:
        by_experiment[header.experiment_id] = by_experiment.get(header.experiment_id, 0) + header.rows
    assert by_experiment == {None: 4 * (2 + 4), "202601010000-abcd": 4 * 3}


def test_a_batch_is_cut_where_tracing_is_paused_and_resumed(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    experiment_id = "202601010000-abcd"
    put_document(store, replace(interactive(store, "s-pause"), experiment_id=experiment_id))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        for version in range(2, 6):
            document = interactive(store, "s-pause", version, kind=CommandKind.BACK_TO_BACK, requests=version)
            put_document(store, replace(document, experiment_id=experiment_id, tracing=version % 2 == 0))
            await until(lambda version=version: phases_of(store) == (version, version))
        put_document(store, replace(interactive(store, "s-pause", 6), state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-pause"), script=script)
    headers = [header for header in rows_of(settings).headers if header.rows]
    by_version: dict[int, int] = {}
    for header in headers:
        by_version[header.version] = by_version.get(header.version, 0) + header.rows
    assert by_version == {version: 4 * version for version in range(2, 6)}
    assert {header.version for header in headers if header.traced} == {2, 4}
    assert {header.experiment_id for header in headers} == {experiment_id}


def test_an_unbounded_load_pauses_when_nobody_renews_it(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.commands.GROUP_LEASE_S", 2)
    put_route(store, {target.host: 1.0})
    put_document(store, interactive(store, "s-left", rate_rps=10.0))
    sent = []

    def is_deserted() -> bool:
        status = status_of(store, 1)
        return status is not None and status.is_deserted

    async def script() -> None:
        await until(is_deserted)
        for _ in range(2):
            await asyncio.sleep(0.5)
            sent.append(len(target.ids("s-left")))
        put_document(store, replace(interactive(store, "s-left", 2), state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-left"), script=script)
    assert 0 < sent[0] == sent[1]


def test_a_renewed_unbounded_load_goes_on(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.commands.GROUP_LEASE_S", 4)
    put_route(store, {target.host: 1.0})
    put_document(store, interactive(store, "s-kept", rate_rps=10.0))
    sent = []

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        ends_s = time.monotonic() + 5.5
        while time.monotonic() < ends_s:
            await asyncio.sleep(0.1)
            store.hincrby(group_key("s-kept"), "renewals", 1)
        status = status_of(store, 1)
        assert status is not None
        assert not status.is_deserted
        sent.append(len(target.ids("s-kept")))
        await until(lambda: len(target.ids("s-kept")) > sent[0])
        put_document(store, replace(interactive(store, "s-kept", 2), state=DesiredState.STOP))

    run_shards(settings, order_of(1, "s-kept"), script=script)
    assert sent[0] > 0


def with_app(document: GroupDocument, digest: str | None) -> GroupDocument:
    return replace(document, workload=replace(document.workload, client_app="shop", client_app_digest=digest))


def test_a_client_app_comes_from_the_repository_through_redis(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    archive = app_archive(generator=b"def next_request():\n    return 'get', '/from/the/repository'\n")
    store.set(app_key(digest_of(archive)), archive)
    put_route(store, {target.host: 1.0})
    document = with_app(document_of("s-fetch", rate_rps=20.0, duration_s=1.0), digest_of(archive))
    put_document(store, running(store, document, 0.3))

    run_shards(settings, order_of(1, "s-fetch"))

    assert rows_of(settings).final.counters.completed == 20
    paths = {path for _, name, _, path in target.log() if name.startswith(begin_of("s-fetch"))}
    assert paths == {"/from/the/repository"}


def test_an_app_of_the_workers_own_comes_first(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, tmp_path: Path
) -> None:
    (tmp_path / "own" / "shop").mkdir(parents=True)
    (tmp_path / "own" / "shop" / "generator.py").write_text("def next_request(): return 'get', '/own'")
    put_route(store, {target.host: 1.0})
    document = with_app(document_of("s-own", rate_rps=20.0, duration_s=0.5), "ab" * 32)  # of an archive that is nowhere
    put_document(store, running(store, document, 0.3))

    run_shards(replace(settings, apps_dir=tmp_path / "own"), order_of(1, "s-own"))

    assert {path for _, name, _, path in target.log() if name.startswith(begin_of("s-own"))} == {"/own"}


@pytest.mark.parametrize(
    ("digest", "said"),
    [
        (None, "this worker has no apps of its own (galileo_apps_dir), and the repository had no such app"),
        (
            "ab" * 32,
            "it is not among this worker's own (galileo_apps_dir), and cannot be had from the repository: Redis",
        ),
    ],
)
def test_app_found_nowhere_fails_with_both_places_named(
    settings: WorkerSettings, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, digest: str | None, said: str
) -> None:
    monkeypatch.setattr("loadgen.apps.cache.FETCH_TIMEOUT_S", 0.0)
    put_document(store, with_app(document_of("s-nowhere"), digest))

    run_shards(settings, order_of(1, "s-nowhere"))

    assert state_of(store, 1) == "failed"
    assert f"client app 'shop': {said}" in status_of(store, 1).reason


def test_a_shard_that_waits_for_its_app_can_be_stopped(settings: WorkerSettings, store: redis.Redis) -> None:
    put_document(store, with_app(document_of("s-waits"), "ab" * 32))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "starting")
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    run_shards(settings, order_of(1, "s-waits"), script=script)

    assert (rows_of(settings).final.end, rows_of(settings).final.reason) == ("lost", "worker shut down")


def test_hanging_client_app_fails_its_shard(settings: WorkerSettings, store: redis.Redis) -> None:
    archive = app_archive(generator=b"while True:\n    pass\n")
    store.set(app_key(digest_of(archive)), archive)
    put_document(store, with_app(document_of("s-stuck"), digest_of(archive)))

    run_shards(settings, order_of(1, "s-stuck"))

    status = status_of(store, 1)
    assert (status.attempt, status.state) == (1, "failed")
    assert "client app 'shop', client 0: generator.py did not end within 5 s" in status.reason
    assert "  generator.py, line " in status.reason


def test_an_interactive_shard_whose_group_was_forgotten_ends(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.shard.commands.GROUP_LEASE_S", 2)
    put_route(store, {target.host: 1.0})
    put_document(store, interactive(store, "s-forgotten"))

    async def script() -> None:
        await until(lambda: state_of(store, 1) == "running")
        store.delete(group_key("s-forgotten"))

    run_shards(settings, order_of(1, "s-forgotten"), script=script)
    assert rows_of(settings).final.end == "lost"


def test_a_redis_that_was_started_empty_takes_no_route_away(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = running(store, document_of("s-empty", rate_rps=50.0, duration_s=4.0), 0.3)
    put_document(store, document)

    async def script() -> None:
        await until(lambda: len(target.ids("s-empty")) > 10)
        store.flushall()

    run_shards(settings, order_of(1, "s-empty"), script=script)
    assert rows_of(settings).final.counters.completed == 200
