"""Backoff: pauses before restarts, each twice as long as the one before."""

from __future__ import annotations

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
# After a run of this length, the next pause is the first one again.
WELL_AFTER_S = 60.0


class Backoff:
    """The pauses of one thing that is restarted whenever it fails."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def pause_s(self, ran_s: float) -> float:
        """Returns the pause after a run of `ran_s`, from FIRST_PAUSE_S to LONGEST_PAUSE_S."""
        pause_s = FIRST_PAUSE_S if ran_s > WELL_AFTER_S else self._next_s
        self._next_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return pause_s
