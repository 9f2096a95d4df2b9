"""The target's own log compared with the account: did each request arrive, and only once?

Any text log works whose lines hold the request's id as it was received (an nginx access log, the example service's
log): ids are found by their pattern, at any position. If a line starts with a Unix time, it counts for the rate, too.

Untraced requests have no rows with their ids: for them, the log must hold as many additional ids as were sent.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from django.db.models import Sum
from numpy.typing import NDArray

from experiments.analysis.intervals import bounds_of
from experiments.analysis.shard_scope import shards_of
from experiments.models import Experiment, SecondStats, Trace
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import IdForm, id_begin, id_form, request_id
from routing.errors import Code, InvalidInput

NS = 1_000_000_000
MAX_EXAMPLES = 5
PATH = "--target-log"  # of an error: the argument of `manage.py report`
_CHUNK = 20_000

Keys = NDArray[np.uint64]
_UNIX_TIME = re.compile(rb"\s*(\d{9,11}(?:\.\d+)?)(?=\s)")
_MAX_NUMBER = 0xFFFFFFFF
# Group, client, sequence, and the number of redirects that the arrival had followed.
_Id = tuple[str, int, int, int]


class TargetLogError(InvalidInput):
    """A target log cannot be read, or cannot be compared with the experiment."""


@dataclass
class LoggedIds:
    """The requests of one group in one log, with one entry per line.

    `keys` are client << 32 | sequence; `times_s` are the lines' Unix times in the target's clock, NaN if missing.
    Requests after a redirect are kept apart: `hop_keys` holds the keys of their arrivals, `hop_numbers` the redirects.
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
    """The requests of an experiment in one log file; `lines` counts all of its lines."""

    path: str
    lines: int
    groups: dict[str, LoggedIds]

    @property
    def requests(self) -> int:
        return sum(len(ids.keys) for ids in self.groups.values())


@dataclass
class SentIds:
    """The requests of one group that were sent: keys as in LoggedIds, sending times in ns, and whether completed.

    `untraced` and `untraced_completed` count those without a row.
    """

    keys: Any = field(default_factory=lambda: array("Q"))
    sent_ns: Any = field(default_factory=lambda: array("q"))
    completed: Any = field(default_factory=lambda: array("b"))
    untraced: int = 0
    untraced_completed: int = 0


def compare(experiment: Experiment, paths: list[Path]) -> dict[str, Any]:
    """Compares the rows of an experiment with logs of its targets; `contradictions` has a sentence for each difference.

    Every completed request must be in a log; one without a response may not have reached the target. Every logged
    request must have been sent, and be logged once. Workloads whose requests carry no ids are not compared, and are
    listed in `without_ids`.

    Raises:
        TargetLogError: a log cannot be read, or no request has an id.
    """
    groups = [group for _, group in sorted({shard.group_id: shard.group for shard in shards_of(experiment)}.items())]
    headers = {group.id: header for group in groups if (header := group.workload.spec["request_id_header"])}
    if groups and not headers:
        message = "needs requests with ids, but those of the experiment had none (request_id_header: off)"
        raise TargetLogError.of(PATH, Code.CONFLICT, message)
    # A log that is given twice counts once.
    logs = [read_log(path, headers) for path in {path.resolve(): path for path in paths}.values()]
    sent = _sent(experiment)
    checks = [_check(group_id, header, sent.get(group_id, SentIds()), logs) for group_id, header in headers.items()]
    result: dict[str, Any] = {
        name: sum(check[name] for check in checks)
        for name in ("sent", "untraced", "logged", "lines", "missing", "errors_not_logged", "unknown", "duplicate")
    }
    result["examples"] = {
        name: [example for check in checks for example in check["examples"][name]][:MAX_EXAMPLES]
        for name in ("missing", "unknown", "duplicate")
    }
    result["without_ids"] = [group.workload.service for group in groups if group.id not in headers]
    offsets = [_clock_difference_s(log, sent) for log in logs]
    result["files"] = [
        {"path": log.path, "lines": log.lines, "requests": log.requests, "clock_difference_s": offset}
        for log, offset in zip(logs, offsets, strict=True)
    ]
    result["intervals"] = _intervals(experiment, logs, offsets)
    result["contradictions"] = list(_contradictions(result))
    return result


