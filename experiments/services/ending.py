"""The one way to end an experiment: for the end of its load, failure, cancel, interactive stop and deletion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Case, DateTimeField, F, Value, When
from django.utils import timezone

from experiments.models import ClientGroup, Experiment, ExperimentStatus, GroupState, Shard
from experiments.plans.requests import longest_request_s
from experiments.services import broker, desired, events, sending, shards

# At most so many rows in the report's table of intervals.
_MOST_INTERVALS = 60
# A shard out of reach runs to its plan's end at most, or gives up waiting for its start, within this.
OUT_OF_REACH_S = 120
# In the order in which an experiment passes them, so that trying one after the other misses none.
_BEFORE_END = (ExperimentStatus.QUEUED, ExperimentStatus.STARTING, ExperimentStatus.RUNNING)


def finish(experiment: Experiment) -> bool:
    """Ends an experiment whose load ran to its end."""
    return _end(experiment, ExperimentStatus.FINISHED, "", [experiment.status], event="finalizing")


def fail(experiment: Experiment, reason: str) -> bool:
    return _end(experiment, ExperimentStatus.FAILED, reason, [experiment.status], event="finalizing")


def end_as_stopped(experiment: Experiment) -> bool:
    """Ends an experiment whose shards were stopped. The process that cancels writes its request and the reason later,
    unless it is killed in between."""
    reason = "its shards were told to stop"
    return _end(experiment, ExperimentStatus.CANCELLED, reason, [experiment.status], event="finalizing")


def stop(experiment: Experiment, reason: str) -> bool:
    """Ends the recording of an interactive experiment as FINISHED; its groups continue."""
    sources = [ExperimentStatus.RUNNING]
    return _end(experiment, ExperimentStatus.FINISHED, reason, sources, event="stopped", is_requested=True)


def cancel(experiment_id: str, reason: str) -> Experiment:
    """Stops an experiment's load and leads it to CANCELLED. Does nothing if it is ending or has ended.

    Raises:
        Experiment.DoesNotExist
    """
    experiment = Experiment.objects.get(id=experiment_id)
    if experiment.status in _BEFORE_END:
        if not _end(experiment, ExperimentStatus.CANCELLED, reason, _BEFORE_END, event="cancelled", is_requested=True):
            _add_request(experiment_id, reason)
        sending.kick_reconcile()
        experiment.refresh_from_db()
    return experiment


def end_at(now: datetime) -> Case:
    """The value of `ended_at` for an experiment that ends now: not before its start, which may lie ahead."""
    return Case(When(started_at__gt=now, then=F("started_at")), default=Value(now), output_field=DateTimeField())


def stop_groups(experiment_id: str) -> None:
    """Stops those of the experiment's groups that are not stopped: Redis first, their rows second."""
    groups = ClientGroup.objects.not_stopped().filter(experiment=experiment_id)
    desired.stop_now(list(groups.values_list("id", flat=True)))


def conclude(experiment: Experiment, final_status: str, **fields: Any) -> bool:
    """FINALIZING → final status. Its groups get a new version, which `clear_redis` notes as projected."""
    with transaction.atomic():
        fields["final_status"] = final_status
        if not Experiment.objects.move(experiment.id, ExperimentStatus.FINALIZING, final_status, **fields):
            return False
        experiment.groups.update(state=GroupState.STOP, version=F("version") + 1)
    return True


def uncleared() -> Iterator[Experiment]:
    """The ended experiments that still need `clear_redis`: a process was killed, or the broker away, before it."""
    groups = ClientGroup.objects.uncleared().order_by("id").values_list("experiment", flat=True)
    for experiment_id in dict.fromkeys(groups):
        yield from Experiment.objects.filter(id=experiment_id)


def clear_redis_if_needed(experiment: Experiment) -> None:
    if ClientGroup.objects.uncleared().filter(experiment=experiment).exists():
        clear_redis(experiment)


def clear_redis(experiment: Experiment) -> None:
    """Removes the keys of the groups whose shards have all ended; a shard that is out of reach finds a stop when it
    returns."""
    by_group: dict[str, list[Shard]] = {}
    for shard in shards.of_experiment(experiment):
        by_group.setdefault(shard.group_id, []).append(shard)
    for group_id, members in by_group.items():
        shard_ids = [shard.id for shard in members]
        if all(shards.is_over(shard) for shard in members):
            desired.forget(group_id, shard_ids)
        else:
            left_s = max(0.0, time_left_s(experiment)) + longest_time_out_s(experiment)
            desired.leave_stop(group_id, shard_ids, round(left_s) + OUT_OF_REACH_S)


