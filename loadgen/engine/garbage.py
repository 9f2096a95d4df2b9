"""Keeps the garbage collector out of a load: objects alive at its start are frozen, and collections are planned."""

from __future__ import annotations

import gc

# A collection is due when so many objects that may be in cycles were made since the last one. Failed connects and
# client apps make cycles; requests make none.
_DUE_AT = 50_000


class GarbageCollection:
    """`collect` before a run, `freeze` at its start, `collect_if_due` now and then, `thaw` at its end. Idempotent."""

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
        """Collects the cycles that the load itself has made, if there are many: memory stays bounded in a long run."""
        if self._frozen and gc.get_count()[0] > _DUE_AT:
            gc.collect()

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            gc.unfreeze()
            if self._was_enabled:
                gc.enable()
