"""The target's own log as ground truth: which of an experiment's requests it says it received, and when.

Any text log will do in which each line holds the request's id as it came (an nginx access log, the example service's
log): ids are found by their pattern, wherever they stand. A line that starts with a Unix time counts for the rate, too.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadgen.protocol.request_ids import IdForm, id_begin, id_form

_UNIX_TIME = re.compile(rb"\s*(\d{9,11}(?:\.\d+)?)(?=\s)")
_MAX_NUMBER = 0xFFFFFFFF
# Group, client, sequence, and how many redirects the arrival had followed.
_Id = tuple[str, int, int, int]


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


def read_log(path: Path, headers: Mapping[str, str]) -> TargetLog:
    """The ids of these groups in a log. An id that stands in a line twice was received once.

    Args:
        headers: by the group's id, the header that its requests carry their ids in.

    Raises:
        TargetLogError: when the file cannot be read.
    """
    groups = {group_id: LoggedIds() for group_id in headers}
    dotted = _Dotted(group_id for group_id, header in headers.items() if id_form(header) == IdForm.DOTTED)
    traced = _Traced(group_id for group_id, header in headers.items() if id_form(header) == IdForm.TRACEPARENT)
    lines = 0
    try:
        with path.open("rb") as file:
            for line in file:
                lines += 1
                found = {*dotted.find(line), *traced.find(line)}
                if not found:
                    continue
                start = _UNIX_TIME.match(line)
                time_s = float(start[1]) if start else float("nan")
                for group_id, client, sequence, hop in found:
                    ids, key = groups[group_id], key_of(client, sequence)
                    if hop:
                        ids.hop_keys.append(key)
                        ids.hop_numbers.append(hop)
                    else:
                        ids.keys.append(key)
                        ids.times_s.append(time_s)
    except OSError as error:
        raise TargetLogError(f"target log {path}: {error.strerror or error}") from error
    return TargetLog(str(path), lines, groups)


def key_of(client: int, sequence: int) -> int:
    """A client and its sequence number as one integer; a number that no client reaches becomes the greatest."""
    return min(client, _MAX_NUMBER) << 32 | min(sequence, _MAX_NUMBER)


class _Dotted:
    """Finds ids of the form IdForm.DOTTED."""

    def __init__(self, group_ids: Iterable[str]) -> None:
        self._pattern: re.Pattern[bytes] | None = None
        if names := b"|".join(re.escape(group_id.encode()) for group_id in group_ids):
            # Neither part of a longer name nor with leading zeros: what request_id makes, and the number of a hop.
            self._pattern = re.compile(
                rb"(?<![\w.-])(" + names + rb")\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:\.([1-9]\d?))?(?![\w-]|\.\w)"
            )

    def find(self, line: bytes) -> Iterator[_Id]:
        for name, client, sequence, hop in self._pattern.findall(line) if self._pattern else ():
            yield name.decode(), int(client), int(sequence), int(hop or 0)


class _Traced:
    """Finds ids of the form IdForm.TRACEPARENT. A trace id alone is none: the target's own requests carry it on."""

    def __init__(self, group_ids: Iterable[str]) -> None:
        self._groups = {id_begin(IdForm.TRACEPARENT, group_id).encode(): group_id for group_id in group_ids}
        self._pattern: re.Pattern[bytes] | None = None
        if begins := b"|".join(self._groups):
            # The span id repeats the sequence; the last two digits are flags, which a proxy may have changed.
            self._pattern = re.compile(
                rb"(?<![\w-])(" + begins + rb")([0-9a-f]{8})([0-9a-f]{8})-\3([0-9a-f]{8})-[0-9a-f]{2}(?![\w-])"
            )

    def find(self, line: bytes) -> Iterator[_Id]:
        for begin, client, sequence, number in self._pattern.findall(line) if self._pattern else ():
            if int(number, 16):
                yield self._groups[begin], int(client, 16), int(sequence, 16), int(number, 16) - 1
