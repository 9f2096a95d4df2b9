"""Pacers: turn a schedule and an arrival process into absolute intended times. Pure: no clock, no sleep.

Arrivals are counted in Λ, the integral of the service's total rate. A pacer yields the arrivals of its own clients,
independently of other shards; the union over disjoint sets of clients is the intended process.

Longer than other modules: all pacers are compiled together, as they share their inner loops' types.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush, heapreplace
from itertools import count, islice
from typing import Final, Protocol

from loadgen.arrivals.distributions import CONSTANT, DISTRIBUTIONS, EXPOVARIATE, mean_gap, residual_sampler, sampler
from loadgen.arrivals.schedule import Schedule

# Recorded times, in seconds since the start, are given in place of parameters.
PRERECORDED = "prerecorded"
ARRIVAL_PROCESSES = (*DISTRIBUTIONS, PRERECORDED)

# Of the arrival processes: the same plan and seed give the same intended times in the same version. In 1, a process
# other than constant, Poisson and recorded arrivals had run for ten mean gaps before the start; since 2, it is
# stationary.
ARRIVALS_VERSION: Final = 2
_SAME_IN_ALL_VERSIONS: Final = (CONSTANT, EXPOVARIATE, PRERECORDED)

# Workloads start at different offsets, so that several constant ones do not fire in lockstep. Golden-ratio steps keep
# them apart; 1/2 for the first makes its counts round to the nearest.
_GOLDEN = 0.6180339887498949

# Arrivals that are sorted together: few, as others are due while they are computed.
_ARRIVALS_PER_BUCKET: Final = 16

_LONGEST_GAP_S: Final = 1e9  # some distributions have no bound

# (intended ns since the start, client index, the client's sequence number from 0)
Arrival = tuple[int, int, int]
# (Λ at an arrival, position of its client in the pacer's list)
Due = tuple[float, int]
Buckets = dict[int, list[Due]]
# Adds to the buckets the arrival that follows each arrival of one bucket.
Follow = Callable[[list[Due], Buckets, float], None]


def first_offset(workload: int) -> float:
    """Returns the offset of a constant workload's first arrival in its first gap, 0 < offset < 1."""
    return (0.5 + workload * _GOLDEN) % 1.0


def times_differ(process: str, version: int) -> bool:
    """Returns whether a process has other intended times than in an earlier version of the arrival processes."""
    return version < ARRIVALS_VERSION and process not in _SAME_IN_ALL_VERSIONS


class Pacer(Protocol):
    """An iterable of arrivals, the same in each iteration; intended times never decrease."""

    def __iter__(self) -> Iterator[Arrival]: ...

    def count(self) -> int:
        """Returns the number of all arrivals."""
        ...


class ConstantPacer:
    """Arrival k of the workload is intended at Λ⁻¹(k + offset) and belongs to client k mod N.

    Args:
        clients: indexes of the clients to yield arrivals for, each below `total_clients`.
        total_clients: N, over all shards.
    """

    def __init__(self, schedule: Schedule, clients: Sequence[int], total_clients: int, offset: float) -> None:
        self._schedule = schedule
        self._clients = sorted(clients)
        self._total_clients = total_clients
        self._offset = offset

    def __iter__(self) -> Iterator[Arrival]:
        clients, total, offset = self._clients, self._total_clients, self._offset
        if not clients:
            return
        steps = iter(self._schedule.steps)
        first = end = origin_ns = ns_per_arrival = 0.0
        for sequence in count():
            turn = sequence * total
            for client in clients:
                arrival = turn + client + offset
                while arrival >= end:
                    step = next(steps, None)
                    if step is None:
                        return
                    first, end, origin_ns, ns_per_arrival = step
                yield int(origin_ns + (arrival - first) * ns_per_arrival), client, sequence

    def count(self) -> int:
        offset, total = self._offset, self._schedule.total
        arrivals = max(0, math.ceil(total - offset))
        # The sum decides, as it does above: its rounding may differ from the difference's.
        while arrivals and arrivals - 1 + offset >= total:
            arrivals -= 1
        while arrivals + offset < total:
            arrivals += 1
        return _in_turn(arrivals, self._clients, self._total_clients)


