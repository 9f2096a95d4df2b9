"""The nodes that publish telemetry, through a worker's agent or telemd: their list, their commands, their facts."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from experiments.models import Experiment, NodeInfo, Recording, Worker
from experiments.services.broker import as_text
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

# Limits on an info hash, which any program may write.
MAX_FIELDS = 64
MAX_LENGTH = 1000


class NoSuchNode(NotFound):
    """A node does not listen for commands; the message lists those that do."""


def listening() -> list[str]:
    """Names of the nodes that listen for commands, sorted. Raises redis.RedisError when the broker is away."""
    channels = (as_text(channel) for channel in redis_client().pubsub_channels(COMMANDS_PATTERN))
    names = (channel.removeprefix(COMMANDS_PREFIX) for channel in channels)
    return sorted(name for name in names if is_name(name, MAX_NODE))


def send_command(command: str, wanted: Iterable[str] | None = None) -> list[str]:
    """Sends a command to these nodes, or to all that listen; returns their names.

    Raises:
        NoSuchNode: one of them does not listen; the command was sent to none of them.
    """
    known = listening()
    names = known if wanted is None else list(dict.fromkeys(wanted))
    if absent := [name for name in names if name not in known]:
        raise NoSuchNode(
            f"no telemetry daemon listens on {', '.join(absent)}; these listen: {', '.join(known) or 'none'}"
        )
    for name in names:
        redis_client().publish(commands_channel(name), command)
    return names


def store_nodes(*, also_known: bool = False) -> None:
    """Starts the recording of every active experiment without one, and stores the facts about its nodes.

    Raises redis.RedisError when the broker is away; then nothing was stored.

    Args:
        also_known: adds new nodes to the recordings that exist, too.
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
        # The experiment may be deleted meanwhile. The facts that are stored already stay as they were.
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
    # Another program may have set a key of another type.
    return {name: _fields(found) if isinstance(found, dict) else {} for name, found in zip(names, hashes, strict=True)}


def _fields(found: dict[Any, Any]) -> dict[str, str]:
    fields = list(found.items())[:MAX_FIELDS]
    return {as_text(field)[:MAX_LENGTH]: as_text(value)[:MAX_LENGTH] for field, value in fields}


def _workers() -> dict[str, dict[str, Any]]:
    """The nodes of live workers, from their agents' heartbeats."""
    names = ("hostname", "machine", "cores", "memory_bytes", "slots", "labels", "versions")
    return {worker.name: {name: getattr(worker, name) for name in names} for worker in Worker.objects.live()}
