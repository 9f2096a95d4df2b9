"""The steps of an experiment after the queue, one for each active status: the reconciler calls them again and again.

Each reads the stored state, does what is due, and moves the experiment to the next status when that is done.
"""

import logging
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from experiments.analysis.shard_scope import is_unplanned, planned_of
from experiments.analysis.summary import summarise
from experiments.models import (
    REPORTED_ENDS,
    Batch,
    Experiment,
    ExperimentStatus,
    OnWorkerLoss,
    Shard,
    ShardStatus,
    Workload,
)
from experiments.services import apps, desired, ending, events, interactive, placement, shards
from experiments.services.apps import AppMissing
from experiments.services.broker import broker_now_ns
from experiments.services.placement import NoFreeSlot
from experiments.services.workers import NoMatchingWorkers, matching_workers
from experiments.wall_clock import wall_clock
from loadgen.protocol.keys import START_AHEAD_NS
from routing import routers
from routing import services as routing_services
from routing.errors import InvalidInput
from routing.redis import redis_client
from routing.redis.table import RedisRoutingTable
from routing.table import RoutingError

log = logging.getLogger(__name__)

# How long after the plan's end and the longest request time-out a shard may end; then the experiment fails.
OVERTIME_S = 60
# How long the agent of a lost shard may still send batches.
LOST_SETTLE_S = 5


class NoRoute(Exception):
    """A workload's service is not in the routing table."""


