"""The phases of an experiment: each looks at what is stored, does what is due, and moves on when it is done."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from experiments.analysis.shard_scope import is_unplanned, planned_of
from experiments.analysis.summary import summarise
from experiments.models import (
    ENDED_STATUSES,
    REPORTED_ENDS,
    Batch,
    ClientGroup,
    Experiment,
    ExperimentStatus,
    OnWorkerLoss,
    Shard,
    ShardStatus,
    Workload,
)
from experiments.plans.requests import longest_request_s
from experiments.services import apps, desired, ending, events, interactive, queue_orders, shards, summaries
from experiments.services.apps import AppMissing
from experiments.services.broker import broker_now_ns
from experiments.services.placement import NoFreeSlot, NoMatchingWorkers, matching_workers
from experiments.services.transitions import move_experiment
from routing import routers
from routing import services as routing_services
from routing.errors import InvalidInput
from routing.redis import redis_client
from routing.redis.table import RedisRoutingTable
from routing.table import RoutingError

log = logging.getLogger(__name__)

# From the barrier to the first arrival: every shard must have the start in hand before it comes.
START_AHEAD_NS = 2_500_000_000
# Beyond the plan's end and the longest request time-out, a shard that has not ended is given up.
OVERTIME_S = 60
# The time in which the agent of a lost shard may still send batches.
LOST_SETTLE_S = 5
# A shard out of reach runs to its plan's end at most, or gives up waiting for its start, within this.
OUT_OF_REACH_S = 120


class NoRoute(Exception):
    """A workload's service is not in the routing table."""


