"""What a row must not leave behind: keys, waiting messages, spool files, processes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import psutil

from tests.faults.stack import WORKERS, Stack
from tests.support.process_tree import agents_of, command_of

_LIVE = re.compile(
    r"galileo:workers"  # the registry: the names of the workers, which live on
    r"|galileo:worker:.*"  # their heartbeats
    r"|galileo:ingest:(progress:.*|orphans|malformed)"  # counters that only grow
    r"|galileo:reconcile:lock"  # held during each second's pass, and expires by itself
    r"|routing:.*"  # the routing table outlives the plan that has set it
    r"|telemd\.info:.*"  # what the nodes are; expires a minute after its agent
    r"|_kombu\.binding(_permanent)?\..*"  # kombu's names of queues, of which a killed process leaves its own
)
# An attempt of a shard that is out of reach when its experiment ends finds the stop, and its fence, when it comes back;
# they must expire by themselves.
_FOR_THE_LOST = re.compile(r"galileo:group:[^:]+|galileo:shard:\d+(:newest)?")
# What a consumer had in hand when it was killed or lost its broker. Kombu hands it out again after the visibility
# time-out of 300 s, and whoever takes it then finds it done or void. No consumer has more than one message in hand.
_IN_HAND = re.compile(r"unacked|unacked_index")
_CONSUMERS = 4
_SPOOLED = ("*.batch", "*.tmp", "*.running")
_POLL_S = 0.25
_SHOWN = 600  # characters


def wait_for_none(stack: Stack, known: set[str], *, lost_shards: bool, within_s: float = 12.0) -> list[str]:
    """A sentence for everything that is still left after a while; `known` are the keys that were there before."""
    ends_s = time.monotonic() + within_s
    while found := [*_keys(stack, known, lost_shards), *_files(stack), *_processes(stack)]:
        if time.monotonic() > ends_s:
            return found
        time.sleep(_POLL_S)
    return []


def keys(stack: Stack) -> set[str]:
    """All keys of the broker."""
    found: Any = stack.broker.keys()
    return {key.decode() for key in found}


def _keys(stack: Stack, known: set[str], lost_shards: bool) -> Iterator[str]:
    for key in sorted(keys(stack) - known):
        is_to_expire = lost_shards and _FOR_THE_LOST.fullmatch(key)
        is_in_hand = _IN_HAND.fullmatch(key) and _count_in_hand(stack) <= _CONSUMERS
        if not (_LIVE.fullmatch(key) or (is_to_expire and _expires(stack, key)) or is_in_hand):
            yield f"Redis key {key} is left: {_content(stack, key)}"


def _content(stack: Stack, key: str) -> str:
    """The beginning of what a key holds."""
    broker: Any = stack.broker
    kind = broker.type(key)
    if kind == b"list":
        return str(broker.lrange(key, 0, 2))[:_SHOWN]
    if kind == b"hash":
        return str(broker.hgetall(key))[:_SHOWN]
    return str(broker.get(key))[:_SHOWN] if kind == b"string" else kind.decode()


def _count_in_hand(stack: Stack) -> int:
    count: Any = stack.broker.hlen("unacked")
    return int(count)


def _expires(stack: Stack, key: str) -> bool:
    left_s: Any = stack.broker.ttl(key)
    return bool(left_s != -1)


def _files(stack: Stack) -> Iterator[str]:
    for worker in WORKERS:
        folder = stack.galileo.spool(worker)
        for path in [path for pattern in _SPOOLED for path in folder.glob(pattern)]:
            yield f"{path.name} is left in the spool of {worker}"


def _processes(stack: Stack) -> Iterator[str]:
    """Processes with the rig's mark that do not descend from one that it runs, and agents too many."""
    family = set()
    for name, child in stack.galileo.children.items():
        if child.exit_status() is not None:
            yield f"{name} does not run"
            continue
        main = psutil.Process(child.pid)
        descendants = main.children(recursive=True)
        family |= {main, *descendants}
        agents = agents_of(main)
        if len(agents) != (name in WORKERS):
            yield f"{name} has {len(agents)} agents"
    for process in stack.processes():
        if process not in family and process.is_running():
            yield f"process {process.pid} is left: {command_of(process)}"
