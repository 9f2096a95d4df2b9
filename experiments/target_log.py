"""The target's own log as ground truth: which of an experiment's requests it says it received, and when.

Any text log will do in which each line holds the request's id (an nginx access log, the example service's log): ids are
found by their pattern, wherever they stand. A line that starts with a Unix time counts for the rate, too.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNIX_TIME = re.compile(rb"\s*(\d{9,11}(?:\.\d+)?)(?=\s)")
_MAX_NUMBER = 0xFFFFFFFF


class TargetLogError(Exception):
    """A log cannot be read, or tells nothing of the experiment; the message says why."""


@dataclass
class LoggedIds:
    """The requests of one group in one log, one entry per line.

    `keys` are client << 32 | sequence; `times_s` the line's Unix time in the target's clock, NaN where it has none.
    Requests that followed a redirect are apart: their arrivals' `hop_keys`, and which redirect of the arrival it was.
    """

    keys: array[int] = field(default_factory=lambda: array("Q"))
    times_s: array[float] = field(default_factory=lambda: array("d"))
    hop_keys: array[int] = field(default_factory=lambda: array("Q"))
    hop_numbers: array[int] = field(default_factory=lambda: array("Q"))

    def arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        return np.array(self.keys, dtype=np.uint64), np.array(self.times_s, dtype=np.float64)

    def hops(self) -> NDArray[np.uint64]:
        """A row of (key, number) for each request that followed a redirect."""
        return np.array([self.hop_keys, self.hop_numbers], dtype=np.uint64).T


@dataclass(frozen=True)
class TargetLog:
    """What one log file says about an experiment; `lines` counts all of its lines."""

    path: str
    lines: int
    groups: dict[str, LoggedIds]

    @property
    def requests(self) -> int:
        return sum(len(ids.keys) for ids in self.groups.values())


def read_log(path: Path, group_ids: Iterable[str]) -> TargetLog:
    """The ids of these groups in a log. An id that stands in a line twice was received once.

    Raises:
        TargetLogError: when the file cannot be read.
    """
    groups = {group_id: LoggedIds() for group_id in group_ids}
    lines = 0
    pattern = _pattern(groups)
    try:
        with path.open("rb") as file:
            for line in file:
                lines += 1
                found = set(pattern.findall(line)) if pattern else set()
                if not found:
                    continue
                start = _UNIX_TIME.match(line)
                time_s = float(start[1]) if start else float("nan")
                for group_id, client, sequence, hop in found:
                    ids, key = groups[group_id.decode()], key_of(int(client), int(sequence))
                    if hop:
                        ids.hop_keys.append(key)
                        ids.hop_numbers.append(int(hop))
                    else:
                        ids.keys.append(key)
                        ids.times_s.append(time_s)
    except OSError as error:
        raise TargetLogError(f"target log {path}: {error.strerror or error}") from error
    return TargetLog(str(path), lines, groups)


def key_of(client: int, sequence: int) -> int:
    """A client and its sequence number as one integer; a number that no client reaches becomes the greatest."""
    return min(client, _MAX_NUMBER) << 32 | min(sequence, _MAX_NUMBER)


def _pattern(group_ids: Iterable[str]) -> re.Pattern[bytes] | None:
    names = b"|".join(re.escape(group_id.encode()) for group_id in group_ids)
    if not names:
        return None
    # Neither part of a longer name nor with leading zeros: what messages.request_id makes, and the number of a hop.
    return re.compile(rb"(?<![\w.-])(" + names + rb")\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:\.([1-9]\d?))?(?![\w-]|\.\w)")