def start_when_ready(experiment: Experiment) -> None:
    """Sets the plan's routes, places what is not placed, and starts everything together when every shard is ready."""
    try:
        _place(experiment)
        apps.provide(experiment.workloads.all())  # a restarted broker may have lost them
    except (NoMatchingWorkers, NoRoute, RoutingError, InvalidInput, AppMissing) as error:
        return _fail(experiment, str(error))
    except NoFreeSlot as error:
        return _fail_when_overdue(experiment, str(error))
    members = shards.of_experiment(experiment)
    shards.follow(experiment, members)
    try:
        for shard in shards.to_order_again(members):
            shards.order_again(experiment, shard)
    except (NoMatchingWorkers, NoFreeSlot, AppMissing) as error:
        return _fail_when_overdue(experiment, str(error))
    if failed := [shard for shard in members if shard.status in REPORTED_ENDS]:
        return _fail(experiment, f"shard {failed[0]} did not start: {failed[0].reason}")
    if unready := placement.unready(members):
        return _fail_when_overdue(experiment, unready)
    start_broker_ns = broker_now_ns() + START_AHEAD_NS
    start = timezone.now() + timedelta(microseconds=START_AHEAD_NS // 1000)
    with transaction.atomic():
        if Experiment.objects.move(
            experiment.id,
            ExperimentStatus.STARTING,
            ExperimentStatus.RUNNING,
            started_at=start,
            start_broker_ns=start_broker_ns,
        ):
            events.record(experiment.id, "running", at=start)
            desired.run_from(list(experiment.groups.values_list("id", flat=True)), start_broker_ns)


def follow_load(experiment: Experiment) -> None:
    """Follows the shards until all have ended or are overdue; replaces lost ones where the plan asks for it."""
    if experiment.interactive:
        events.record_clock_step(experiment)
        return interactive.close_if_abandoned(experiment)
    members = shards.of_experiment(experiment)
    shards.follow(experiment, members)
    events.record_clock_step(experiment)
    left_s = ending.time_left_s(experiment)
    if overdue := _overdue(experiment, members, left_s):
        return _fail(experiment, overdue)
    lost = [shard for shard in members if shard.status == ShardStatus.LOST]
    if fatal := [shard for shard in lost if shard.group.on_worker_loss == OnWorkerLoss.FAIL]:
        reason = f"shard {fatal[0]} was lost, and on_worker_loss is fail: {fatal[0].reason}"
        return _fail(experiment, reason)
    if left_s > 0:
        _replace(experiment, members)
        # A shard out of reach may send until the plan's end, and one that could not be replaced yet may be until then.
        if any(not shard.process_ended or shard.group.on_worker_loss == OnWorkerLoss.REPLACE for shard in lost):
            return None
    else:
        for shard in filter(shards.is_silent, members):
            shards.give_up(experiment, shard, "no worker took its order before the plan's end")
    if any(not shard.has_ended for shard in members):
        return None
    if failed := [shard for shard in members if shard.status == ShardStatus.FAILED]:
        return _fail(experiment, f"shard {failed[0]}: {failed[0].reason}")
    if all(shard.status == ShardStatus.LOST for shard in members):
        return _fail(experiment, f"every shard was lost: {members[0].reason}")
    if any(shard.status == ShardStatus.STOPPED for shard in members):
        # A cancel stops the shards before it changes the row, so their end may be seen first.
        ending.end_as_stopped(experiment)
    else:
        ending.finish(experiment)
    return None


def _fail(experiment: Experiment, reason: str) -> None:
    ending.fail(experiment, reason)


def _replace(experiment: Experiment, members: list[Shard]) -> None:
    replaced = [shard for shard in members if shard.group.on_worker_loss == OnWorkerLoss.REPLACE]
    for shard in shards.to_order_again(replaced):
        try:
            shards.order_again(experiment, shard)
        except (NoMatchingWorkers, NoFreeSlot, AppMissing) as error:
            log.warning("shard %s cannot be placed again yet: %s", shard, error)


def conclude_when_stored(experiment: Experiment) -> None:
    """Waits for the batches that the shards' totals count, or for the deadline; then stores the summary."""
    waited = wall_clock.since(experiment.finalizing_at or timezone.now())
    is_in_time = waited < timedelta(seconds=settings.GALILEO_FINALIZE_TIMEOUT_S)
    if experiment.interactive:
        if not is_in_time or interactive.is_complete(experiment):
            _sum_up(experiment)
        return
    if experiment.final_status != ExperimentStatus.FINISHED:
        ending.stop_groups(experiment.id)  # the process that ended it may have died before this
    members = shards.of_experiment(experiment)
    shards.follow(experiment, members)
    if is_in_time and any(_is_awaited(shard, waited) for shard in members):
        return
    for shard in members:
        if not shard.has_ended:
            Shard.objects.filter(id=shard.id, status=shard.status).update(
                status=ShardStatus.LOST,
                reason=shard.reason or ("it never ended" if shard.worker else "no worker took its order"),
            )
        if shard.planned is None and not is_unplanned(shard):
            Shard.objects.filter(id=shard.id).update(planned=planned_of(shard))
    _sum_up(experiment)


def _sum_up(experiment: Experiment) -> None:
    events.record_routing_changes(experiment)
    summary = summarise(experiment)
    final_status = experiment.final_status or ExperimentStatus.FAILED
    with transaction.atomic():
        if not ending.conclude(experiment, final_status, summary=summary, summary_stale=True):
            return
        events.record(experiment.id, final_status.lower(), experiment.reason)
    experiment.refresh_from_db()
    revise_summary(experiment)  # a batch may have arrived between the summary and the change of status
    ending.clear_redis(experiment)


def is_summary_stale(experiment: Experiment) -> bool:
    """Whether batches arrived after the experiment's summary was made."""
    summary = experiment.summary
    return summary is None or summary.get("batches") != _stored_batches(experiment)


def revise_summary(experiment: Experiment) -> None:
    """Makes the summary again if batches arrived late, and clears `summary_stale`; does nothing before the end.

    `summary_stale` stays set if another batch arrived meanwhile: another call is due then.

    The first summary is made shortly before the experiment's status changes: the caller that changes the status sets
    `summary_stale` with it, and calls this afterwards.
    """
    summary = experiment.summary
    if summary is None or is_summary_stale(experiment):
        summary = summarise(experiment)
    with transaction.atomic():
        # Ingest sets `summary_stale` after it has committed a batch. If it does so before this lock, the count below
        # includes the batch; if later, it sets the flag again after our commit. So no batch is forgotten, wherever
        # this process is killed.
        locked = Experiment.objects.ended().select_for_update().filter(pk=experiment.pk)
        if locked.only("pk").first() is None:
            return
        stale = summary["batches"] != _stored_batches(experiment)
        Experiment.objects.filter(pk=experiment.pk).update(summary=summary, summary_stale=stale)
    experiment.summary, experiment.summary_stale = summary, stale


def _stored_batches(experiment: Experiment) -> int:
    return experiment.batches.count()


def _place(experiment: Experiment) -> None:
    placed = set(experiment.groups.values_list("workload_id", flat=True))
    workloads = list(experiment.workloads.all())
    if not placed:
        placement.check_slots(workloads)  # workers may have left since it was submitted
        for service, route in experiment.plan.get("routing", {}).items():
            routing_services.set_record(service, route["hosts"], route["weights"], by=f"experiment {experiment.id}")
    unplaced = [workload for workload in workloads if workload.id not in placed]
    for number, workload in enumerate(unplaced, 1):
        if _reads_table(workload) and RedisRoutingTable(redis_client()).read(workload.service) is None:
            raise NoRoute(
                f"service {workload.service} has no routing record: set one in the plan's `routing`, "
                f"or with `manage.py set_route {workload.service} HOST:PORT`"
            )
        shards.place_group(experiment, workload, unplaced[number:])


def _reads_table(workload: Workload) -> bool:
    """Whether the router of the workload, or of one of its workers, reads the service's routing record.

    Raises:
        NoMatchingWorkers: never with placement `queue`, where workers may join later; then the default router counts.
    """
    if router := workload.spec["router"]:
        return routers.reads_table(router)
    try:
        workers = matching_workers(workload.worker_labels)
    except NoMatchingWorkers:
        if workload.queue is None:
            raise
        return routers.reads_table(routers.HOST)
    names = [worker.labels.get("router_type", routers.HOST) for worker in workers]
    return any(routers.reads_table(routers.router_of(name)) for name in names)


def _fail_when_overdue(experiment: Experiment, reason: str) -> None:
    waited = wall_clock.since(experiment.starting_at or timezone.now())
    if waited > timedelta(seconds=settings.GALILEO_START_TIMEOUT_S):
        _fail(experiment, f"{reason} within {settings.GALILEO_START_TIMEOUT_S} s")


def _overdue(experiment: Experiment, members: list[Shard], left_s: float) -> str:
    if left_s > -OVERTIME_S or left_s > -OVERTIME_S - ending.longest_time_out_s(experiment):
        return ""
    late = [shard for shard in members if not shard.has_ended]
    return f"shard {late[0]} {late[0].place} had not ended {OVERTIME_S} s after its time" if late else ""


def give_up_when_overdue(experiment: Experiment) -> None:
    """Ends an experiment whose step fails again and again, so that it does not block the queue forever."""
    if experiment.status == ExperimentStatus.STARTING:
        _fail_when_overdue(experiment, "it could not be started (see the log of control)")
    elif experiment.status == ExperimentStatus.FINALIZING and experiment.finalizing_at is not None:
        if wall_clock.since(experiment.finalizing_at) > timedelta(seconds=2 * settings.GALILEO_FINALIZE_TIMEOUT_S):
            reason = f"{experiment.reason} its summary could not be made (see the log of control)".strip()
            ending.conclude(experiment, ExperimentStatus.FAILED, reason=reason)
    elif not experiment.interactive and (
        overdue := _overdue(experiment, shards.of_experiment(experiment), ending.time_left_s(experiment))
    ):
        _fail(experiment, overdue)


def _is_awaited(shard: Shard, waited: timedelta) -> bool:
    if shard.batches is None:
        # The shard was lost, or no worker took its order: the number of batches to wait for is unknown.
        is_unknown = shard.status in (ShardStatus.LOST, ShardStatus.DISPATCHED)
        return not is_unknown or waited < timedelta(seconds=LOST_SETTLE_S)
    return Batch.objects.filter(shard=shard, attempt=shard.attempt).count() < shard.batches
