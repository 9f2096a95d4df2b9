"""GarbageCollection: keeps the garbage collector from interrupting a load."""

from __future__ import annotations

import gc

# A collection is due after so many new objects that may be in cycles. Failed connects and client apps make cycles;
# requests make none.
_DUE_AT = 50_000


class GarbageCollection:
    """Freezes the objects that are alive at a load's start, and collects the later ones at chosen times.

    Call `collect` before a run, `freeze` at its start, `collect_if_due` now and then, and `thaw` at its end.
    """

    __slots__ = ("_frozen", "_was_enabled")

    def __init__(self) -> None:
        self._frozen = False
        self._was_enabled = False

    def collect(self) -> None:
        """Collects once before the start, as it may take long."""
        gc.collect()

    def freeze(self) -> None:
        if not self._frozen:
            self._was_enabled = gc.isenabled()
            self._frozen = True
            gc.freeze()
            gc.disable()

    def collect_if_due(self) -> None:
        """Collects the cycles that the load has made, if there are many, so that memory stays bounded in a long run."""
        if self._frozen and gc.get_count()[0] > _DUE_AT:
            gc.collect()

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            gc.unfreeze()
            if self._was_enabled:
                gc.enable()
