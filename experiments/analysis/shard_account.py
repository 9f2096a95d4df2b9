"""A shard's part of the account: its rows, what it says of itself, and what the plan has for it."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.models import Shard
from loadgen.protocol.outcomes import account_line

LINES = ("completed", "errors", "dropped", "late", "connect_failed", "cut")


@dataclass(frozen=True)
class ShardAccount:
    """A shard's part.

    `totals` are its own Counters (None: its last batch is not here), `batch_rows` is what the batches of its present
    attempt held, `earlier_rows` those of the attempts before; `outcomes` are the rows by Outcome code. In all of them
    are those that were not to be stored. `asked` is how many requests its clients were to make in the closed model,
    None where that depends on the target.
    """

    name: str
    status: str
    planned: int
    totals: dict[str, int] | None
    batch_rows: int
    earlier_rows: int
    outcomes: dict[int, int]
    is_closed: bool = False
    asked: int | None = None

    @property
    def rows(self) -> int:
        return sum(self.outcomes.values())

    @property
    def broke_off(self) -> bool:
        """Whether arrivals of it may be without a row: it was lost, failed, began again, or never reported its end."""
        return self.totals is None or self.began_again or self.status in (Shard.Status.LOST, Shard.Status.FAILED)

    @property
    def losses_unknown(self) -> bool:
        """Whether requests of it may be without a row, and nobody knows how many."""
        return self.is_closed and (self.totals is None or self.began_again)

    @property
    def not_made(self) -> int:
        """Requests that its clients were to make, and had no time for."""
        return max(0, self.asked - self.planned) if self.asked is not None else 0

    @property
    def began_again(self) -> bool:
        """Whether its present attempt is not the only one that had arrivals."""
        return self.earlier_rows > 0 or self.skipped > 0

    @property
    def skipped(self) -> int:
        """Arrivals that had passed when its present attempt took over."""
        return self.totals["skipped"] if self.totals else 0

    @property
    def missing(self) -> int:
        """Rows that its totals name and the database lacks."""
        return max(0, self.totals["rows"] - self.batch_rows) if self.totals else 0

    @property
    def cut_without_row(self) -> int:
        """Arrivals of a stopped plan whose rest was too long for a row each."""
        if not self.totals or not self.totals["cut_short"]:
            return 0
        return max(0, self.planned - self.totals["planned"] - self.skipped)

    @property
    def lost(self) -> int:
        """Planned arrivals that no row will tell about, because the shard broke off."""
        known = self.rows + self.missing + self.cut_without_row
        return max(0, self.planned - known) if self.broke_off else 0

    def line(self, name: str) -> int:
        return sum(count for outcome, count in self.outcomes.items() if account_line(outcome) == name)


def contradictions(shard: ShardAccount) -> list[str]:
    """A sentence for each thing that speaks against what the shard says of itself."""
    wrong: list[str] = []
    totals = shard.totals
    if totals is None or shard.status in (Shard.Status.LOST, Shard.Status.FAILED):
        return wrong
    if shard.asked is not None and shard.planned > shard.asked:
        wrong.append(
            f"shard {shard.name} started {shard.planned:,} requests, but its clients were to make {shard.asked:,}"
        )
    if not shard.is_closed and totals["planned"] + shard.skipped + shard.cut_without_row != shard.planned:
        skipped = f" and skipped {shard.skipped:,}" if shard.skipped else ""
        wrong.append(
            f"shard {shard.name} planned {totals['planned']:,} arrivals{skipped}, but by the plan it has "
            f"{shard.planned:,}"
        )
    if shard.began_again:
        return wrong
    if totals["rows"] < shard.rows:
        wrong.append(f"shard {shard.name} made {totals['rows']:,} rows, but the database holds {shard.rows:,} of it")
    if not shard.missing:
        for name in LINES:
            if totals[name] != shard.line(name):
                wrong.append(
                    f"shard {shard.name} counted {totals[name]:,} as {name.replace('_', ' ')}, "
                    f"but {shard.line(name):,} of its rows are"
                )
    return wrong