def time_left_s(experiment: Experiment) -> float:
    """Time until the plan's end; negative after it, the whole duration before the start is known."""
    duration_s = max(sum(step[0] for step in workload.spec["schedule"]) for workload in experiment.workloads.all())
    if experiment.start_broker_ns is None:
        return float(duration_s)
    return float(duration_s - broker.elapsed_s(experiment))


def longest_time_out_s(experiment: Experiment) -> float:
    """The longest time that a request of the experiment may take."""
    return max(longest_request_s(workload.spec) for workload in experiment.workloads.all())


def _end(
    experiment: Experiment,
    final_status: ExperimentStatus,
    reason: str,
    sources: Sequence[str],
    *,
    event: str,
    is_requested: bool = False,
) -> bool:
    """Leads an experiment to FINALIZING, or from the queue to its final status; returns whether this process did it.

    Args:
        sources: the statuses that it may have; the reconciler names only the one that it has decided on.
        event: its name on the timeline.
        is_requested: whether a user asked for the end.
    """
    now = timezone.now()
    fields: dict[str, Any] = {"final_status": final_status, "reason": reason, "ended_at": end_at(now)}
    if is_requested:
        fields["stop_requested_at"] = now
    if ExperimentStatus.QUEUED in sources and _move(
        experiment.id, ExperimentStatus.QUEUED, final_status, fields, event
    ):
        return True
    fields["finalizing_at"] = now
    if experiment.interactive:
        return _end_recording(experiment.id, fields, event, broker.load_time(experiment))
    if final_status != ExperimentStatus.FINISHED:
        # Redis first, so that the load ends at once, even if this process is killed before the row is changed.
        stop_groups(experiment.id)
    fields["ended_at"] = end_at(broker.load_time(experiment))
    for source in sources:
        if source != ExperimentStatus.QUEUED and _move(
            experiment.id, source, ExperimentStatus.FINALIZING, fields, event
        ):
            if final_status != ExperimentStatus.FINISHED:
                stop_groups(experiment.id)  # groups may have been made since the stop above
            return True
    return False


def _move(experiment_id: str, source: str, target: str, fields: dict[str, Any], event: str) -> bool:
    with transaction.atomic():
        if not Experiment.objects.move(experiment_id, source, target, **fields):
            return False
        events.record(experiment_id, event, fields["reason"])
    return True


def _end_recording(experiment_id: str, fields: dict[str, Any], event: str, ended_at: datetime) -> bool:
    """Ends a running interactive experiment; its groups continue without it."""
    with transaction.atomic():
        experiment = Experiment.objects.select_for_update().get(id=experiment_id)
        if experiment.status != ExperimentStatus.RUNNING:
            return False
        assert experiment.started_at is not None  # it runs
        ended_at = max(ended_at, experiment.started_at)
        duration_s = max(0.001, (ended_at - experiment.started_at).total_seconds())
        groups = list(ClientGroup.objects.interactive().select_for_update().filter(experiment=experiment))
        plan = {
            # Each group's version from which on its batches do not belong to the experiment.
            "stopped_at": {group.id: group.version + 1 for group in groups},
            "configuration": {"interval": max(1.0, round(duration_s / _MOST_INTERVALS))},
        }
        Experiment.objects.move(
            experiment_id,
            ExperimentStatus.RUNNING,
            ExperimentStatus.FINALIZING,
            **{**fields, "ended_at": ended_at},
            plan=plan,
        )
        for group in groups:
            desired.record_in(group, None)
        for workload in experiment.workloads.all():
            workload.spec["schedule"] = [[duration_s, float(workload.clients)]]
            workload.save(update_fields=["spec"])
        events.record(experiment_id, event, fields["reason"], at=ended_at)
    return True


def _add_request(experiment_id: str, reason: str) -> None:
    """The reconciler saw the stopped shards before the request was written (`end_as_stopped`): writes it now."""
    now = timezone.now()
    unrequested = Experiment.objects.filter(
        id=experiment_id, final_status=ExperimentStatus.CANCELLED, stop_requested_at=None
    )
    if unrequested.update(reason=reason, stop_requested_at=now):
        events.record(experiment_id, "cancelled", reason, at=now)
