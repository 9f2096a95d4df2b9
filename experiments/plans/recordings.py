"""Recordings: times or gaps of arrivals in a plan, in a CSV or JSON file or in Redis lists, and their rates.

The k-th recorded arrival of a service belongs to client k mod N, as with constant arrivals. A recording is part of the
plan that is stored, so that the experiment can be repeated without the file or the lists.
"""

from __future__ import annotations

import csv
import io
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Self

import redis
from pydantic import BeforeValidator, Field

from experiments.plans.fields import MAX_DURATION_S, NS, number_list, number_reason
from experiments.plans.parsing import PlanErrors, PlanInvalid, Section
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.keys import is_own_key
from routing.errors import Code, FieldError, shown

PROCESS = "process"
# Each shard and each agent reads them in the document of their group.
MAX_RECORDED = 50_000
WAY_ROUND = "replay a longer recording in parts, an experiment each, or give its rates as `ticks` of short intervals"
MAX_LISTS = 1000
MAX_FILE_BYTES = 8 << 20
TIMES, GAPS, FILE, LISTS = "times", "gaps", "file", "lists"
_COLUMNS = {"time": TIMES, "gap": GAPS}
_KEY = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]{1,191}")

Recording = dict[str, list[Any]]
Reader = Callable[[Any], Recording]

_Numbers = Annotated[
    list[float],
    number_list(
        lambda item: number_reason(item, 0, MAX_DURATION_S),
        "seconds",
        Annotated[float, Field(ge=0, le=MAX_DURATION_S)],
        most=MAX_RECORDED,
        least=1,
        remedy=WAY_ROUND,
    ),
]
# Longer than a plan may last, so that a time after it can only be one of the Unix epoch; and the year 5138.
_UNIX_FROM_S, _UNIX_TO_S = 1e9, 1e11


def _since_the_first(times: object) -> object:
    """Unix times, as logs have them, as seconds since the first of them; anything else as it is."""
    if not isinstance(times, list | tuple) or not times:
        return times
    # Later times are refused as they are: integers above 1e308 cannot be subtracted from a float.
    if not all(isinstance(time_s, int | float) and _UNIX_FROM_S <= time_s <= _UNIX_TO_S for time_s in times):
        return times
    first_s = min(times)
    return [round(time_s - first_s, 6) for time_s in times]


_Times = Annotated[_Numbers, BeforeValidator(_since_the_first)]


class RecordedArrivals(Section):
    """Recorded arrivals: `times` since the start or `gaps`, in seconds. `with_recordings` reads files and lists.

    Times that are all of the Unix epoch count from the first of them.
    """

    process: str = PRERECORDED
    times: _Times | None = None
    gaps: _Numbers | None = None
    file: Any = None
    lists: Any = None

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        named = [key for key in (FILE, LISTS) if key in given]
        for key in named:
            errors.add(
                (key,), Code.CONFLICT, f"cannot be read here; give the recorded `{TIMES}` or `{GAPS}` themselves"
            )
        if not named and (TIMES in given) == (GAPS in given):
            errors.add((), Code.REQUIRED, f"must have one of `{TIMES}`, `{GAPS}`, `{FILE}` and `{LISTS}`")
        return self

    @property
    def times_s(self) -> list[float]:
        """The times in order, in seconds since the start."""
        times = self.times if self.gaps is None else accumulate(self.gaps)
        return sorted(round(time_s, 9) for time_s in times or ())


def rates_rps(times_s: Sequence[float], intervals_ns: Sequence[int]) -> list[float]:
    """The mean rate of the recorded arrivals in each interval."""
    times_ns = [round(time_s * NS) for time_s in times_s]
    rates = []
    end_ns = before = 0
    for interval_ns in intervals_ns:
        end_ns += interval_ns
        arrivals = bisect_left(times_ns, end_ns)
        rates.append((arrivals - before) * NS / interval_ns)
        before = arrivals
    return rates


