"""Where a workload's shards run: on which workers, how many of them, and by which policy they are placed."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.plans.fields import Section, child, shown
from experiments.plans.load import Load
from experiments.plans.model import AUTO, BALANCED, PLACEMENTS, QUEUE
from loadgen.protocol.environment import NAME_PATTERN, PREFIX
from loadgen.protocol.messages import CLOSED, INTERACTIVE, OPEN

MAX_SHARDS_PER_WORKER = 256
MAX_SHARDS = 1024

# What a user raises to have more clients.
_CLIENTS_KEY = {OPEN: "clients_per_host", CLOSED: "clients", INTERACTIVE: "num"}


@dataclass(frozen=True)
class Placing:
    """`shards` is given with policy `queue` alone, `shards_per_worker` with `balanced` alone; None there: auto."""

    policy: str = BALANCED
    labels: dict[str, str] = field(default_factory=dict)
    shards_per_worker: int | None = None
    shards: int | None = None


def read_placing(section: Section, default_labels: dict[str, str], load: Load) -> Placing:
    policy = section.choice("placement", BALANCED, PLACEMENTS)
    labels = read_labels(section, default_labels)
    if policy == QUEUE:
        return Placing(policy, labels, shards=_read_shards(section, labels, load))
    if section.has("shards"):
        section.wrong("shards", f"has no effect without placement: {QUEUE}; add that, or take shards_per_worker")
    shards_per_worker = _read_shards_per_worker(section)
    _check_clients(section, "shards_per_worker", shards_per_worker, load)
    return Placing(policy, labels, shards_per_worker=shards_per_worker)


def _read_shards(section: Section, labels: dict[str, str], load: Load) -> int | None:
    """The number of shards that wait in a label's queue, and whether there is one such label."""
    if section.has("shards_per_worker"):
        section.wrong(
            "shards_per_worker", f"has no effect with placement: {QUEUE}, where `shards` are all there are; remove it"
        )
    if len(labels) != 1:
        section.wrong(
            "worker_labels",
            f"placement: {QUEUE} needs exactly one label (the plan's count, too), in whose queue the shards wait, such "
            f"as {{zone: A}}; there {'are ' + ', '.join(labels) if labels else 'is none'}",
        )
    if not section.has("shards"):
        section.wrong("shards", f"is missing; placement: {QUEUE} takes a fixed number of shards")
    shards = section.optional_integer("shards", 1, MAX_SHARDS)
    _check_clients(section, "shards", shards, load)
    return shards


def _check_clients(section: Section, key: str, shards: int | None, load: Load) -> None:
    if shards is not None and shards > load.clients:
        section.wrong(
            key,
            f"each shard needs a client of its own, and there are {load.clients}: raise {_CLIENTS_KEY[load.model]} to "
            f"{shards} at least",
        )


def _read_shards_per_worker(section: Section) -> int | None:
    """None for auto."""
    value = section.get("shards_per_worker")
    if value is None or value == AUTO:
        return None
    if isinstance(value, str):
        section.wrong("shards_per_worker", f"{AUTO} or a whole number is needed, not {shown(value)}")
        return None
    return section.integer("shards_per_worker", 1, 1, MAX_SHARDS_PER_WORKER)


def read_labels(section: Section, defaults: dict[str, str]) -> dict[str, str]:
    """Labels without the prefix `galileo_`, on top of the defaults."""
    value = section.get("worker_labels")
    if value is None:
        return dict(defaults)
    path = section.at("worker_labels")
    if not isinstance(value, dict):
        section.wrong("worker_labels", f"a mapping of labels is needed, not {shown(value)}")
        return dict(defaults)
    labels = {}
    for key, item in value.items():
        label = key.removeprefix(PREFIX) if isinstance(key, str) else ""
        if not NAME_PATTERN.fullmatch(label):
            section.problems.add(
                child(path, key), "a label's name takes letters, digits, '.', '_' and '-' (at most 63)"
            )
        elif label in labels:
            section.problems.add(child(path, key), "this label is there twice, with and without galileo_")
        text = str(item) if isinstance(item, int) and not isinstance(item, bool) and abs(item) < 10**18 else item
        if not isinstance(text, str) or not NAME_PATTERN.fullmatch(text):
            section.problems.add(
                child(path, key),
                f"a text of letters, digits, '.', '_' and '-' (at most 63) is needed, not {shown(item)}",
            )
        labels[label] = str(text)[:64] if isinstance(text, str) else ""
    return {**defaults, **labels}
