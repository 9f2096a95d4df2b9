"""The table that a run of the rows prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.faults.row import Outcome

_HEADS = (
    "fault", "database", "moment", "planned", "rows", "sent", "logged", "lost", "unknown", "±/s", "start", "ended as",
    "at", "recovered", "row",
)  # fmt: skip


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The table, and below it what was found in rows that are not green."""
    cells = [_HEADS, *map(_cells, outcomes)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADS))]
    for row in cells:
        yield "  ".join(
            text.ljust(width) if column < 2 or column in (11, 14) else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
    for outcome in outcomes:
        for finding in outcome.findings:
            yield f"{outcome.fault} ({outcome.database}, seed {outcome.seed}): {finding}"


def reruns(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each row that was run again; `.ci/run` repeats these lines at its end."""
    runs = Counter((outcome.fault, outcome.database) for outcome in outcomes)
    for (fault, database), count in runs.items():
        if count > 1:
            yield f"RERUN: {fault} ({database}) was run {count} times"


def line(outcome: Outcome) -> str:
    """One row, logged as soon as it has ended."""
    cells = zip(_HEADS[2:-1], _cells(outcome)[2:-1], strict=True)
    head = f"{_cells(outcome)[-1]}: {outcome.fault}, {outcome.database}"
    return ", ".join([head, *(f"{name} {cell}" for name, cell in cells), *outcome.findings])


def _cells(outcome: Outcome) -> tuple[str, ...]:
    figures = outcome.figures
    return (
        outcome.fault,
        outcome.database,
        _seconds(outcome.moment_s),
        *map(str, (figures.planned, figures.rows, figures.sent, figures.logged, figures.lost, figures.unknown)),
        str(figures.deviation),
        _seconds(outcome.began_s),
        outcome.ended,
        _seconds(outcome.ended_at_s),
        _seconds(outcome.recovered_s),
        "RED" if outcome.findings else "green",
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
