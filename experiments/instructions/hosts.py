"""Which live workers a script's HOST means: the worker of that name, or all whose names fit a pattern."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from experiments.services import placement

# The original takes regular expressions. Of these, what anybody writes for the names of devices is kept: [0-9], . and
# .* (or *, or ?), none of which can be made to take for ever.
_PATTERN = re.compile(r"[*?\[]")


def live_hosts(host: str) -> dict[str, int]:
    """The names of the live workers that a HOST means, in order, each with its number of slots.

    Raises:
        NoMatchingWorkers: there is none; the message says which there are.
    """
    if not is_pattern(host):
        return {worker.name: worker.slots for worker in placement.matching_workers({"worker_name": host})}
    live = {worker.name: worker.slots for worker in placement.matching_workers({})}
    found = {name: live[name] for name in sorted(live) if fits(host, name)}
    if not found:
        names = ", ".join(sorted(live))
        raise placement.NoMatchingWorkers(f"no live worker's name fits {host} (there are {names})")
    return found


def is_pattern(host: str) -> bool:
    return bool(_PATTERN.search(host))


def fits(host: str, name: str) -> bool:
    """Whether a HOST means the worker of this name."""
    return host == name or (is_pattern(host) and fnmatchcase(name, host.replace(".*", "*")))
