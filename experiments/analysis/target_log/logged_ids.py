"""TargetLog: the requests of an experiment in a target's log, found by the pattern of their ids.

Any text log works whose lines hold the request's id as it was received (an nginx access log, the example service's
log), at any position. If a line starts with a Unix time, it counts for the rate, too.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from loadgen.protocol.request_ids import IdForm, id_begin
from routing.errors import Code, InvalidInput, shown

# Paths of errors: the arguments of `manage.py report`.
PATH, MATCH_PATH = "--target-log", "--target-log-match"
_UNIX_TIME = re.compile(rb"\s*(\d{9,11}(?:\.\d+)?)(?=\s)")
_DIGITS = b"0123456789"
_MAX_NUMBER = 0xFFFFFFFF
# Group, client, sequence, and the number of redirects that the arrival had followed.
LoggedId = tuple[str, int, int, int]


class TargetLogError(InvalidInput):
    """A target log cannot be read, or cannot be compared with the experiment."""


@dataclass
class LoggedIds:
    """The requests of one group in one log, with one entry per line.

    `keys` are client << 32 | sequence; `hops` are the redirects that the arrival had followed. `times_s` are the lines'
    Unix times in the target's clock, NaN if missing. Lines that differ in nothing but digits have the same number in
    `shapes`: the same statement of the target's program wrote them.
    """

    keys: array[int] = field(default_factory=lambda: array("Q"))
    hops: array[int] = field(default_factory=lambda: array("Q"))
    times_s: array[float] = field(default_factory=lambda: array("d"))
    shapes: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, client: int, sequence: int, hop: int, line: bytes) -> None:
        time = _UNIX_TIME.match(line)
        self.keys.append(key_of(client, sequence))
        self.hops.append(min(hop, _MAX_NUMBER))
        self.times_s.append(float(time[1]) if time else float("nan"))
        self.shapes.append(crc32(line.translate(None, _DIGITS)))

    def requests(self) -> NDArray[np.uint64]:
        """A row of (key, hops) for each line."""
        return np.array([self.keys, self.hops], dtype=np.uint64).T

    def first_requests(self) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Keys and times of the lines without those of requests after a redirect."""
        first = np.array(self.hops, dtype=np.uint64) == 0
        return np.array(self.keys, dtype=np.uint64)[first], np.array(self.times_s, dtype=np.float64)[first]


@dataclass(frozen=True)
class TargetLog:
    """The requests of an experiment in one log file; `lines` counts all of its lines, `chosen` those that count."""

    path: Path
    lines: int
    chosen: int
    groups: dict[str, LoggedIds]

    @property
    def requests(self) -> int:
        """The number of arrivals whose first request is in the log."""
        return sum(len(np.unique(ids.first_requests()[0])) for ids in self.groups.values())


def read_log(path: Path, forms: Mapping[str, IdForm], match: re.Pattern[bytes] | None = None) -> TargetLog:
    """Reads the ids of some groups from a log. An id that occurs twice in one line counts once.

    Args:
        forms: group id → the form of its ids.
        match: only lines in which it is found count; None: all.

    Raises:
        TargetLogError: the file cannot be read.
    """
    groups = {group_id: LoggedIds() for group_id in forms}
    finder = IdFinder(forms)
    lines = chosen = 0
    for line in lines_of(path):
        lines += 1
        if match is None or match.search(line):
            chosen += 1
            for group_id, client, sequence, hop in finder.find(line):
                groups[group_id].add(client, sequence, hop, line)
    return TargetLog(path, lines, chosen, groups)


def lines_of(path: Path) -> Iterator[bytes]:
    """Yields the lines of a log. Raises TargetLogError if it cannot be read."""
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise TargetLogError.of(PATH, Code.UNREADABLE, f"{path}: {error.strerror or error}") from error


def line_pattern(text: str) -> re.Pattern[bytes]:
    """Returns the regular expression that chooses lines of logs.

    Raises:
        TargetLogError: it is not a valid regular expression.
    """
    try:
        return re.compile(text.encode())
    except (re.error, UnicodeEncodeError) as error:
        message = f"must be a regular expression of Python, got {shown(text)}: {error}"
        raise TargetLogError.of(MATCH_PATH, Code.FORMAT, message) from error


def key_of(client: int, sequence: int) -> int:
    """A client and its sequence number as one integer; each is limited to 32 bits."""
    return min(client, _MAX_NUMBER) << 32 | min(sequence, _MAX_NUMBER)


class IdFinder:
    """Finds the ids of some groups in a line.

    Args:
        forms: group id → the form of its ids.
    """

    def __init__(self, forms: Mapping[str, IdForm]) -> None:
        self._finders = [
            kind([group_id for group_id, form in forms.items() if form == made])
            for made, kind in ((IdForm.DASHED, _Dashed), (IdForm.DOTTED, _Dotted), (IdForm.TRACEPARENT, _Traced))
        ]

    def find(self, line: bytes) -> set[LoggedId]:
        return {found for finder in self._finders for found in finder.find(line)}


class _Dashed:
    """Finds ids of the form IdForm.DASHED."""

    def __init__(self, group_ids: Iterable[str]) -> None:
        self._groups = {id_begin(IdForm.DASHED, group_id).encode(): group_id for group_id in group_ids}
        self._pattern: re.Pattern[bytes] | None = None
        if begins := b"|".join(map(re.escape, self._groups)):
            # Ten digits, or more without a leading zero.
            number = rb"(\d{10}|[1-9]\d{10,})"
            self._pattern = re.compile(
                rb"(?<![\w.-])(" + begins + rb")" + number + rb"-" + number + rb"(?:-([1-9]\d?))?(?![\w-]|\.\w)"
            )

    def find(self, line: bytes) -> Iterator[LoggedId]:
        for begin, client, sequence, hop in self._pattern.findall(line) if self._pattern else ():
            yield self._groups[begin], int(client), int(sequence), int(hop or 0)


class _Dotted:
    """Finds ids of the form IdForm.DOTTED."""

    def __init__(self, group_ids: Iterable[str]) -> None:
        self._pattern: re.Pattern[bytes] | None = None
        if names := b"|".join(re.escape(group_id.encode()) for group_id in group_ids):
            # The form that request_id makes, and the number of a redirect: not part of a longer name, no leading zeros.
            self._pattern = re.compile(
                rb"(?<![\w.-])(" + names + rb")\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:\.([1-9]\d?))?(?![\w-]|\.\w)"
            )

    def find(self, line: bytes) -> Iterator[LoggedId]:
        for name, client, sequence, hop in self._pattern.findall(line) if self._pattern else ():
            yield name.decode(), int(client), int(sequence), int(hop or 0)


class _Traced:
    """Finds ids of the form IdForm.TRACEPARENT: trace id and span id. The target's own requests repeat the trace id."""

    def __init__(self, group_ids: Iterable[str]) -> None:
        self._groups = {id_begin(IdForm.TRACEPARENT, group_id).encode(): group_id for group_id in group_ids}
        self._pattern: re.Pattern[bytes] | None = None
        if begins := b"|".join(self._groups):
            # The span id repeats the sequence; the last two digits are flags, which proxies may change.
            self._pattern = re.compile(
                rb"(?<![\w-])(" + begins + rb")([0-9a-f]{8})([0-9a-f]{8})-\3([0-9a-f]{8})-[0-9a-f]{2}(?![\w-])"
            )

    def find(self, line: bytes) -> Iterator[LoggedId]:
        for begin, client, sequence, number in self._pattern.findall(line) if self._pattern else ():
            if int(number, 16):
                yield self._groups[begin], int(client, 16), int(sequence, 16), int(number, 16) - 1
