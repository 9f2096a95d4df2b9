"""Keeps the garbage collector out of the run: what is alive at its start is frozen; nothing is collected by chance."""

from __future__ import annotations

import gc

# Objects with possible cycles made since the last collection, above which one is due (failed connects and client apps
# make cycles; requests make none).
_DUE_AT = 50_000


class GarbageCollection:
    """`collect` before a run, `freeze` at its start, `tend` now and then, `thaw` at its end. Idempotent."""

    __slots__ = ("_frozen", "_was_enabled")

    def __init__(self) -> None:
        self._frozen = False
        self._was_enabled = False

    def collect(self) -> None:
        """What takes long, done before time counts."""
        gc.collect()

    def freeze(self) -> None:
        if not self._frozen:
            self._was_enabled = gc.isenabled()
            self._frozen = True
            gc.freeze()
            gc.disable()

    def collect_if_due(self) -> None:
        """Collects what cycles the run itself has made, if they are many: memory stays bounded in a long run."""
        if self._frozen and gc.get_count()[0] > _DUE_AT:
            gc.collect()

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            gc.unfreeze()
            if self._was_enabled:
                gc.enable()
