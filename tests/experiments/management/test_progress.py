"""The progress display on a terminal and in a log."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from experiments.analysis.live import Progress
from experiments.management.progress import LiveDisplay, PlainDisplay, block, line
from experiments.models import Experiment

PROGRESS = Progress(
    elapsed_s=12.3,
    duration_s=90.0,
    planned=1480,
    planned_rps=120.0,
    clients=None,
    achieved_rps=119.5,
    response_p50_s=0.0412,
    response_p99_s=0.25,
    rows=1400,
    sent=1390,
    completed=1385,
    errors=5,
    dropped=7,
    late=3,
)
NOTHING_YET = replace(PROGRESS, elapsed_s=0.0, achieved_rps=None, response_p50_s=None, response_p99_s=None)


def experiment(status: str = "RUNNING", start_broker_ns: int | None = 1) -> Experiment:
    return Experiment(id="202611220000-abcd", name="demo", status=status, start_broker_ns=start_broker_ns)


def screen(*shown: tuple[Experiment, Progress]) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    display = LiveDisplay(stream, console)
    for each in shown:
        display.show(*each)
    display.close()
    return stream.getvalue()


def test_a_line_has_status_time_rates_and_errors() -> None:
    assert line(experiment(), PROGRESS) == (
        "202611220000-abcd RUNNING 0:00:12 of 0:01:30: rate 119.5/s of 120.0/s planned, "
        "response time p50 41.2 ms p99 250.0 ms, errors 5, dropped 7, late 3"
    )


CLOSED = replace(PROGRESS, planned=None, planned_rps=None, clients=8)


def test_the_closed_model_shows_clients_instead_of_a_rate() -> None:
    assert "rate 119.5/s from 8 clients, response time" in line(experiment(), CLOSED)
    shown = screen((experiment(), CLOSED))
    assert "clients 8" in shown and "sent 1,390" in shown
    assert "planned" not in shown


def test_before_the_start_a_line_has_the_phase_alone() -> None:
    assert line(experiment("STARTING", None), NOTHING_YET) == "202611220000-abcd STARTING"


def test_figures_that_are_not_there_yet_are_dashes() -> None:
    assert "rate - of 120.0/s planned, response time p50 - p99 -" in line(experiment(), NOTHING_YET)


@pytest.mark.parametrize(
    "part",
    ["RUNNING", "demo", "202611220000-abcd", "━", "0:00:12 of 0:01:30", "planned 120.0/s", "achieved 119.5/s",
     "p50 41.2 ms", "p99 250.0 ms", "sent 1,390", "completed 1,385", "errors 5", "dropped 7", "late 3"],
)  # fmt: skip
def test_the_live_display_shows_everything(part: str) -> None:
    assert part in screen((experiment(), PROGRESS))


def test_the_live_display_leaves_its_last_state() -> None:
    shown = screen((experiment("STARTING", None), NOTHING_YET), (experiment("FINISHED"), PROGRESS))
    assert shown.index("STARTING") < shown.index("FINISHED")
    assert "\x1b[2K" in shown


def test_the_block_before_the_start_is_one_line() -> None:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(block(experiment("QUEUED", None), NOTHING_YET))
    assert console.export_text().strip() == "QUEUED  demo  202611220000-abcd"


def test_a_display_that_was_never_shown_is_closed_silently() -> None:
    assert screen() == ""


def test_plain_lines_come_at_changes_and_every_few_seconds() -> None:
    written: list[str] = []
    shown = [
        ("QUEUED", 0.0), ("QUEUED", 9.0), ("STARTING", 9.5), ("RUNNING", 10.0), ("RUNNING", 12.9), ("RUNNING", 13.0),
        ("RUNNING", 15.9), ("RUNNING", 16.1), ("FINALIZING", 16.2), ("FINALIZING", 30.0), ("FINISHED", 31.0),
    ]  # fmt: skip
    times = iter([now_s for _, now_s in shown])
    display = PlainDisplay(written.append, clock=lambda: next(times))
    for status, _ in shown:
        display.show(experiment(status), PROGRESS)
    display.close()
    assert [text.split()[1] for text in written] == [
        "QUEUED", "STARTING", "RUNNING", "RUNNING", "RUNNING", "FINALIZING", "FINISHED",
    ]  # fmt: skip
