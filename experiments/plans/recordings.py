"""Recorded arrivals: times or gaps, in a plan, a CSV or JSON file or Redis lists, and the rates that they amount to.

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
from typing import Any

import redis

from experiments.plans.errors import PlanError, PlanInvalid
from experiments.plans.fields import MAX_DURATION_S, NS, Section, number_reason, shown
from loadgen.arrivals.pacer import PRERECORDED

PROCESS = "process"
# They travel in the group's document, which each shard, and each agent, reads.
MAX_RECORDED = 50_000
MAX_LISTS = 1000
MAX_FILE_BYTES = 8 << 20
TIMES, GAPS, FILE, LISTS = "times", "gaps", "file", "lists"
_COLUMNS = {"time": TIMES, "gap": GAPS}
_KEY = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]{1,191}")

Recording = dict[str, list[Any]]
Reader = Callable[[Any], Recording]


def read_recording(section: Section) -> list[float]:
    """The times in order, in seconds since the start, of a mapping with `times` or `gaps`; [] when it is wrong."""
    section.has(PROCESS)
    named = [key for key in (FILE, LISTS) if section.has(key)]
    for key in named:  # with_recordings has not been asked to read it
        section.wrong(key, f"cannot be read here; give the recorded `{TIMES}` or `{GAPS}` themselves")
    given = [key for key in (TIMES, GAPS) if section.has(key)]
    if len(given) != 1 and not named:
        section.problems.add(section.path, f"one of `{TIMES}`, `{GAPS}`, `{FILE}` and `{LISTS}` is needed")
    section.close()
    if len(given) != 1:
        return []
    (key,) = given
    value = section.get(key)
    if not isinstance(value, list | tuple):
        section.wrong(key, f"a list of seconds is needed, not {shown(value)}")
        return []
    if not 0 < len(value) <= MAX_RECORDED:
        section.wrong(key, f"from 1 to {MAX_RECORDED:,} numbers are accepted, not {len(value):,}")
        return []
    before = len(section.problems)
    for index, item in enumerate(value):
        if reason := number_reason(item, 0, MAX_DURATION_S):
            section.wrong(f"{key}[{index}]", reason)
    if len(section.problems) > before:
        return []
    return sorted(round(time_s, 9) for time_s in (accumulate(value) if key == GAPS else value))


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
    """The plan's data with the recordings that it only names; what else is wrong with it is left to `parse`.

    Args:
        readers: by key, `file` or `lists`: what gives {times: […]} or {gaps: […]} for its value, or raises ValueError
            with a sentence.

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
                errors.append(PlanError(f"configuration.workloads[{index}].arrival_pattern.{key}", str(error)))
        found.append({**workload, "arrival_pattern": read})
    if errors:
        raise PlanInvalid(errors)
    return {**data, "configuration": {**configuration, "workloads": found}}


def read_file(folder: Path, name: object) -> Recording:
    """A CSV or JSON file, by a name relative to the folder. Raises ValueError with a sentence."""
    if not isinstance(name, str | PathLike):
        raise ValueError(f"the name of a file is needed, not {shown(name)}")
    path = folder / name
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is too large: at most {MAX_FILE_BYTES >> 20} MiB are accepted")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8") from error
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text)


def read_lists(client: redis.Redis, keys: object) -> Recording:
    """The gaps of Redis lists, one per recorded client, as times of them all together; the lists stay as they are.

    They are the original's: the key is the client's id, the gaps were added with LPUSH, so the oldest one comes last.

    Raises:
        ValueError: with a sentence, which shows nothing of what a list holds: it may be anybody's.
        redis.RedisError: Redis is away.
    """
    return {TIMES: sorted(time_s for gaps in gaps_of_lists(client, keys) for time_s in accumulate(gaps))}


def gaps_of_lists(client: redis.Redis, keys: object) -> list[list[float]]:
    """The gaps of each of these lists, oldest first; raises as `read_lists` does."""
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_LISTS:
        raise ValueError(f"from 1 to {MAX_LISTS:,} keys of Redis lists are needed, one per client")
    found: list[list[float]] = []
    total = 0
    for key in keys:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"the key of a Redis list is needed, not {shown(key)}")
        found.append(_gaps_of(client, key))
        total += len(found[-1])
        if total > MAX_RECORDED:
            raise ValueError(f"the lists hold more than {MAX_RECORDED:,} gaps")
    return found


def _gaps_of(client: redis.Redis, key: str) -> list[float]:
    """At most MAX_RECORDED + 1 of a list's gaps, the oldest one first."""
    try:
        found: Any = client.lrange(key, -MAX_RECORDED - 1, -1)
        gaps = [float(gap) for gap in reversed(found)]
    except redis.ResponseError as error:
        raise ValueError(f"{key!r} is no list in Redis") from error
    except ValueError as error:
        raise ValueError(f"the list {key!r} holds something that is no number") from error
    if not gaps:
        raise ValueError(f"there is no list {key!r} in Redis, or it is empty")
    if any(number_reason(gap, 0, MAX_DURATION_S) for gap in gaps):
        raise ValueError(f"the list {key!r} holds something that is no gap in seconds")
    return gaps


def _from_json(path: Path, text: str) -> Recording:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict) or len(data) != 1 or not set(data) <= {TIMES, GAPS}:
        raise ValueError(f'{path}: {{"{TIMES}": […]}} or {{"{GAPS}": […]}} is needed')
    return data


def _from_csv(path: Path, text: str) -> Recording:
    rows = csv.reader(io.StringIO(text))
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        found = [index for index, name in enumerate(header) if name in _COLUMNS]
        if len(found) != 1:
            raise ValueError(
                f"{path}: the first line must name one column `time` (seconds since the start) or `gap` (seconds since "
                "the arrival before)"
            )
        (column,) = found
        numbers = []
        for row in rows:
            if row:  # not an empty line
                numbers.append(_number(path, rows.line_num, row[column] if column < len(row) else ""))
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: no CSV: {error}") from error
    return {_COLUMNS[header[column]]: numbers}


def _number(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: a number is needed, not {shown(text)}") from error
