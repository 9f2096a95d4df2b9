"""Displays of an experiment's progress: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.analysis.live import Progress
from experiments.models import Experiment, ExperimentStatus

LINE_EVERY_S = 3.0
_BAR_WIDTH = 60
_STYLES = {"RUNNING": "bold cyan", "FINISHED": "bold green", "FAILED": "bold red", "CANCELLED": "bold yellow"}


class LiveDisplay:
    """One block on a terminal, redrawn in place by `show`, every `refresh_s`; its last state stays on the screen."""

    refresh_s = 0.25

    def __init__(self, stream: IO[str], console: Console | None = None) -> None:
        # Drawn by `show`, without rich's own thread.
        self._live = Live(console=console or Console(file=stream), auto_refresh=False)
        self._started = False

    def show(self, experiment: Experiment, progress: Progress) -> None:
        if not self._started:
            self._live.start()
            self._started = True
        self._live.update(block(experiment, progress), refresh=True)

    def close(self) -> None:
        if self._started:
            self._live.stop()


class PlainDisplay:
    """Writes a line at each change of status, and every few seconds while the load runs."""

    refresh_s = 0.5

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._status = ""
        self._written_at_s = 0.0

    def show(self, experiment: Experiment, progress: Progress) -> None:
        now_s = self._clock()
        is_new = experiment.status != self._status
        is_due = experiment.status == ExperimentStatus.RUNNING and now_s - self._written_at_s >= LINE_EVERY_S
        if is_new or is_due:
            self._status, self._written_at_s = experiment.status, now_s
            self._write(line(experiment, progress))

    def close(self) -> None:
        """Does nothing: every line has been written."""


def line(experiment: Experiment, progress: Progress) -> str:
    """Returns the progress of an experiment in one line."""
    head = f"{experiment.id} {experiment.status}"
    if experiment.start_broker_ns is None:
        return head
    return (
        f"{head} {_clock(progress.elapsed_s)} of {_clock(progress.duration_s)}: "
        f"rate {_rate(progress.achieved_rps)} {_asked(progress)}, "
        f"response time p50 {_time(progress.response_p50_s)} p99 {_time(progress.response_p99_s)}, "
        f"errors {progress.errors}, dropped {progress.dropped}, late {progress.late}"
    )


def block(experiment: Experiment, progress: Progress) -> RenderableType:
    """Returns the progress of an experiment as a few lines for a terminal."""
    title = Text.assemble(
        (experiment.status, _STYLES.get(experiment.status, "bold")), f"  {experiment.name}  ", (experiment.id, "dim")
    )
    if experiment.start_broker_ns is None:
        return title
    clock = Table.grid(padding=(0, 1))
    clock.add_row(
        ProgressBar(total=progress.duration_s or 1, completed=progress.elapsed_s, width=_BAR_WIDTH),
        f"{_clock(progress.elapsed_s)} of {_clock(progress.duration_s)}",
    )
    figures = Table.grid(padding=(0, 3))
    asked = (
        f"clients {progress.clients:,}" if progress.clients is not None else f"planned {_rate(progress.planned_rps)}"
    )
    figures.add_row("rate", asked, f"achieved {_rate(progress.achieved_rps)}")
    figures.add_row("response time", f"p50 {_time(progress.response_p50_s)}", f"p99 {_time(progress.response_p99_s)}")
    planned = "" if progress.planned is None else f"planned {progress.planned:,}"
    figures.add_row("requests", planned, f"sent {progress.sent:,}", f"completed {progress.completed:,}")
    figures.add_row("", f"errors {progress.errors:,}", f"dropped {progress.dropped:,}", f"late {progress.late:,}")
    return Group(title, clock, figures)


def _asked(progress: Progress) -> str:
    """Returns the intended load: a rate, or the number of clients in the closed model."""
    if progress.clients is not None:
        return f"from {progress.clients:,} clients"
    return f"of {_rate(progress.planned_rps)} planned"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _rate(rate_rps: float | None) -> str:
    return "-" if rate_rps is None else f"{rate_rps:,.1f}/s"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.1f} ms"
