"""The table of measured lines, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.conditions import Conditions
from benchmarks.figures import Bound, Figure, Sample, Spread, Verdict, held_in, judge

_HEAD = ("line", "what", "median", "spread", "must reach", "aim", "verdict", "behind it (medians)")


@dataclass(frozen=True)
class Measured:
    """A line after its rounds; with an `error`, it could not be measured, and its `samples` are ignored.

    `before` has the conditions before each round.
    """

    name: str
    figures: Sequence[Figure]
    samples: Sequence[Sample]
    error: str = ""
    before: Sequence[Conditions] = field(default_factory=list)

    def values(self, position: int) -> list[float]:
        """Returns the values of one figure, by round."""
        return [sample.values[position] for sample in self.samples]

    def verdict(self, position: int) -> Verdict:
        if self.error:
            return Verdict.NOT_MEASURED
        return judge(self.figures[position], Spread.of(self.values(position)).median)

    @property
    def fails(self) -> bool:
        return any(self.verdict(position).fails for position in range(len(self.figures)))

    def background(self) -> dict[str, list[float]]:
        names = dict.fromkeys(name for sample in self.samples for name in sample.background)
        return {name: [one.background[name] for one in self.samples if name in one.background] for name in names}


def number(value: float) -> str:
    """Returns a text with three significant digits, or all digits of a large number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(lines: Sequence[Measured]) -> str:
    """Returns the table, followed by the machine's conditions and the errors."""
    rows = [_HEAD, tuple("---" for _ in _HEAD)]
    rows += [_row(line, position) for line in lines for position in range(len(line.figures))]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    errors = [f"- {line.name}: {line.error}" for line in lines if line.error]
    conditions = _conditions([before for line in lines for before in line.before])
    return "\n".join([text, "", conditions, *(["", "Not measured:", "", *errors] if errors else [])]) + "\n"


def _conditions(before: Sequence[Conditions]) -> str:
    if not before:
        return ""
    others = number(100 * max(one.others_share for one in before))
    slow = [100 * one.slow_share for one in before]
    return (
        f"Before a round, other processes took at most {others} % of the machine, and the generator's core was slow for"
        f" {number(sum(slow) / len(slow))} % of the time (at most {number(max(slow))} %)."
    )


def _row(line: Measured, position: int) -> tuple[str, ...]:
    figure = line.figures[position]
    limits = (_bound(figure.must, figure.unit) or "in the table", _bound(figure.aim, figure.unit))
    verdict = line.verdict(position)
    if line.error:
        return (line.name, figure.what, "", "", *limits, verdict.value, "")
    values = line.values(position)
    spread = Spread.of(values)
    held = held_in(figure, values)
    kept = "" if held is None or held == len(values) else f" (held in {held} of {len(values)} rounds)"
    behind = [f"{name}: {number(Spread.of(several).median)}" for name, several in line.background().items()]
    return (
        line.name,
        figure.what,
        f"{number(spread.median)} {figure.unit}",
        f"{number(spread.least)} … {number(spread.greatest)}",
        *limits,
        verdict.value + kept,
        "; ".join(behind) if position == 0 else "",
    )


def _bound(bound: Bound | None, unit: str) -> str:
    if bound is None:
        return ""
    return f"{'≥' if bound.more_is_better else '<'} {number(bound.limit)} {unit}"


def to_json(lines: Sequence[Measured]) -> list[dict[str, Any]]:
    """Returns all samples with their verdicts."""
    return [
        {
            "line": line.name,
            "error": line.error,
            "before": [asdict(before) for before in line.before],
            "background": line.background(),
            "figures": [_figure(line, position) for position in range(len(line.figures))],
        }
        for line in lines
    ]


def _figure(line: Measured, position: int) -> dict[str, Any]:
    figure = line.figures[position]
    values = [] if line.error else line.values(position)
    bound = figure.must or figure.aim
    return {
        "what": figure.what,
        "unit": figure.unit,
        "more_is_better": bound.more_is_better if bound else None,
        "must": figure.must.limit if figure.must else None,
        "aim": figure.aim.limit if figure.aim else None,
        "values": values,
        "median": Spread.of(values).median if values else None,
        "verdict": line.verdict(position).value,
    }
