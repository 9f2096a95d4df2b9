"""The report of an experiment: its summary, and its account held against the target's own log."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.analysis import log_account
from experiments.analysis.limits import RULES, THRESHOLDS
from experiments.analysis.node_loads import node_loads
from experiments.analysis.report_text import render
from experiments.analysis.summary import FORMAT, summarise
from experiments.models import Experiment

__all__ = ["build", "render"]


def build(experiment: Experiment, target_logs: list[Path], *, fresh: bool = False) -> dict[str, Any]:
    """The report as JSON.

    `problems` holds a sentence for each thing that does not add up; `sound` says that there is none and that every
    planned arrival has its row. Without logs, `target` is None, as `telemetry` is when none was recorded.

    Args:
        fresh: make the summary from the rows again, instead of taking the one that the experiment ended with; one of
            another format is made again in any case.

    Raises:
        TargetLogError: when a log cannot be read.
    """
    summary = experiment.summary
    if fresh or summary is None or summary["format"] != FORMAT:
        summary = summarise(experiment)
    target = log_account.compare(experiment, target_logs) if target_logs else None
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
            f"{account['losses_unknown']:,} shards of the closed model broke off: how many requests they had started "
            "beyond their rows is not known"
        )
    problems += target["contradictions"] if target else []
    return {
        "id": experiment.id,
        "name": experiment.name,
        "creator": experiment.creator,
        "status": experiment.status,
        "reason": experiment.reason,
        "start": experiment.start.isoformat() if experiment.start else None,
        "end": experiment.end.isoformat() if experiment.end else None,
        "seed": experiment.seed,
        "summary": summary,
        "target": target,
        "telemetry": node_loads(experiment),
        "thresholds": [dataclasses.asdict(threshold) for threshold in THRESHOLDS],
        "rules": [{"level": level.value, "rule": rule} for level, rule in RULES],
        "problems": problems,
        "sound": not problems,
    }
