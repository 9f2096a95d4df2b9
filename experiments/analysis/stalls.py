"""What held up a shard's event loop, in words, and what can be done about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_NS = 1_000_000_000
_PARTS = ("waited", "app", "collecting", "sealing", "own")
# A smaller part of a stall is not worth a word.
_NAMED_FROM = 0.1


@dataclass(frozen=True)
class StallFacts:
    """The longest stall of a shard's event loop, and how much of it went where (loadgen/engine/stalls.py).

    `app` names the client app, where there is one.
    """

    length_s: float
    waited_s: float = 0.0
    app_s: float = 0.0
    collecting_s: float = 0.0
    sealing_s: float = 0.0
    own_s: float = 0.0
    app: str = ""

    @classmethod
    def of(cls, gauges: dict[str, int], app: str) -> StallFacts:
        """The stall that the gauges of a batch tell of."""
        return cls(
            length_s=gauges["max_stall_ns"] / _NS,
            **{f"{name}_s": gauges[f"stall_{name}_ns"] / _NS for name in _PARTS},
            app=app,
        )

    @property
    def stopped_s(self) -> float:
        """What remains: the process neither ran nor waited for the CPU."""
        known_s: float = sum(getattr(self, f"{name}_s") for name in _PARTS)
        return max(0.0, self.length_s - known_s)

    def causes(self) -> str:
        """Where the time went, the greatest part first."""
        parts = [(time_s, what) for time_s, what, _ in self._parts() if time_s >= _NAMED_FROM * self.length_s]
        return ", ".join(f"{1000 * time_s:,.0f} ms {what}" for time_s, what in parts)

    def advice(self) -> str:
        """What can be done about the greatest part."""
        return self._parts()[0][2]

    def to_dict(self) -> dict[str, Any]:
        return {f"{name}_s": getattr(self, f"{name}_s") for name in (*_PARTS, "stopped")}

    def _parts(self) -> list[tuple[float, str, str]]:
        parts = [
            (
                self.app_s,
                f"in next_request() or on_response() of client app {self.app!r}",
                SLOW_APP_ADVICE,
            ),
            (
                self.collecting_s,
                "in the garbage collector",
                "the client app leaves many objects that refer to each other: let it make fewer of them",
            ),
            (
                self.sealing_s,
                "in the sealing of trace batches",
                "writing to the spool is slow: put galileo_spool_dir on a file system in memory (tmpfs)",
            ),
            (
                self.own_s,
                "of work with requests and responses",
                "more came at once than one core can do: raise shards_per_worker, or use more workers",
            ),
            (
                self.waited_s,
                "waiting for the CPU, which others had",
                "keep other work off the worker, or place fewer shards there",
            ),
            (
                self.stopped_s,
                "in which the process was stopped or swapped out, or the machine stood still",
                "look whether the worker was suspended, out of memory, or paused by its host",
            ),
        ]
        return sorted(parts, key=lambda part: -part[0])


SLOW_APP_ADVICE = (
    "nothing is sent or received meanwhile: let the app prepare its data when its module is loaded, and neither "
    "compute for long nor wait in next_request() and on_response()"
)
