"""The desired state of client groups: the row is authoritative and versioned, Redis holds its projection."""

import logging

import redis.exceptions
from django.db import transaction
from django.db.models import F

from experiments.models import ClientGroup, Experiment, GroupState
from loadgen.protocol import codec, keys
from loadgen.protocol.enums import DesiredState, OnWorkerLoss
from loadgen.protocol.messages import GroupDocument, WorkloadSpec
from routing.redis import redis_client

log = logging.getLogger(__name__)

# Writes the document if its version is newer, and publishes the version, in one step.
_PROJECT = """
local known = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if tonumber(ARGV[1]) <= known then return known end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'document', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return tonumber(ARGV[1])
"""


def document_of(group: ClientGroup) -> GroupDocument:
    interactive = group.interactive
    return GroupDocument(
        version=group.version,
        group_id=group.id,
        experiment_id=group.experiment_id,
        state=DesiredState(group.state),
        seed=group.random_seed,
        total_clients=group.total_clients,
        workload=WorkloadSpec(**group.workload.spec),
        start_broker_ns=group.start_broker_ns,
        on_worker_loss=OnWorkerLoss(group.on_worker_loss),
        phase=interactive.command if interactive else None,
        active=interactive.active if interactive else [],
        pending=interactive.pending if interactive else [],
        tracing=group.experiment is None or group.experiment.tracing,
    )


def renew(group_ids: list[str]) -> None:
    """Renews the lease of interactive groups; their shards pause when it expires.

    A group whose key holds a value of another type does not keep the others from being renewed.
    """
    pipeline = redis_client().pipeline(transaction=False)
    for group_id in group_ids:
        pipeline.hincrby(keys.group_key(group_id), "renewals", 1)
    for group_id, reply in zip(group_ids, pipeline.execute(raise_on_error=False), strict=True):
        if isinstance(reply, Exception):
            log.warning("group %s: its lease cannot be renewed: %s", group_id, reply)


def project(group_id: str) -> None:
    """Writes the group's document to Redis, unless a newer one is there. Raises redis.RedisError."""
    _note_projected(group_id, _write_newest(group_id))


def project_after_commit(group_id: str) -> None:
    """Projects after the commit; without Redis, the reconciler's `project_stale` does it later."""

    def attempt() -> None:
        try:
            project(group_id)
        except redis.exceptions.RedisError as error:
            log.warning("group %s: its desired state is written when the broker is back: %s", group_id, error)

    transaction.on_commit(attempt, robust=True)  # a document that cannot be written does not keep others from it


def project_stale(group_ids: list[str]) -> None:
    """Projects the groups whose document in Redis is older than their row, or missing."""
    versions = dict(ClientGroup.objects.filter(id__in=group_ids).values_list("id", "version"))
    pipeline = redis_client().pipeline(transaction=False)
    for group_id in versions:
        pipeline.hget(keys.group_key(group_id), "version")
    for (group_id, version), known in zip(versions.items(), pipeline.execute(), strict=True):
        if int(known or 0) < version:
            project(group_id)


def run_from(group_ids: list[str], start_broker_ns: int) -> None:
    """Sets held groups to `run` with a common start; groups that were stopped meanwhile stay stopped."""
    ClientGroup.objects.filter(id__in=group_ids, state=GroupState.HOLD).update(
        state=GroupState.RUN, start_broker_ns=start_broker_ns, version=F("version") + 1
    )
    for group_id in group_ids:
        project_after_commit(group_id)


def record_in(group: ClientGroup, experiment: Experiment | None) -> None:
    """Sets the experiment, or None, that records an interactive group from its next version on."""
    ClientGroup.objects.filter(id=group.id).update(experiment=experiment, version=F("version") + 1)
    if group.interactive is not None and group.interactive.ended_at is None:  # ended groups have no document
        project_after_commit(group.id)


def stop_now(group_ids: list[str]) -> None:
    """Stops groups: first in Redis, so that the load ends at once, then in the row, so that it stays ended.

    Without a broker only the row is changed, and the reconciler projects it.
    """
    for group in ClientGroup.objects.filter(id__in=group_ids).select_related(
        "experiment", "workload", "interactive_part"
    ):
        group.state, group.version = GroupState.STOP, group.version + 1
        try:
            _write(document_of(group))
        except redis.exceptions.RedisError as error:
            log.warning("group %s: its stop is written when the broker is back: %s", group.id, error)
        except Exception:  # the row is stopped all the same, and so are the other groups
            log.exception("group %s: its stop cannot be written", group.id)
        # Another writer may have used this version for another state: then the next version is the stop.
        while not ClientGroup.objects.filter(id=group.id, version=group.version - 1).update(
            state=GroupState.STOP, version=group.version
        ):
            row = ClientGroup.objects.filter(id=group.id).first()
            if row is None or row.state == GroupState.STOP:
                break
            group.version = row.version + 1
        project_after_commit(group.id)


def forget(group_id: str, shard_ids: list[int]) -> None:
    """Removes the keys of an ended group and its shards from Redis."""
    version = ClientGroup.objects.values_list("version", flat=True).get(id=group_id)
    redis_client().delete(keys.group_key(group_id), *_shard_keys(shard_ids))
    _note_projected(group_id, version)  # nothing is left to project


def leave_stop(group_id: str, shard_ids: list[int], seconds: int) -> None:
    """Keeps the stop of a group in Redis for as long as its shards out of reach may continue."""
    version = _write_newest(group_id)
    pipeline = redis_client().pipeline(transaction=False)
    for key in (keys.group_key(group_id), *_shard_keys(shard_ids)):
        pipeline.expire(key, seconds)
    pipeline.execute()
    _note_projected(group_id, version)


def _write_newest(group_id: str) -> int:
    """Writes the document of the current row; returns its version."""
    group = ClientGroup.objects.select_related("experiment", "workload", "interactive_part").get(id=group_id)
    _write(document_of(group))
    return group.version


def _note_projected(group_id: str, version: int) -> None:
    ClientGroup.objects.filter(id=group_id, projected_version__lt=version).update(projected_version=version)


def _shard_keys(shard_ids: list[int]) -> list[str]:
    kinds = (keys.shard_key, keys.lease_key, keys.newest_attempt_key)
    return [key(shard_id) for shard_id in shard_ids for key in kinds]


def _write(document: GroupDocument) -> None:
    redis_client().eval(
        _PROJECT,
        1,
        keys.group_key(document.group_id),
        str(document.version),
        codec.to_json(document),
        keys.group_channel(document.group_id),
    )
