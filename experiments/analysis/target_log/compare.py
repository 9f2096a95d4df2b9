"""Compares the rows of an experiment with logs of its targets.

Untraced requests have no rows with their ids: for them, the logs must hold as many additional ids as were sent.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from django.db.models import Sum
from numpy.typing import NDArray

from experiments.analysis.intervals import bounds_of
from experiments.analysis.shard_scope import shards_of
from experiments.analysis.target_log.changed_ids import ChangedIds, find_changes
from experiments.analysis.target_log.logged_ids import MATCH_PATH, PATH, TargetLog, TargetLogError, read_log
from experiments.analysis.target_log.logged_requests import LoggedRequests
from experiments.models import Experiment, SecondStats, Trace
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import IdForm, id_form, request_id
from routing.errors import Code

NS = 1_000_000_000
MAX_EXAMPLES = 5
_CHUNK = 20_000
_COUNTS = (
    "sent", "untraced", "not_compared", "logged", "lines", "missing", "errors_not_logged", "unknown", "duplicate",
)  # fmt: skip

Keys = NDArray[np.uint64]


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


def compare(experiment: Experiment, paths: list[Path], match: re.Pattern[bytes] | None = None) -> dict[str, Any]:
    """Compares the rows of an experiment with logs of its targets; `contradictions` has a sentence for each difference.

    Every completed request must be in a log; one without a response may not have reached the target. Every logged
    request must have been sent, and be logged once: in one line, or in as many lines as the others (`several_lines`;
    its `logs` is the number of logs with the same lines, more than 1 for servers in a row).
    Workloads whose requests carry no ids are not compared, and are listed in `without_ids`. Those whose ids the target
    changed are in `changed_ids`; if a log has none of their ids, their requests count as `not_compared`.

    Args:
        match: only lines in which it is found count, and then each line is a request; None: all lines.

    Raises:
        TargetLogError: a log cannot be read, no line is chosen, or no request has an id.
    """
    groups = [group for _, group in sorted({shard.group_id: shard.group for shard in shards_of(experiment)}.items())]
    specs = {group.id: WorkloadSpec(**group.workload.spec) for group in groups}
    headers = {group_id: spec.request_id_header for group_id, spec in specs.items() if spec.request_id_header}
    forms = {group_id: id_form(header, specs[group_id].ids_version) for group_id, header in headers.items()}
    if groups and not headers:
        message = "needs requests with ids, but those of the experiment had none (request_id_header: off)"
        raise TargetLogError.of(PATH, Code.CONFLICT, message)
    # A log that is given twice counts once.
    logs = [read_log(path, forms, match) for path in {path.resolve(): path for path in paths}.values()]
    if any(log.lines for log in logs) and not any(log.chosen for log in logs):
        message = "is not found in any line of the logs: give an expression that is in one line of each request"
        raise TargetLogError.of(MATCH_PATH, Code.CONFLICT, message)
    sent = _sent(experiment)
    logged = {group_id: LoggedRequests([log.groups[group_id] for log in logs]) for group_id in headers}
    # Lines that the user has chosen are a request each.
    per_request = {group_id: 1 if match else requests.usual_lines() for group_id, requests in logged.items()}
    checks = {
        group_id: _check(group_id, form, sent.get(group_id, SentIds()), logged[group_id], per_request[group_id])
        for group_id, form in forms.items()
    }
    changes = _changes(headers, forms, checks, logged, logs, match)
    for group_id in changes:
        if logged[group_id].is_empty:
            checks[group_id] = _not_compared(checks[group_id])
    services = {group.id: group.workload.service for group in groups}
    result: dict[str, Any] = {name: sum(check[name] for check in checks.values()) for name in _COUNTS}
    result["examples"] = {
        name: [example for check in checks.values() for example in check["examples"][name]][:MAX_EXAMPLES]
        for name in ("missing", "unknown", "duplicate")
    }
    result["without_ids"] = [group.workload.service for group in groups if group.id not in headers]
    result["several_lines"] = [
        {
            "service": services[group_id],
            "lines": lines,
            "all": logged[group_id].are_all_in(lines),
            "logs": logged[group_id].logs_of_a_statement(),
        }
        for group_id, lines in per_request.items()
        if lines > 1
    ]
    result["changed_ids"] = [change.to_dict(services[group_id]) for group_id, change in changes.items()]
    offsets = [_clock_difference_s(log, sent) for log in logs]
    result["files"] = [
        {"path": str(log.path), "lines": log.lines, "requests": log.requests, "clock_difference_s": offset}
        for log, offset in zip(logs, offsets, strict=True)
    ]
    result["intervals"] = _intervals(experiment, logs, offsets, per_request)
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
    for shard_id, without_row, completed in untraced.values_list("shard_id").annotate(Sum("sent"), Sum("completed")):
        ids = sent.setdefault(groups[shard_id], SentIds())
        ids.untraced += without_row
        ids.untraced_completed += completed
    return sent


def _check(group_id: str, form: IdForm, sent: SentIds, logged: LoggedRequests, per_request: int) -> dict[str, Any]:
    """The counts of one group; `per_request` is the number of lines that a target logs of each request."""
    keys = np.array(sent.keys, dtype=np.uint64)
    completed = np.array(sent.completed, dtype=bool)
    first = logged.first_keys()
    absent = ~np.isin(keys, first)
    missing = keys[absent & completed]
    others = np.setdiff1d(logged.keys, keys)
    # Only the number of requests that were sent without a row is known, not their ids.
    unknown = max(0, len(others) - sent.untraced)
    without_row = max(0, sent.untraced_completed - len(others))
    duplicate = logged.in_more_lines_than(per_request)
    return {
        "sent": len(keys),
        "untraced": sent.untraced,
        "not_compared": 0,
        "logged": len(first),
        "lines": logged.lines,
        "missing": len(missing) + without_row,
        "errors_not_logged": int((absent & ~completed).sum()) + max(0, sent.untraced - len(others)) - without_row,
        "unknown": unknown,
        "duplicate": len(duplicate),
        "examples": {
            "missing": _ids(group_id, form, missing),
            "unknown": _ids(group_id, form, others) if unknown and not sent.untraced else [],
            "duplicate": _ids(group_id, form, duplicate),
        },
    }


def _not_compared(check: dict[str, Any]) -> dict[str, Any]:
    """The counts of a group none of whose ids is in a log, because the target changed them."""
    examples = {**check["examples"], "missing": []}
    total = check["sent"] + check["untraced"]
    return {**check, "not_compared": total, "missing": 0, "errors_not_logged": 0, "examples": examples}


def _changes(
    headers: dict[str, str],
    forms: dict[str, IdForm],
    checks: dict[str, dict[str, Any]],
    logged: dict[str, LoggedRequests],
    logs: list[TargetLog],
    match: re.Pattern[bytes] | None,
) -> dict[str, ChangedIds]:
    """Group id → how the target changed its ids, for groups whose completed requests are missing in the logs.

    It reads the logs again, which costs as much as the first reading, and only if there is such a group.
    """
    examples = {
        group_id: (check["examples"]["missing"] or [request_id(group_id, 0, 0, forms[group_id])])[0]
        for group_id, check in checks.items()
        if check["missing"]
    }
    if not examples or not any(log.chosen for log in logs):
        return {}
    found = find_changes([log.path for log in logs], headers, forms, examples, match)
    return {
        group_id: change for group_id, change in found.items() if change.shows_the_group or logged[group_id].is_empty
    }


def _ids(group_id: str, form: IdForm, keys: Keys) -> list[str]:
    return [request_id(group_id, key >> 32, key & 0xFFFFFFFF, form) for key in keys[:MAX_EXAMPLES].tolist()]


def _contradictions(result: dict[str, Any]) -> Iterator[str]:
    for change in result["changed_ids"]:
        yield change["sentence"]
    for name, sentence in (
        ("missing", "completed requests that are in no log"),
        ("unknown", "logged requests that were not sent according to the rows"),
        ("duplicate", "requests that were logged more than once"),
    ):
        if result[name]:
            examples = result["examples"][name]
            advice = ""
            if name == "duplicate" and result["several_lines"]:
                advice = " (more lines than others have; --target-log-match can choose one line of each request)"
            yield f"{sentence}: {result[name]:,}" + (f", such as {examples[0]}" if examples else "") + advice


def _clock_difference_s(log: TargetLog, sent: dict[str, SentIds]) -> float | None:
    """The upper bound of the target's clock minus the broker's: the least logged − sent, which includes the latency."""
    least = np.inf
    for group_id, logged in log.groups.items():
        keys, times_s = logged.first_requests()
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


def _intervals(
    experiment: Experiment, logs: list[TargetLog], offsets: list[float | None], per_request: dict[str, int]
) -> list[int] | None:
    """Requests that the targets logged in each interval of the plan, over all services; None without times.

    Each log's times are corrected by its clock difference, because two machines' clocks are not comparable. Of several
    lines of one request, the first counts.
    """
    bounds = bounds_of(experiment)
    if experiment.start_broker_ns is None or not bounds or all(offset is None for offset in offsets):
        return None
    edges_s = np.array([start for start, _ in bounds] + [bounds[-1][1]]) / NS
    # Requests that waited for a connection may be received after the end: they count for the last interval.
    edges_s[-1] = np.inf
    counts = np.zeros(len(bounds), dtype=np.int64)
    for group_id, lines in per_request.items():
        keys_of_logs, times_of_logs = [], []
        for log, offset in zip(logs, offsets, strict=True):
            keys, times_s = log.groups[group_id].first_requests()
            known = ~np.isnan(times_s)
            keys_of_logs.append(keys[known])
            times_of_logs.append(times_s[known] - (offset or 0.0) - experiment.start_broker_ns / NS)
        times_s = np.concatenate(times_of_logs)
        if lines > 1:
            order = np.argsort(times_s, kind="stable")
            _, earliest = np.unique(np.concatenate(keys_of_logs)[order], return_index=True)
            times_s = times_s[order][earliest]
        counts += np.histogram(times_s, edges_s)[0]
    return [int(count) for count in counts]