def starting(experiment: Experiment) -> None:
    """Sets the plan's routes, places what is not placed, and starts everything together when every shard is ready."""
    try:
        _place(experiment)
        apps.provide(experiment.workloads.all())  # a broker that was restarted may have lost them
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
    if unready := queue_orders.unready(members):
        return _fail_when_overdue(experiment, unready)
    start_broker_ns = broker_now_ns() + START_AHEAD_NS
    start = timezone.now() + timedelta(microseconds=START_AHEAD_NS // 1000)
    with transaction.atomic():
        if move_experiment(
            experiment.id,
            ExperimentStatus.STARTING,
            ExperimentStatus.RUNNING,
            started_at=start,
            start_broker_ns=start_broker_ns,
        ):
            events.record(experiment.id, "running", at=start)
            desired.run_from(list(experiment.groups.values_list("id", flat=True)), start_broker_ns)


def running(experiment: Experiment) -> None:
    """Follows the shards until all have ended, or until they should have; sees to those that were lost."""
    if experiment.interactive:
        return interactive.close_if_abandoned(experiment)
    members = shards.of_experiment(experiment)
    shards.follow(experiment, members)
    left_s = _time_left_s(experiment)
    if overdue := _overdue(experiment, members, left_s):
        return _fail(experiment, overdue)
    lost = [shard for shard in members if shard.status == ShardStatus.LOST]
    if fatal := [shard for shard in lost if shard.group.on_worker_loss == OnWorkerLoss.FAIL]:
        reason = f"shard {fatal[0]} was lost, and on_worker_loss is fail: {fatal[0].reason}"
        return _fail(experiment, reason)
    if left_s > 0:
        _replace(experiment, members)
        # One that is out of reach may send until the plan's end, and one that could not be replaced yet may be then.
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
        # A cancel stops the shards first: their end is seen before the row is changed.
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


def finalizing(experiment: Experiment) -> None:
    """Waits for every batch that the shards' totals name, or for the deadline; then sums up."""
    waited = timezone.now() - (experiment.finalizing_at or timezone.now())
    is_in_time = waited < timedelta(seconds=settings.GALILEO_FINALIZE_TIMEOUT_S)
    if experiment.interactive:
        if not is_in_time or interactive.is_complete(experiment):
            _sum_up(experiment)
        return
    if experiment.final_status != ExperimentStatus.FINISHED:
        ending.stop_groups(experiment.id)  # the process that ended it may have died before it had stopped every group
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
    summaries.revise(experiment)  # a batch may have come between the summary and the change of status
    tidy(experiment)


def untidy() -> Experiment | None:
    """An experiment that has ended without `tidy`: control was killed, or the broker away, just then."""
    left = ClientGroup.objects.filter(experiment__status__in=ENDED_STATUSES, projected_version__lt=F("version"))
    group = left.select_related("experiment").order_by("id").first()
    return group.experiment if group else None


def tidy_if_untidy(experiment: Experiment) -> None:
    """As `tidy`, where that was left undone."""
    if experiment.groups.filter(projected_version__lt=F("version")).exists():
        tidy(experiment)


def tidy(experiment: Experiment) -> None:
    """Removes from Redis what has ended for sure; a shard that is out of reach finds the stop when it returns."""
    by_group: dict[str, list[Shard]] = {}
    for shard in shards.of_experiment(experiment):
        by_group.setdefault(shard.group_id, []).append(shard)
    for group_id, members in by_group.items():
        shard_ids = [shard.id for shard in members]
        if all(shards.is_over(shard) for shard in members):
            desired.forget(group_id, shard_ids)
        else:
            left_s = max(0.0, _time_left_s(experiment)) + _longest_request_s(experiment)
            desired.leave_stop(group_id, shard_ids, round(left_s) + OUT_OF_REACH_S)


def _place(experiment: Experiment) -> None:
    placed = set(experiment.groups.values_list("workload_id", flat=True))
    if not placed:
        for service, route in experiment.plan.get("routing", {}).items():
            routing_services.set_record(service, route["hosts"], route["weights"], by=f"experiment {experiment.id}")
    for workload in experiment.workloads.all():
        if workload.id not in placed:
            if _reads_table(workload) and RedisRoutingTable(redis_client()).read(workload.service) is None:
                raise NoRoute(
                    f"service {workload.service} has no routing record: set one in the plan's `routing`, "
                    f"or with `manage.py set_route {workload.service} HOST:PORT`"
                )
            shards.place_group(experiment, workload)


def _reads_table(workload: Workload) -> bool:
    """Whether requests go to the hosts of a routing record, on some worker at least.

    Raises:
        NoMatchingWorkers: except with placement `queue`, where workers may join later; then the default router counts.
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
    waited = timezone.now() - (experiment.starting_at or timezone.now())
    if waited > timedelta(seconds=settings.GALILEO_START_TIMEOUT_S):
        _fail(experiment, f"{reason} within {settings.GALILEO_START_TIMEOUT_S} s")


def _overdue(experiment: Experiment, members: list[Shard], left_s: float) -> str:
    if left_s > -OVERTIME_S or left_s > -OVERTIME_S - _longest_request_s(experiment):
        return ""
    late = [shard for shard in members if not shard.has_ended]
    return f"shard {late[0]} {late[0].place} had not ended {OVERTIME_S} s after its time" if late else ""


def _time_left_s(experiment: Experiment) -> float:
    """Time until the plan's end; negative after it, the whole duration before the start is known."""
    duration_s = max(sum(step[0] for step in workload.spec["schedule"]) for workload in experiment.workloads.all())
    if experiment.start_broker_ns is None:
        return float(duration_s)
    return float(duration_s - (broker_now_ns() - experiment.start_broker_ns) / 1e9)


def _longest_request_s(experiment: Experiment) -> float:
    return max(longest_request_s(workload.spec) for workload in experiment.workloads.all())


def give_up_when_overdue(experiment: Experiment) -> None:
    """Ends an experiment whose phase fails again and again, so that it cannot hold up the queue for ever."""
    now = timezone.now()
    if experiment.status == ExperimentStatus.STARTING:
        _fail_when_overdue(experiment, "it could not be started (see the log of control)")
    elif experiment.status == ExperimentStatus.FINALIZING and experiment.finalizing_at is not None:
        if now - experiment.finalizing_at > timedelta(seconds=2 * settings.GALILEO_FINALIZE_TIMEOUT_S):
            reason = f"{experiment.reason} its summary could not be made (see the log of control)".strip()
            ending.conclude(experiment, ExperimentStatus.FAILED, reason=reason)
    elif not experiment.interactive and (
        overdue := _overdue(experiment, shards.of_experiment(experiment), _time_left_s(experiment))
    ):
        _fail(experiment, overdue)


def _is_awaited(shard: Shard, waited: timedelta) -> bool:
    if shard.batches is None:
        # Lost, or ordered and never taken by a worker: the number of batches to wait for is unknown.
        is_unknown = shard.status in (ShardStatus.LOST, ShardStatus.DISPATCHED)
        return not is_unknown or waited < timedelta(seconds=LOST_SETTLE_S)
    return Batch.objects.filter(shard=shard, attempt=shard.attempt).count() < shard.batches
