"""PlanCut: records the rest of a stopped plan as CUT, in parts, so that the event loop is not blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from loadgen.engine.executors.base import Executor
from loadgen.engine.recorder import Recorder

# Rows recorded per turn of the event loop (about a millisecond).
_ROWS_PER_TURN: Final = 1000
# A longer rest would need too much memory; the controller computes its number from the plan.
MAX_CUT_ROWS: Final = 200_000


class PlanCut:
    """The recording of the rest of one executor's plan.

    Args:
        on_error: called with an error of the executor, which ends the recording.

    Attributes:
        is_done: whether the rest was recorded, or is not to be.
    """

    def __init__(self, executor: Executor, recorder: Recorder, on_error: Callable[[Exception], None]) -> None:
        self._executor = executor
        self._recorder = recorder
        self._on_error = on_error
        self.is_done = False

    def record(self) -> None:
        """Records the next part of the rest now, and the following ones in the next turns of the event loop."""
        if self.is_done:
            return
        try:
            if self._recorder.cut_rows >= MAX_CUT_ROWS:
                self._recorder.cut_short = True
                self.is_done = True
            elif self._executor.cut(_ROWS_PER_TURN):
                asyncio.get_running_loop().call_soon(self.record)
            else:
                self.is_done = True
        except Exception as error:  # noqa: BLE001
            self._on_error(error)

    def leave_rest(self) -> None:
        """Records no more of the plan."""
        self.is_done = True
