"""Recorder: packs the rows of the trace, and counts them."""

from __future__ import annotations

from collections.abc import Sequence

from loadgen.engine.primitives import Rows
from loadgen.protocol.messages import Counters
from loadgen.protocol.outcomes import CONNECT_OUTCOMES, FIRST_NOT_SENT, Outcome
from loadgen.protocol.trace_batch import NO_HOST, NO_TIME


class Recorder:
    """Writes one row per arrival into the buffer of the next batch."""

    __slots__ = (
        "_bytes_received",
        "_counts",
        "_endpoint_index",
        "_endpoints",
        "_rows",
        "cut_short",
        "skipped",
        "start_ns",
    )

    def __init__(self) -> None:
        self._counts = [0] * (max(Outcome) + 1)
        self._bytes_received = 0
        self.cut_short = False
        self.skipped = 0
        self.start_ns = 0  # the schedule's zero, by the clock of the times given to `row`
        self._rows = Rows()
        self._begin()

    def _begin(self) -> None:
        self._endpoints: list[str] = []
        self._endpoint_index: dict[str | None, int] = {None: NO_HOST}

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
        endpoint: str | None,
        size: int,
        routing_version: int,
        reason: int = 0,
        resent: int = 0,
    ) -> None:
        """Records the end of an arrival.

        Args:
            dispatched_ns, sent_ns, done_ns: each is NO_TIME, or not before the preceding one, which is a time then.
            endpoint: as made by trace_batch.endpoint_of; None if no host was chosen.
            size: received bytes of the body, complete or not.
            reason: of a malformed response, a MalformedReason.
            resent: 1 if the request was sent a second time, as the connection had ended.
        """
        index = self._endpoint_index.get(endpoint)
        if index is None:
            index = self._add_endpoint(endpoint)
        self._rows.put(
            client,
            sequence,
            intended_ns - self.start_ns,
            dispatched_ns - intended_ns,
            sent_ns - dispatched_ns if sent_ns != NO_TIME else NO_TIME,
            done_ns - sent_ns if done_ns != NO_TIME else NO_TIME,
            outcome,
            status,
            index,
            size,
            routing_version,
            reason,
            resent,
        )
        self._counts[outcome] += 1
        self._bytes_received += size

    def unsent(
        self, client: int, sequence: int, intended_ns: int, dispatched_ns: int, outcome: int, routing_version: int
    ) -> None:
        """Records an arrival that the executor reached, and did not send."""
        self.row(client, sequence, intended_ns, dispatched_ns, NO_TIME, NO_TIME, outcome, 0, None, 0, routing_version)

    def cut(self, arrivals: Sequence[tuple[int, int, int]]) -> None:
        """Records arrivals (intended ns, client, sequence) that will never be dispatched as CUT."""
        rows, outcome = self._rows, int(Outcome.CUT)
        for intended_ns, client, sequence in arrivals:
            rows.put(client, sequence, intended_ns, NO_TIME, NO_TIME, NO_TIME, outcome, 0, NO_HOST, 0, 0, 0, 0)
        self._counts[outcome] += len(arrivals)

    @property
    def rows(self) -> int:
        """How many rows were recorded since the last call of `take`."""
        return len(self._rows)

    @property
    def completed(self) -> int:
        return self._counts[Outcome.COMPLETED]

    @property
    def cut_rows(self) -> int:
        return self._counts[Outcome.CUT]

    def _add_endpoint(self, endpoint: str | None) -> int:
        assert endpoint is not None  # None has an index from the beginning
        index = self._endpoint_index[endpoint] = len(self._endpoints)
        self._endpoints.append(endpoint)
        return index

    def take(self) -> tuple[memoryview, list[str]]:
        """Returns the rows since the last call (trace_batch.py), and the endpoints that their `host` column indexes."""
        taken = self._rows.take(), self._endpoints
        self._begin()
        return taken

    def counters(self, in_flight: int, outstanding: int) -> Counters:
        """Returns the totals so far.

        Args:
            in_flight: arrivals that were dispatched and have no row yet.
            outstanding: those whose request was sent.
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