def read_log(path: Path, headers: Mapping[str, str]) -> TargetLog:
    """Reads the ids of some groups from a log. An id that occurs twice in one line counts once.

    Args:
        headers: group id → the header in which its requests carry their ids.

    Raises:
        TargetLogError: the file cannot be read.
    """
    groups = {group_id: LoggedIds() for group_id in headers}
    dotted = _Dotted(group_id for group_id, header in headers.items() if id_form(header) == IdForm.DOTTED)
    traced = _Traced(group_id for group_id, header in headers.items() if id_form(header) == IdForm.TRACEPARENT)
    lines = 0
    try:
        with path.open("rb") as file:
            for line in file:
                lines += 1
                for group_id, client, sequence, hop in {*dotted.find(line), *traced.find(line)}:
                    ids, key = groups[group_id], key_of(client, sequence)
                    if hop:
                        ids.hop_keys.append(key)
                        ids.hop_numbers.append(hop)
                    else:
                        time = _UNIX_TIME.match(line)
                        ids.keys.append(key)
                        ids.times_s.append(float(time[1]) if time else float("nan"))
    except OSError as error:
        raise TargetLogError.of(PATH, Code.UNREADABLE, f"{path}: {error.strerror or error}") from error
    return TargetLog(str(path), lines, groups)


def key_of(client: int, sequence: int) -> int:
    """A client and its sequence number as one integer; each is limited to 32 bits."""
    return min(client, _MAX_NUMBER) << 32 | min(sequence, _MAX_NUMBER)


class _Dotted:
    """Finds ids of the form IdForm.DOTTED."""

    def __init__(self, group_ids: Iterable[str]) -> None:
        self._pattern: re.Pattern[bytes] | None = None
        if names := b"|".join(re.escape(group_id.encode()) for group_id in group_ids):
            # The form that request_id makes, and the number of a redirect: not part of a longer name, no leading zeros.
            self._pattern = re.compile(
                rb"(?<![\w.-])(" + names + rb")\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:\.([1-9]\d?))?(?![\w-]|\.\w)"
            )

    def find(self, line: bytes) -> Iterator[_Id]:
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

    def find(self, line: bytes) -> Iterator[_Id]:
        for begin, client, sequence, number in self._pattern.findall(line) if self._pattern else ():
            if int(number, 16):
                yield self._groups[begin], int(client, 16), int(sequence, 16), int(number, 16) - 1


def _sent(experiment: Experiment) -> dict[str, SentIds]:
    groups = {shard.id: shard.group_id for shard in shards_of(experiment)}
    sent: dict[str, SentIds] = {}
    rows = Trace.objects.filter(experiment=experiment, sent_ns__isnull=False).order_by()
    columns = rows.values_list("shard_id", "client", "sequence", "sent_ns", "outcome")
    for shard_id, client, sequence, sent_ns, outcome in columns.iterator(chunk_size=_CHUNK):
        ids = sent.setdefault(groups[shard_id], SentIds())
        ids.keys.append(client << 32 | sequence)
        ids.sent_ns.append(sent_ns)
        ids.completed.append(outcome == Outcome.COMPLETED)
    untraced = SecondStats.objects.filter(experiment=experiment, traced=False).order_by()
    for shard_id, without_row, completed in untraced.values_list("shard_id").annotate(Sum("sent"), Sum("completed")):
        ids = sent.setdefault(groups[shard_id], SentIds())
        ids.untraced += without_row
        ids.untraced_completed += completed
    return sent


