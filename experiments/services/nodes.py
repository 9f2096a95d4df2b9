"""The nodes that publish telemetry, by workers' agents or by telemd: their list, and pausing them."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from experiments.models import Experiment, NodeInfo, Recording, Worker
from loadgen.protocol.topics import (
    COMMANDS_PATTERN,
    COMMANDS_PREFIX,
    MAX_NODE,
    commands_channel,
    is_name,
    node_info_key,
)
from routing.errors import NotFound
from routing.redis import redis_client

# Of an info hash, which anybody may write.
MAX_FIELDS = 64
MAX_LENGTH = 1000


class NoSuchNode(NotFound):
    """A node does not listen for commands; the message says which do."""


def listening() -> list[str]:
    """Names of the nodes that listen for commands, sorted. Raises redis.RedisError when the broker is away."""
    channels = (_text(channel) for channel in redis_client().pubsub_channels(COMMANDS_PATTERN))
    names = (channel.removeprefix(COMMANDS_PREFIX) for channel in channels)
    return sorted(name for name in names if is_name(name, MAX_NODE))


def tell(command: str, wanted: Iterable[str] | None = None) -> list[str]:
    """Sends a command to these nodes, or to all that listen; returns their names.

    Raises:
        NoSuchNode: one of them does not listen; none of them was told anything.
    """
    there = listening()
    names = there if wanted is None else list(dict.fromkeys(wanted))
    if absent := [name for name in names if name not in there]:
        raise NoSuchNode(
            f"no telemetry daemon listens on {', '.join(absent)}; these listen: {', '.join(there) or 'none'}"
        )
    for name in names:
        redis_client().publish(commands_channel(name), command)
    return names


def describe(*, also_known: bool = False) -> None:
    """Takes up every active experiment that the recorder has not seen yet: stores what its nodes are.

    Raises redis.RedisError when the broker is away, and takes up none then.

    Args:
        also_known: adds, to experiments that were taken up before, the nodes that have come since.
    """
    active = Experiment.objects.active()
    wanted = list((active if also_known else active.filter(recording__isnull=True)).values_list("id", flat=True))
    if not wanted:
        return
    infos, workers = _infos(), _workers()
    for experiment_id in wanted:
        rows = [
            NodeInfo(experiment_id=experiment_id, node=node, info=infos.get(node, {}), worker=workers.get(node, {}))
            for node in sorted({*infos, *workers})
        ]
        # The experiment may be deleted just now; and what is there already, stays as it was when the node came.
        with suppress(IntegrityError), transaction.atomic():
            Recording.objects.get_or_create(experiment_id=experiment_id, defaults={"began_at": timezone.now()})
            NodeInfo.objects.bulk_create(rows, ignore_conflicts=True)


def _infos() -> dict[str, dict[str, str]]:
    """The info hashes of all nodes that listen."""
    names = listening()
    with redis_client().pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(node_info_key(name))
        hashes: list[Any] = pipeline.execute(raise_on_error=False)
    # A key of another type was set by another program.
    return {name: _fields(found) if isinstance(found, dict) else {} for name, found in zip(names, hashes, strict=True)}


def _fields(found: dict[Any, Any]) -> dict[str, str]:
    fields = list(found.items())[:MAX_FIELDS]
    return {_text(field)[:MAX_LENGTH]: _text(value)[:MAX_LENGTH] for field, value in fields}


def _workers() -> dict[str, dict[str, Any]]:
    """The nodes of live workers, from their agents' heartbeats."""
    return {
        worker.name: {
            "hostname": worker.hostname,
            "machine": worker.machine,
            "cores": worker.cores,
            "memory_bytes": worker.memory_bytes,
            "slots": worker.slots,
            "labels": worker.labels,
            "versions": worker.versions,
        }
        for worker in Worker.objects.live()
    }


def _text(value: bytes | str) -> str:
    """A reply of Redis, with `decode_responses` or without, as every database takes it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.replace("\0", "")
