"""KnownHeads: remembers heads that were read."""

from __future__ import annotations

from typing import Final

from loadgen.engine.http.response.head import UNTIL_EOF, ResponseHead, may_redirect

_LONGEST_KNOWN_HEAD: Final = 4096
_MAX_KNOWN_HEADS: Final = 256
# For servers whose heads are all different: not each of them may be kept.
_LEARNED_PER_TICK: Final = 4


class KnownHeads:
    """Remembers heads, as a look-up costs a tenth of reading one.

    A server repeats its heads until the second of their `Date` is over, at high rates thousands of times. The keys of
    `heads` are the exact bytes that were read. Heads whose body ends with the connection are not kept.
    """

    __slots__ = ("_budget", "heads")

    def __init__(self) -> None:
        self.heads: dict[bytes, ResponseHead] = {}
        self._budget = _LEARNED_PER_TICK

    def tick(self) -> None:
        """Allows a few more heads to be learned; to be called every few milliseconds."""
        self._budget = _LEARNED_PER_TICK

    def learn(self, head: bytes, known: ResponseHead) -> None:
        """Remembers the head of a response that is not to be followed as a redirect."""
        # Connections look heads up by their usual end.
        if not self._budget or len(head) > _LONGEST_KNOWN_HEAD or not head.endswith(b"\r\n\r\n"):
            return
        if known.length == UNTIL_EOF or may_redirect(known.status) or head.find(b"\r\n\r\n") != len(head) - 4:
            return
        self._budget -= 1
        if len(self.heads) >= _MAX_KNOWN_HEADS:
            self.heads.clear()
        self.heads[head] = known