def _check(group_id: str, header: str, sent: SentIds, logs: list[TargetLog]) -> dict[str, Any]:
    keys = np.array(sent.keys, dtype=np.uint64)
    completed = np.array(sent.completed, dtype=bool)
    logged = np.concatenate([log.groups[group_id].arrays()[0] for log in logs] or [np.empty(0, np.uint64)])
    hops = np.concatenate([log.groups[group_id].hops() for log in logs] or [np.empty((0, 2), np.uint64)])
    distinct, times = np.unique(logged, return_counts=True)
    distinct_hops, hop_times = np.unique(hops, axis=0, return_counts=True)
    absent = ~np.isin(keys, distinct)
    missing = keys[absent & completed]
    others = np.setdiff1d(np.union1d(distinct, hops[:, 0]), keys)
    # Only the number of requests that were sent without a row is known, not their ids.
    unknown = max(0, len(others) - sent.untraced)
    without_row = max(0, sent.untraced_completed - len(others))
    duplicate = np.union1d(distinct[times > 1], distinct_hops[hop_times > 1][:, 0])
    return {
        "sent": len(keys),
        "untraced": sent.untraced,
        "logged": len(distinct),
        "lines": len(logged),
        "missing": len(missing) + without_row,
        "errors_not_logged": int((absent & ~completed).sum()) + max(0, sent.untraced - len(others)) - without_row,
        "unknown": unknown,
        "duplicate": len(duplicate),
        "examples": {
            "missing": _ids(group_id, header, missing),
            "unknown": _ids(group_id, header, others) if unknown and not sent.untraced else [],
            "duplicate": _ids(group_id, header, duplicate),
        },
    }


def _ids(group_id: str, header: str, keys: Keys) -> list[str]:
    return [request_id(group_id, key >> 32, key & 0xFFFFFFFF, header) for key in keys[:MAX_EXAMPLES].tolist()]


def _contradictions(result: dict[str, Any]) -> Iterator[str]:
    for name, sentence in (
        ("missing", "completed requests that are in no log"),
        ("unknown", "logged requests that were not sent according to the rows"),
        ("duplicate", "requests that were logged more than once"),
    ):
        if result[name]:
            examples = result["examples"][name]
            yield f"{sentence}: {result[name]:,}" + (f", such as {examples[0]}" if examples else "")


def _clock_difference_s(log: TargetLog, sent: dict[str, SentIds]) -> float | None:
    """The upper bound of the target's clock minus the broker's: the least logged − sent, which includes the latency."""
    least = np.inf
    for group_id, logged in log.groups.items():
        keys, times_s = logged.arrays()
        ids = sent.get(group_id)
        if ids is None or not ids.keys or not len(keys):
            continue
        sent_keys = np.array(ids.keys, dtype=np.uint64)
        order = np.argsort(sent_keys)
        # A key above the greatest one is compared with the greatest, and does not match it.
        place = np.minimum(np.searchsorted(sent_keys, keys, sorter=order), len(order) - 1)
        found = order[place]
        known = (sent_keys[found] == keys) & ~np.isnan(times_s)
        differences = times_s[known] - np.array(ids.sent_ns, dtype=np.int64)[found[known]] / NS
        least = float(differences.min(initial=least))
    return None if least == np.inf else least


def _intervals(experiment: Experiment, logs: list[TargetLog], offsets: list[float | None]) -> list[int] | None:
    """Requests that the targets logged in each interval of the plan, over all services; None without times.

    Each log's times are corrected by its clock difference, because two machines' clocks are not comparable.
    """
    bounds = bounds_of(experiment)
    if experiment.start_broker_ns is None or not bounds or all(offset is None for offset in offsets):
        return None
    edges_s = np.array([start for start, _ in bounds] + [bounds[-1][1]]) / NS
    # Requests that waited for a connection may be received after the end: they count for the last interval.
    edges_s[-1] = np.inf
    counts = np.zeros(len(bounds), dtype=np.int64)
    for log, offset in zip(logs, offsets, strict=True):
        for logged in log.groups.values():
            times_s = logged.arrays()[1] - (offset or 0.0) - experiment.start_broker_ns / NS
            counts += np.histogram(times_s[~np.isnan(times_s)], edges_s)[0]
    return [int(count) for count in counts]