class RenewalPacer(ABC):
    """Each client runs its own renewal process of unit mean through Λ⁻¹, at 1/N of the service's rate.

    A client's random source is seeded by (seed, workload, client): placement does not change its gaps. Clients wait in
    buckets of Λ, each with its next arrival. A bucket is sorted at its time: a heap of all clients takes nearly twice
    as long per arrival.
    """

    def __init__(
        self, schedule: Schedule, clients: Sequence[int], total_clients: int, seed: int, workload: int
    ) -> None:
        self._schedule = schedule
        self._clients = sorted(clients)
        self._total_clients = total_clients
        self._seed = seed
        self._workload = workload

    @abstractmethod
    def _draw(self, sources: list[random.Random]) -> tuple[list[float], Follow]:
        """Returns each client's first arrival in Λ, and the function that adds the following arrivals of a bucket."""

    def __iter__(self) -> Iterator[Arrival]:
        clients = self._clients
        if not clients:
            return
        starts, follow = self._draw([random.Random(f"{self._seed}/{self._workload}/{client}") for client in clients])
        buckets_per_arrival = len(clients) / (self._total_clients * _ARRIVALS_PER_BUCKET)
        buckets: Buckets = defaultdict(list)
        for slot, start in enumerate(starts):
            buckets[int(start * buckets_per_arrival)].append((start, slot))
        sequences = [0] * len(clients)
        steps = iter(self._schedule.steps)
        first = end = origin_ns = ns_per_arrival = 0.0
        for number in range(int(self._schedule.total * buckets_per_arrival) + 1):
            if number not in buckets:
                continue
            due = buckets[number]
            follow(due, buckets, buckets_per_arrival)
            del buckets[number]
            due.sort()
            for arrival, slot in due:
                while arrival >= end:
                    step = next(steps, None)
                    if step is None:
                        return
                    first, end, origin_ns, ns_per_arrival = step
                sequence = sequences[slot]
                sequences[slot] = sequence + 1
                yield int(origin_ns + (arrival - first) * ns_per_arrival), clients[slot], sequence

    def count(self) -> int:
        return sum(1 for _ in self)


class PoissonPacer(RenewalPacer):
    """With exponential gaps each client, and so their union, is a Poisson process of the schedule's rate.

    It is the time change of a unit-rate process (Çinlar, Introduction to Stochastic Processes, 4.7).
    """

    def _draw(self, sources: list[random.Random]) -> tuple[list[float], Follow]:
        # Inlined, as calls of `expovariate` would take half of the time per arrival.
        uniforms, log, total = [source.random for source in sources], math.log, self._total_clients

        def follow(due: list[Due], buckets: Buckets, buckets_per_arrival: float) -> None:
            for arrival, slot in due:  # grows meanwhile: a following arrival may belong to the same bucket
                later = arrival - log(1.0 - uniforms[slot]()) * total
                buckets[int(later * buckets_per_arrival)].append((later, slot))

        return [-log(1.0 - uniform()) * total for uniform in uniforms], follow


class DistributedPacer(RenewalPacer):
    """Gaps of any distribution of distributions.py, scaled to their mean; one that is not above 0 is 0.

    Each client's process is stationary: it begins with the rest of a gap, so that the rate is the schedule's from the
    first moment on, on average. If all clients began with a whole gap, they would send together.
    """

    def __init__(
        self,
        schedule: Schedule,
        clients: Sequence[int],
        total_clients: int,
        seed: int,
        workload: int,
        distribution: str,
        parameters: Sequence[float],
    ) -> None:
        super().__init__(schedule, clients, total_clients, seed, workload)
        self._distribution = distribution
        self._parameters = parameters
        self._scale = total_clients / mean_gap(distribution, parameters)

    def _draw(self, sources: list[random.Random]) -> tuple[list[float], Follow]:
        draws = [sampler(self._distribution, self._parameters, source) for source in sources]
        scale = self._scale

        def follow(due: list[Due], buckets: Buckets, buckets_per_arrival: float) -> None:
            for arrival, slot in due:  # grows meanwhile: a following arrival may belong to the same bucket
                gap = draws[slot]()
                later = arrival + gap * scale if gap > 0 else arrival
                buckets[int(later * buckets_per_arrival)].append((later, slot))

        residual = residual_sampler(self._distribution, self._parameters)
        return [residual(source) * scale for source in sources], follow


