"""The account against the target's own log: are the ids that it received exactly the ids that were sent, each once?

What was not traced has no row that names its id: of that, the log must hold as many other ids as were sent.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from django.db.models import Sum
from numpy.typing import NDArray

from experiments.analysis.intervals import bounds_of
from experiments.analysis.shard_parts import shards_of
from experiments.analysis.target_log import TargetLog, TargetLogError, read_log
from experiments.models import Experiment, SecondStats, Trace
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id

NS = 1_000_000_000
MAX_EXAMPLES = 5
_CHUNK = 20_000

Keys = NDArray[np.uint64]


@dataclass
class SentIds:
    """The rows of one group that were sent: keys as in target_log, sending times in ns, and which were completed; and
    how many were sent, and completed, without a row."""

    keys: Any = field(default_factory=lambda: array("Q"))
    sent_ns: Any = field(default_factory=lambda: array("q"))
    completed: Any = field(default_factory=lambda: array("b"))
    untraced: int = 0
    untraced_completed: int = 0


def compare(experiment: Experiment, paths: list[Path]) -> dict[str, Any]:
    """What the logs say about the experiment, and in `contradictions` a sentence for each thing that speaks against it.

    A request that was sent but got no response need not have reached the target, so only completed ones must be in a
    log; what is in a log must have been sent, and once. Workloads whose requests carry no id are left out, and named in
    `without_ids`.

    Raises:
        TargetLogError
    """
    groups = sorted({shard.group.id: shard.group for shard in shards_of(experiment)}.values(), key=attrgetter("id"))
    headers = {group.id: group.workload.spec["request_id_header"] for group in groups}
    headers = {group_id: header for group_id, header in headers.items() if header}
    if groups and not headers:
        raise TargetLogError("its requests carried no ids (request_id_header: off), so that no log can tell them")
    # A log that is named twice is still one log.
    logs = [read_log(path, headers) for path in {path.resolve(): path for path in paths}.values()]
    sent = _sent(experiment)
    checks = {
        group_id: _check(group_id, header, sent.get(group_id, SentIds()), logs) for group_id, header in headers.items()
    }
    result: dict[str, Any] = {
        name: sum(check[name] for check in checks.values())
        for name in ("sent", "untraced", "logged", "lines", "missing", "errors_not_logged", "unknown", "duplicate")
    }
    result["examples"] = {
        name: [example for check in checks.values() for example in check["examples"][name]][:MAX_EXAMPLES]
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
    sums = untraced.values_list("shard_id").annotate(Sum("sent"), Sum("completed"))
    for shard_id, without_row, completed in sums:
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
    # Which of these were sent without a row, nobody knows; only how many.
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
        ("missing", "completed requests that no log holds"),
        ("unknown", "logged requests that no row says were sent"),
        ("duplicate", "requests that were logged more than once"),
    ):
        if result[name]:
            examples = result["examples"][name]
            yield f"{sentence}: {result[name]:,}" + (f", such as {examples[0]}" if examples else "")


def _clock_difference_s(log: TargetLog, sent: dict[str, SentIds]) -> float | None:
    """The target's clock minus the broker's, at most: the least logged − sent, which holds the way there, too."""
    least = None
    for group_id, logged in log.groups.items():
        keys, times_s = logged.arrays()
        ids = sent.get(group_id)
        if ids is None or not ids.keys or not len(keys):
            continue
        sent_keys = np.array(ids.keys, dtype=np.uint64)
        order = np.argsort(sent_keys)
        # A key beyond the greatest one is compared with that, and does not match it.
        place = np.minimum(np.searchsorted(sent_keys, keys, sorter=order), len(order) - 1)
        found = order[place]
        known = (sent_keys[found] == keys) & ~np.isnan(times_s)
        if known.any():
            differences = times_s[known] - np.array(ids.sent_ns, dtype=np.int64)[found[known]] / NS
            least = min(float(differences.min()), least if least is not None else np.inf)
    return least


def _intervals(experiment: Experiment, logs: list[TargetLog], offsets: list[float | None]) -> list[int] | None:
    """Requests that the targets logged in each interval of the plan, all services together; None without times.

    Each log's times are moved by its clock difference, since two machines' clocks cannot be compared as they are.
    """
    bounds = bounds_of(experiment)
    if experiment.start_broker_ns is None or not bounds or all(offset is None for offset in offsets):
        return None
    edges_s = np.array([start for start, _ in bounds] + [bounds[-1][1]]) / NS
    # Requests that waited for their connection are received after the end: they are the last interval's.
    edges_s[-1] = np.inf
    counts = np.zeros(len(bounds), dtype=np.int64)
    for log, offset in zip(logs, offsets, strict=True):
        for logged in log.groups.values():
            times_s = logged.arrays()[1] - (offset or 0.0) - experiment.start_broker_ns / NS
            counts += np.histogram(times_s[~np.isnan(times_s)], edges_s)[0]
    listed: list[int] = counts.tolist()
    return listed
