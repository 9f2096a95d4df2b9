"""Measures what a long run uses: memory and descriptors of each process, keys and memory of the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import redis

from tests.faults.stack import WORKERS, Stack
from tests.support.process_tree import command_of

EVERY_S = 2.0
MIB = 1 << 20


@dataclass
class Series:
    """One quantity over time; `times_s` since the meter's start."""

    name: str
    unit: str
    times_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def since(self, from_s: float) -> Series:
        kept = [(at_s, value) for at_s, value in zip(self.times_s, self.values, strict=True) if at_s >= from_s]
        return Series(self.name, self.unit, [at_s for at_s, _ in kept], [value for _, value in kept])

    @property
    def slope_per_min(self) -> float:
        """Of the least-squares line."""
        return float(np.polyfit(np.array(self.times_s) / 60, self.values, 1)[0])

    @property
    def growth(self) -> float:
        """The median of the last third less that of the first: what noise and single peaks do not show."""
        third = max(1, len(self.values) // 3)
        return float(np.median(self.values[-third:]) - np.median(self.values[:third]))


class Meter:
    """A context manager that samples in a thread of its own."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._series: dict[tuple[str, int, str], Series] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter")
        self._began_s = time.monotonic()

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def now_s(self) -> float:
        return time.monotonic() - self._began_s

    def series(self) -> list[Series]:
        """All of them, those of processes that have ended, too; by name."""
        return [self._series[key] for key in sorted(self._series)]

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            for name, process in self._processes():
                try:
                    memory = process.memory_full_info().uss / MIB
                    descriptors = process.num_fds()
                except psutil.Error:
                    continue  # it has ended just now
                self._add(name, process.pid, "MiB", memory)
                self._add(name, process.pid, "descriptors", descriptors)
            self._broker()

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for child, process in list(self._stack.galileo.children.items()):
            try:
                main = psutil.Process(process.pid)
                yield child, main
                for descendant in main.children(recursive=True):
                    yield f"{child} {_kind(child, descendant)}", descendant
            except psutil.Error:
                continue

    def _broker(self) -> None:
        measure: dict[str, Callable[[], Any]] = {
            "keys": self._stack.broker.dbsize,
            "clients": lambda: self._info("clients")["connected_clients"],
            "MiB": lambda: self._info("memory")["used_memory"] / MIB,
        }
        try:
            for unit, read in measure.items():
                self._add("broker", 0, unit, read())
        except redis.RedisError:
            return  # it is one of the faults that it is away

    def _info(self, section: str) -> dict[str, Any]:
        info: Any = self._stack.broker.info(section)
        return dict(info)

    def _add(self, name: str, pid: int, unit: str, value: float) -> None:
        series = self._series.setdefault((name, pid, unit), Series(name, unit))
        series.times_s.append(self.now_s())
        series.values.append(float(value))


def _kind(child: str, process: psutil.Process) -> str:
    if child in WORKERS:
        return "agent" if "loadgen.agent.main" in command_of(process) else "slot"
    return "child"


def lines(series: list[Series], limits: dict[str, float]) -> Iterator[str]:
    """A table of what was used, with slopes; what grew more than its unit's limit is marked."""
    yield f"{'process':<24} {'unit':<12} {'begin':>10} {'end':>10} {'per minute':>11}  growth"
    for one in series:
        grew = "GROWS" if one.growth > limits[one.unit] else "flat"
        yield (
            f"{one.name:<24} {one.unit:<12} {one.values[0]:>10.2f} {one.values[-1]:>10.2f}"
            f" {one.slope_per_min:>+11.3f}  {grew}"
        )
