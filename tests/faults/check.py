"""Plan, target's log and database, compared arrival by arrival.

The plan's arrivals are computed here in closed form, and the rows are read with SQL: the product's own pacer and
account have no part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

COMPLETED, ABORTED, CUT = 0, 5, 25  # outcomes; GLOSSARY.md
DEVIATION = 2  # requests in a second, more or less than planned
_GOLDEN = 0.6180339887498949
_ROUNDING_NS = 1_000
COMMANDED_OFF_NS = 5_000_000  # of intended times
_EXAMPLES = 3

MUST, MAY, NEVER, IF_SENT = "must", "may", "never", "if sent"


@dataclass(frozen=True)
class Arrival:
    """A planned arrival; `at_ns` since the start of the load."""

    client: int
    sequence: int
    at_ns: int


@dataclass(frozen=True)
class Row:
    """A stored trace."""

    client: int
    sequence: int
    intended_ns: int  # since the start of the load
    is_sent: bool
    outcome: int


@dataclass(frozen=True)
class Logged:
    """A request that the target saw, `at_s` since the start of the load."""

    client: int
    sequence: int
    at_s: float


@dataclass(frozen=True)
class Load:
    """What a client group is to send.

    Attributes:
        first: added to the clients' indexes, so that those of several groups differ.
        is_commanded: it is interactive. Then each shard maps its start to its own clock by its latest sample, and what
            it has not sent before another command came was not planned.
    """

    group_id: str
    plan: list[Arrival]
    first: int = 0
    is_commanded: bool = False


@dataclass(frozen=True)
class Span:
    """Arrivals of `clients` (None: of all) intended in [from_s, to_s), and what becomes of them.

    `sent` is MUST, MAY or NEVER; `row`, whether there is one, is MUST, MAY or IF_SENT.

    Where no span says otherwise, every arrival must be sent and have a row.
    """

    clients: frozenset[int] | None
    from_s: float
    to_s: float = inf
    sent: str = MUST
    row: str = MUST

    def holds(self, arrival: Arrival) -> bool:
        is_ours = self.clients is None or arrival.client in self.clients
        return is_ours and self.from_s <= arrival.at_ns / 1e9 < self.to_s


@dataclass
class Figures:
    """The columns of a row of the table."""

    planned: int = 0
    rows: int = 0
    sent: int = 0
    logged: int = 0
    lost: int = 0  # planned arrivals without a row
    unknown: int = 0  # requests that the target saw and no row tells of
    deviation: int = 0  # worst difference to the plan in a second


@dataclass
class Result:
    """What came out of a comparison; green when there are no findings."""

    figures: Figures = field(default_factory=Figures)
    findings: list[str] = field(default_factory=list)


def phase_of(index: int) -> float:
    """Where in the first gap the first arrival of a workload lies, or that of a client with gaps of its own."""
    return (0.5 + index * _GOLDEN) % 1.0


def gapped(gap_s: float, requests: int, clients: int) -> list[Arrival]:
    """The arrivals of clients that make so many requests each, with constant gaps."""
    return [
        Arrival(client, number, round((number + phase_of(client)) * gap_s * 1e9))
        for client in range(clients)
        for number in range(requests)
    ]


def arrivals(steps: Sequence[tuple[float, float]], clients: int, phase: float = 0.5) -> list[Arrival]:
    """The arrivals of a constant plan of (duration in s, requests per second) steps.

    Arrival k is due when the integral of the rate reaches k + `phase`, and belongs to client k mod `clients`.
    """
    found: list[Arrival] = []
    begun_s = counted = 0.0
    for duration_s, rate in steps:
        while rate and len(found) + phase < counted + duration_s * rate:
            k = len(found)
            at_s = begun_s + (k + phase - counted) / rate
            found.append(Arrival(k % clients, k // clients, round(at_s * 1e9)))
        begun_s += duration_s
        counted += duration_s * rate
    return found


def compare(
    plan: Sequence[Arrival],
    rows: Sequence[Row],
    logged: Sequence[Logged],
    spans: Sequence[Span],
    off_ns: int = _ROUNDING_NS,
) -> Result:
    """Of several spans that hold an arrival, the last counts. Intended times may be off by so much."""
    result = Result()
    due = {(arrival.client, arrival.sequence): arrival for arrival in plan}
    rules = {key: _rule(arrival, spans) for key, arrival in due.items()}
    stored = {(row.client, row.sequence): row for row in rows}
    times = Counter((line.client, line.sequence) for line in logged)
    sent = {key for key, row in stored.items() if row.is_sent}
    figures = result.figures
    figures.planned, figures.rows, figures.sent, figures.logged = len(due), len(rows), len(sent), len(logged)
    absent = due.keys() - stored.keys()
    figures.lost = len(absent)
    figures.unknown = len(times.keys() - stored.keys())
    figures.deviation = deviation(plan, logged, rules)
    moved = [key for key in stored if _is_moved(key, stored, due, off_ns)]
    result.findings += [
        *_named("rows of one arrival, twice", [key for key, n in Counter(map(_key, rows)).items() if n > 1]),
        *_named("rows that nobody planned", stored.keys() - due.keys()),
        *_named("intended times that are not the plan's", moved),
        *_named("arrivals without a row", [key for key in absent if _needs_row(rules[key], key in times)]),
        *_named("requests logged that nobody planned", times.keys() - due.keys()),
        *_named("requests logged more than once", [key for key, n in times.items() if n > 1]),
        *_named("rows sent, but not logged", [key for key in sent - times.keys() if not _may_fail(stored[key])]),
        *_named("rows that were logged, but not sent", (times.keys() & stored.keys()) - sent),
        *_named("arrivals that were not sent", [key for key in due if rules[key].sent == MUST and key not in times]),
        *_named("arrivals that should not be sent", [key for key in times if key in due and rules[key].sent == NEVER]),
        *_named("outcomes that have no cause", [key for key, row in stored.items() if _is_odd(row, rules.get(key))]),
    ]  # fmt: skip
    if figures.deviation > DEVIATION:
        result.findings.append(f"the target's count of a second is off by {figures.deviation}")
    return result


def deviation(plan: Sequence[Arrival], logged: Sequence[Logged], rules: dict[tuple[int, int], Span]) -> int:
    """The worst difference in a second between what the target saw and what it should have seen."""
    least: Counter[int] = Counter()
    most: Counter[int] = Counter()
    for arrival in plan:
        sent = rules[arrival.client, arrival.sequence].sent
        least[arrival.at_ns // 10**9] += sent == MUST
        most[arrival.at_ns // 10**9] += sent != NEVER
    seen = Counter(int(line.at_s // 1) for line in logged)
    return max((max(least[second] - seen[second], seen[second] - most[second]) for second in {*most, *seen}), default=0)


_ORDINARY = Span(None, 0.0)


def _rule(arrival: Arrival, spans: Sequence[Span]) -> Span:
    return next((span for span in reversed(spans) if span.holds(arrival)), _ORDINARY)


def _needs_row(rule: Span, is_logged: bool) -> bool:
    return rule.row == MUST or (rule.row == IF_SENT and is_logged)


def _key(row: Row) -> tuple[int, int]:
    return row.client, row.sequence


def _is_moved(
    key: tuple[int, int], rows: dict[tuple[int, int], Row], due: dict[tuple[int, int], Arrival], off_ns: int
) -> bool:
    return key in due and abs(rows[key].intended_ns - due[key].at_ns) > off_ns


def _may_fail(row: Row) -> bool:
    """Whether a request that was written need not have come to the target: its connection was closed for a stop."""
    return row.outcome == ABORTED


def _is_odd(row: Row, rule: Span | None) -> bool:
    """Whether the outcome is not to be expected: the target is well, so only a stop may keep a row from `completed`."""
    if rule is None or row.outcome == COMPLETED:
        return False
    return row.outcome not in (CUT, ABORTED) or rule.sent == MUST


def _named(what: str, keys: Sequence[tuple[int, int]] | set[tuple[int, int]]) -> Iterator[str]:
    if keys:
        examples = ", ".join(f"{client}.{sequence}" for client, sequence in sorted(keys)[:_EXAMPLES])
        yield f"{len(keys)} {what} ({examples})"
