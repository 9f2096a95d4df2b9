"""Pacers turn a schedule and an arrival process into absolute intended times. Pure: no clock, no sleep.

Arrivals are counted in Λ, the integral of the service's total rate. A pacer yields the arrivals of the clients that it
is given, and exactly those, whatever other shards do; the union over disjoint sets of clients is the intended process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Protocol

from loadgen.schedule import Schedule

CONSTANT = "constant"
EXPOVARIATE = "expovariate"
ARRIVAL_PROCESSES = (CONSTANT, EXPOVARIATE)

# Workloads start at different phases, so that several constant ones do not fire in lockstep. Golden-ratio steps keep
# them apart; 1/2 for the first makes its counts round to the nearest.
_GOLDEN = 0.6180339887498949


def phase_of(workload: int) -> float:
    """Where in the first gap, 0 < phase < 1, a constant workload's first arrival lies."""
    return (0.5 + workload * _GOLDEN) % 1.0


class Pacer(Protocol):
    """An iterator of arrivals: (intended ns since the start, client index, the client's sequence number from 0).

    Intended times never decrease. The iterator ends with the schedule.
    """

    def __iter__(self) -> Iterator[tuple[int, int, int]]: ...


class ConstantPacer:
    """Arrival k of the workload is intended at Λ⁻¹(k + phase) and belongs to client k mod N.

    Args:
        clients: indexes of the clients to yield arrivals for, each below `total_clients`.
        total_clients: N, over all shards.
    """

    def __init__(self, schedule: Schedule, clients: Sequence[int], total_clients: int, phase: float) -> None:
        self._schedule = schedule
        self._clients = sorted(clients)
        self._total_clients = total_clients
        self._phase = phase

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        time_of, total, phase = self._schedule.time_of, self._total_clients, self._phase
        sequence = 0
        while self._clients:
            base = sequence * total + phase
            for client in self._clients:
                intended_ns = time_of(base + client)
                if intended_ns is None:
                    return
                yield intended_ns, client, sequence
            sequence += 1


class RenewalPacer:
    """Each client runs its own renewal process of unit mean through Λ⁻¹, at 1/N of the service's rate.

    With exponential gaps each client, and so their union, is a Poisson process of the schedule's rate (time change of a
    unit-rate process: Çinlar, Introduction to Stochastic Processes, 4.7). A client's random source is seeded by
    (seed, workload, client): placement does not change its gaps.
    """

    def __init__(
        self, schedule: Schedule, clients: Sequence[int], total_clients: int, seed: int, workload: int
    ) -> None:
        self._schedule = schedule
        self._clients = sorted(clients)
        self._total_clients = total_clients
        self._seed = seed
        self._workload = workload

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        time_of, total = self._schedule.time_of, self._total_clients
        gaps = [random.Random(f"{self._seed}/{self._workload}/{client}").expovariate for client in self._clients]
        rate = 1.0 / total
        # Heap of (Λ at the client's next arrival, position in `clients`); Λ⁻¹ keeps the order.
        heap = [(gap(rate), slot) for slot, gap in enumerate(gaps)]
        heapify(heap)
        sequences = [0] * len(heap)
        while heap:
            arrivals, slot = heap[0]
            intended_ns = time_of(arrivals)
            if intended_ns is None:
                heappop(heap)
                continue
            yield intended_ns, self._clients[slot], sequences[slot]
            sequences[slot] += 1
            heapreplace(heap, (arrivals + gaps[slot](rate), slot))


def build_pacer(
    process: str,
    schedule: Schedule,
    clients: Sequence[int],
    total_clients: int,
    seed: int,
    workload: int,
) -> Pacer:
    """The pacer of one shard.

    Raises:
        ValueError: for an arrival process that is none of `ARRIVAL_PROCESSES`.
    """
    if process == CONSTANT:
        return ConstantPacer(schedule, clients, total_clients, phase_of(workload))
    if process == EXPOVARIATE:
        return RenewalPacer(schedule, clients, total_clients, seed, workload)
    raise ValueError(f"unknown arrival process {process!r}; one of {', '.join(ARRIVAL_PROCESSES)} is needed")
