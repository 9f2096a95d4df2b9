"""Rows of the trace, and what they add up to."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from loadgen.batch import COLUMNS, NO_HOST, NO_TIME, Columns
from loadgen.messages import CONNECT_OUTCOMES, FIRST_NOT_SENT, Counters, Outcome

_MAX_SIZE = 0xFFFFFFFF


class Recorder:
    """Appends one row per arrival to the columns of the batch that is being filled."""

    __slots__ = (
        "_appends",
        "_bytes_received",
        "_columns",
        "_counts",
        "_host_index",
        "_hosts",
        "cut_short",
        "skipped",
    )

    def __init__(self) -> None:
        self._counts = [0] * (max(Outcome) + 1)
        self._bytes_received = 0
        self.cut_short = False
        self.skipped = 0
        self._begin()

    def _begin(self) -> None:
        self._columns = Columns()
        self._hosts: list[str] = []
        self._host_index: dict[str | None, int] = {None: NO_HOST}
        self._appends: tuple[Callable[[int], None], ...] = tuple(
            getattr(self._columns, name).append for name in COLUMNS
        )

    def row(
        self,
        client: int,
        sequence: int,
        intended_ns: int,
        dispatched_ns: int,
        sent_ns: int,
        done_ns: int,
        outcome: int,
        status: int,
        host: str | None,
        size: int,
        routing_version: int,
    ) -> None:
        """Records an arrival's end. `size` counts the bytes of the body that came, of an incomplete one, too."""
        index = self._host_index.get(host)
        if index is None:
            index = self._add_host(host)
        a = self._appends
        a[0](client)
        a[1](sequence)
        a[2](intended_ns)
        a[3](dispatched_ns)
        a[4](sent_ns)
        a[5](done_ns)
        a[6](outcome)
        a[7](status)
        a[8](index)
        a[9](size if size < _MAX_SIZE else _MAX_SIZE)
        a[10](routing_version)
        self._counts[outcome] += 1
        self._bytes_received += size

    def cut(self, arrivals: Sequence[tuple[int, int, int]]) -> None:
        """Records arrivals (intended ns, client, sequence) that will never be dispatched as CUT."""
        rows = len(arrivals)
        columns = self._columns
        columns.intended_ns.extend([arrival[0] for arrival in arrivals])
        columns.client.extend([arrival[1] for arrival in arrivals])
        columns.sequence.extend([arrival[2] for arrival in arrivals])
        for times in (columns.dispatched_ns, columns.sent_ns, columns.done_ns):
            times.extend(array("q", [NO_TIME]) * rows)
        columns.outcome.extend(array("B", [Outcome.CUT]) * rows)
        columns.status.extend(array("H", [0]) * rows)
        columns.host.extend(array("H", [NO_HOST]) * rows)
        columns.size.extend(array("I", [0]) * rows)
        columns.routing_version.extend(array("I", [0]) * rows)
        self._counts[Outcome.CUT] += rows

    @property
    def cut_rows(self) -> int:
        return self._counts[Outcome.CUT]

    def _add_host(self, host: str | None) -> int:
        assert host is not None  # None has an index from the beginning
        index = self._host_index[host] = len(self._hosts)
        self._hosts.append(host)
        return index

    def take(self) -> tuple[Columns, list[str]]:
        """The columns filled since the last call, and the hosts that their `host` indexes."""
        taken = self._columns, self._hosts
        self._begin()
        return taken

    def counters(self, in_flight: int, outstanding: int) -> Counters:
        """Totals so far.

        Args:
            in_flight: arrivals taken from the pacer that have no row yet.
            outstanding: those of them whose request was sent.
        """
        counts = self._counts
        rows = sum(counts)
        return Counters(
            planned=rows + in_flight,
            rows=rows,
            sent=sum(counts[:FIRST_NOT_SENT]) + outstanding,
            completed=counts[Outcome.COMPLETED],
            errors=sum(counts[1:FIRST_NOT_SENT]),
            dropped=counts[Outcome.DROPPED],
            late=counts[Outcome.LATE],
            connect_failed=sum(counts[outcome] for outcome in CONNECT_OUTCOMES),
            cut=counts[Outcome.CUT],
            bytes_received=self._bytes_received,
            skipped=self.skipped,
            cut_short=self.cut_short,
        )