class GapsPacer:
    """Each client waits for a drawn gap before each of its requests, without a schedule.

    Clients with constant gaps are spread over the first gap by golden-ratio steps, so that no two send in lockstep. A
    gap that is not above 0 means at once.

    Args:
        requests: of each client; None for no limit.
        parameters: of the distribution; for PRERECORDED, the gaps in seconds, which each client replays.
        seed: with the client's index it seeds the client's random source.
        recorded: for PRERECORDED, the gaps by the client's index as a string, instead of the same gaps for all.
    """

    def __init__(
        self,
        distribution: str,
        parameters: Sequence[float],
        requests: int | None,
        clients: Sequence[int],
        seed: str,
        recorded: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._distribution = distribution
        self._parameters = parameters
        self._requests = requests
        self._clients = clients
        self._seed = seed
        self._recorded = recorded

    def __iter__(self) -> Iterator[Arrival]:
        gaps = {client: self._gaps(client) for client in self._clients}
        due: list[tuple[int, int, int]] = []
        for client, own in gaps.items():
            if (gap_s := next(own, None)) is not None:
                if self._distribution == CONSTANT:
                    gap_s *= first_offset(client)
                heappush(due, (_gap_ns(gap_s), client, 0))
        while due:
            yield due[0]
            intended_ns, client, sequence = due[0]
            gap_s = next(gaps[client], None)
            if gap_s is None:
                heappop(due)
            else:
                heapreplace(due, (intended_ns + _gap_ns(gap_s), client, sequence + 1))

    def _gaps(self, client: int) -> Iterator[float]:
        if self._distribution == PRERECORDED:
            own = self._recorded.get(str(client), ()) if self._recorded else self._parameters
            return islice(own, self._requests)
        draw = sampler(self._distribution, self._parameters, random.Random(f"{self._seed}/{client}"))
        return (draw() for _ in (count() if self._requests is None else range(self._requests)))


def _gap_ns(gap_s: float) -> int:
    return round(min(max(gap_s, 0.0), _LONGEST_GAP_S) * 1e9)


class PrerecordedPacer:
    """Arrival k is intended at the k-th recorded time and belongs to client k mod N.

    Args:
        times_ns: since the start of the load, in order.
    """

    def __init__(self, times_ns: Sequence[int], clients: Sequence[int], total_clients: int) -> None:
        self._times_ns = times_ns
        self._clients = sorted(clients)
        self._total_clients = total_clients

    def __iter__(self) -> Iterator[Arrival]:
        times_ns, total = self._times_ns, self._total_clients
        for sequence, turn in enumerate(range(0, len(times_ns), total)):
            for client in self._clients:
                if turn + client >= len(times_ns):
                    return
                yield times_ns[turn + client], client, sequence

    def count(self) -> int:
        return _in_turn(len(self._times_ns), self._clients, self._total_clients)


def _in_turn(arrivals: int, clients: Sequence[int], total_clients: int) -> int:
    """Returns how many k below `arrivals` have k mod N among the clients."""
    turns, rest = divmod(arrivals, total_clients)
    return turns * len(clients) + sum(1 for client in clients if client < rest)


def build_pacer(
    process: str,
    schedule: Schedule,
    clients: Sequence[int],
    total_clients: int,
    seed: int,
    workload: int,
    parameters: Sequence[float] = (),
) -> Pacer:
    """Returns the pacer of one shard.

    Args:
        parameters: of the distribution, which has defaults (distributions.py); for PRERECORDED, the times.

    Raises:
        DistributionError: the arrival process is not one of `ARRIVAL_PROCESSES`, or a schedule cannot be paced with its
            parameters.
    """
    if process == CONSTANT:
        return ConstantPacer(schedule, clients, total_clients, first_offset(workload))
    if process == PRERECORDED:
        times_ns = sorted(round(time_s * 1e9) for time_s in parameters)
        within = times_ns[: bisect_left(times_ns, schedule.duration_ns)]
        return PrerecordedPacer(within, clients, total_clients)
    if process == EXPOVARIATE:
        return PoissonPacer(schedule, clients, total_clients, seed, workload)
    return DistributedPacer(schedule, clients, total_clients, seed, workload, process, parameters)
