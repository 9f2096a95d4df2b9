"""LoggedRequests: the lines of one group's requests in all logs together, counted for each request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.analysis.target_log.logged_ids import LoggedIds

Keys = NDArray[np.uint64]


class LoggedRequests:
    """Counts the lines of each request. The requests of an arrival, the first and those after redirects, are distinct.

    Its cost grows with the number of lines n as n log n.

    Args:
        logged: the ids of one group in each log.
    """

    def __init__(self, logged: Sequence[LoggedIds]) -> None:
        rows = np.concatenate([ids.requests() for ids in logged] or [np.empty((0, 2), dtype=np.uint64)])
        self._shapes = np.concatenate([np.array(ids.shapes, dtype=np.uint64) for ids in logged] or [rows[:, 0]])
        # One row of (key, hops) for each request, its number for each line, and its number of lines.
        self._requests, numbers, self._counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        self._numbers = numbers.reshape(-1)
        self._logs = np.repeat(np.arange(len(logged), dtype=np.uint64), [len(ids.keys) for ids in logged])

    @property
    def is_empty(self) -> bool:
        """Whether the logs have no id of the group."""
        return not len(self._counts)

    @property
    def lines(self) -> int:
        """The number of lines with first requests of arrivals."""
        return int(self._counts[self._requests[:, 1] == 0].sum())

    @property
    def keys(self) -> Keys:
        """The keys of all arrivals, sorted."""
        return np.unique(self._requests[:, 0])

    def first_keys(self) -> Keys:
        """The keys of the arrivals whose first request is logged."""
        keys: Keys = self._requests[self._requests[:, 1] == 0, 0]
        return keys

    def usual_lines(self) -> int:
        """Returns how many lines the targets write for each request, 1 or more.

        That is the most common number of lines of a request: an application logs the begin and the end of a request, or
        two servers in a row log it, each in its own log. But lines of one request in one log that differ in nothing but
        digits (times, durations) come from the same statement: then the request was received more than once, and that
        statement's lines count once.
        """
        if not len(self._counts):
            return 1
        return max(1, self._usual_count() // self._usual_repeats(self._lines()))

    def logs_of_a_statement(self) -> int:
        """Returns in how many logs the same statement usually writes of a request: 1, or more for servers in a row.

        As many instances of one server that each received every request have the same logs.
        """
        if not len(self._counts):
            return 1
        statements = np.unique(self._lines(), axis=0)
        return self._usual_repeats(statements[:, :2])

    def _lines(self) -> NDArray[np.uint64]:
        """One row for each line: the number of its request, its shape, the number of its log."""
        return np.stack((self._numbers.astype(np.uint64), self._shapes, self._logs), axis=1)

    def _usual_count(self) -> int:
        """The most common number of lines of a request."""
        return int(np.bincount(self._counts).argmax())

    def _usual_repeats(self, rows: NDArray[np.uint64]) -> int:
        """How often a row repeats, at most, for most of the requests with the usual number of lines.

        Args:
            rows: the number of a request, and anything else.
        """
        found, repeats = np.unique(rows, axis=0, return_counts=True)
        most_repeats = np.zeros(len(self._counts), dtype=np.int64)
        np.maximum.at(most_repeats, found[:, 0].astype(np.int64), repeats)
        return int(np.bincount(most_repeats[self._counts == self._usual_count()]).argmax())

    def are_all_in(self, lines: int) -> bool:
        """Returns whether each request is logged in exactly so many lines."""
        return bool((self._counts == lines).all())

    def in_more_lines_than(self, lines: int) -> Keys:
        """Returns the keys of the arrivals with a request that is logged in more lines, sorted."""
        return np.unique(self._requests[self._counts > lines, 0])
