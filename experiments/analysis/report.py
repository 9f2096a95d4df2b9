"""The report of an experiment as JSON: its summary, its telemetry, and its account against the target's own log."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from experiments.analysis import target_log
from experiments.analysis.limits import LIMITS, RULES
from experiments.analysis.node_loads import node_loads
from experiments.analysis.report_text import render
from experiments.analysis.summary import FORMAT, summarise
from experiments.models import Experiment

__all__ = ["build", "render"]


def build(
    experiment: Experiment, target_logs: list[Path], *, match: re.Pattern[bytes] | None = None, fresh: bool = False
) -> dict[str, Any]:
    """The report as JSON.

    `problems` holds a sentence for each contradiction and for missing or lost rows; `sound` is true without any.
    `target` is None without logs, and `telemetry` is None if none was recorded.

    Args:
        match: of the logs, only lines in which it is found count (target_log.compare); None: all.
        fresh: compute the summary again from the rows instead of using the stored one. A stored summary of another
            format is never used.

    Raises:
        TargetLogError: a log cannot be read, none of its lines is chosen, or no request carried an id.
    """
    summary = experiment.summary
    if fresh or summary is None or summary["format"] != FORMAT:
        summary = summarise(experiment)
    target = target_log.compare(experiment, target_logs, match) if target_logs else None
    account = summary["account"]
    problems = list(account["contradictions"])
    if account["missing"] or account["lost"]:
        problems.append(
            f"{account['planned']:,} arrivals were planned, but {account['rows']:,} have a row"
            + (f" and {account['untraced']:,} were not traced" if account["untraced"] else "")
            + f": {account['missing']:,} are missing, {account['lost']:,} were lost"
        )
    if account["losses_unknown"]:
        problems.append(
            f"{account['losses_unknown']:,} shards of the closed model broke off: the number of requests that they "
            "had started beyond their rows is unknown"
        )
    problems += target["contradictions"] if target else []
    return {
        "id": experiment.id,
        "name": experiment.name,
        "creator": experiment.creator,
        "status": experiment.status,
        "reason": experiment.reason,
        "start": experiment.started_at.isoformat() if experiment.started_at else None,
        "end": experiment.ended_at.isoformat() if experiment.ended_at else None,
        "seed": experiment.seed,
        "summary": summary,
        "target": target,
        "telemetry": node_loads(experiment),
        "limits": [dataclasses.asdict(limit) for limit in LIMITS],
        "rules": [{"level": level.value, "rule": rule} for level, rule in RULES],
        "problems": problems,
        "sound": not problems,
    }