def with_recordings(data: Any, readers: Mapping[str, Reader]) -> Any:
    """The plan's data with the recordings that it only names; `parse` finds all other errors.

    Args:
        readers: by key, `file` or `lists`: a function of the key's value that returns {times: […]} or {gaps: […]}, or
            raises ValueError with a message.

    Raises:
        PlanInvalid: a recording that cannot be read.
    """
    configuration = data.get("configuration") if isinstance(data, dict) else None
    workloads = configuration.get("workloads") if isinstance(configuration, dict) else None
    if not isinstance(configuration, dict) or not isinstance(workloads, list):
        return data
    errors, found = [], []
    for index, workload in enumerate(workloads):
        pattern = workload.get("arrival_pattern") if isinstance(workload, dict) else None
        if not isinstance(pattern, dict) or pattern.get(PROCESS) != PRERECORDED:
            found.append(workload)
            continue
        read: dict[str, Any] = {}
        for key, value in pattern.items():
            try:
                read |= readers[key](value) if key in readers else {key: value}
            except ValueError as error:
                path = f"configuration.workloads[{index}].arrival_pattern.{key}"
                errors.append(FieldError(path, Code.UNREADABLE, str(error)))
        found.append({**workload, "arrival_pattern": read})
    if errors:
        raise PlanInvalid(errors)
    return {**data, "configuration": {**configuration, "workloads": found}}


def read_file(folder: Path, name: object) -> Recording:
    """A CSV or JSON file, by a name relative to the folder. Raises ValueError with a message."""
    if not isinstance(name, str | PathLike):
        raise ValueError(f"must be the name of a file, got {shown(name)}")
    path = folder / name
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path} must have at most {MAX_FILE_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid UTF-8") from error
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text)


def read_lists(client: redis.Redis, keys: object) -> Recording:
    """The times of all arrivals whose gaps lie in Redis lists, one list per recorded client; the lists are kept.

    They have the original's form: the key is the client's id, and the gaps were added with LPUSH, so that the oldest
    one comes last.

    Raises:
        ValueError: with a message, which shows none of a list's values, as the list may hold other users' data.
        redis.RedisError: Redis cannot be reached.
    """
    return {TIMES: sorted(time_s for gaps in gaps_of_lists(client, keys) for time_s in accumulate(gaps))}


def gaps_of_lists(client: redis.Redis, keys: object) -> list[list[float]]:
    """The gaps of each of these lists, oldest first; raises as `read_lists` does."""
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_LISTS:
        raise ValueError(f"must have from 1 to {MAX_LISTS:,} keys of Redis lists, one per client")
    found: list[list[float]] = []
    total = 0
    for key in keys:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"must be the key of a Redis list, got {shown(key)}")
        if is_own_key(key):
            raise ValueError(f"{shown(key)} is a key of Galileo or Celery, not a recording; name another list")
        found.append(_gaps_of(client, key))
        total += len(found[-1])
        if total > MAX_RECORDED:
            raise ValueError(f"the lists hold more than {MAX_RECORDED:,} gaps; {WAY_ROUND}")
    return found


def _gaps_of(client: redis.Redis, key: str) -> list[float]:
    """At most MAX_RECORDED + 1 of a list's gaps, the oldest one first."""
    try:
        found: Any = client.lrange(key, -MAX_RECORDED - 1, -1)
        gaps = [float(gap) for gap in reversed(found)]
    except redis.ResponseError as error:
        raise ValueError(f"{key!r} is not a list in Redis") from error
    except ValueError as error:
        raise ValueError(f"the list {key!r} has an item that is not a number") from error
    if not gaps:
        raise ValueError(f"the list {key!r} is missing in Redis, or empty")
    if any(number_reason(gap, 0, MAX_DURATION_S) for gap in gaps):
        raise ValueError(f"the list {key!r} has an item that is not a gap in seconds")
    return gaps


def _from_json(path: Path, text: str) -> Recording:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict) or len(data) != 1 or not set(data) <= {TIMES, GAPS}:
        raise ValueError(f'{path} must hold {{"{TIMES}": […]}} or {{"{GAPS}": […]}}')
    return data


def _from_csv(path: Path, text: str) -> Recording:
    rows = csv.reader(io.StringIO(text))
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        found = [index for index, name in enumerate(header) if name in _COLUMNS]
        if len(found) != 1:
            raise ValueError(
                f"{path}: the first line must name one column `time` (seconds since the start) or `gap` (seconds since "
                "the previous arrival)"
            )
        (column,) = found
        numbers = []
        for row in rows:
            if row:  # not an empty line
                numbers.append(_number(path, rows.line_num, row[column] if column < len(row) else ""))
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: not valid CSV: {error}") from error
    return {_COLUMNS[header[column]]: numbers}


def _number(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: must be a number, got {shown(text)}") from error
