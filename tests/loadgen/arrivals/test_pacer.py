"""Pacers yield the intended times of exactly their clients, whatever other shards do."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import pairwise
from statistics import fmean, stdev

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from loadgen.arrivals.distributions import CONSTANT, EXPOVARIATE, DistributionError, mean_gap, sampler
from loadgen.arrivals.pacer import (
    ARRIVAL_PROCESSES,
    ARRIVALS_VERSION,
    PRERECORDED,
    Pacer,
    build_pacer,
    first_offset,
    times_differ,
)
from loadgen.arrivals.schedule import Schedule

S = 1_000_000_000
Arrival = tuple[int, int, int]

RECORDED_S = [0.0, 0.1, 0.1, 0.25, 0.7, 1.2, 1.2, 1.3, 1.4, 2.0, 2.5, 3.9, 4.1, 6.5, 6.9, 7.0, 80.0]
# One of each arrival process.
PARAMETERS: dict[str, list[float]] = {
    CONSTANT: [],
    "uniform": [0, 1],
    "triangular": [0, 1, 0.2],
    "normalvariate": [1, 0.3],
    "gauss": [1, 2],  # three gaps in ten are not above 0
    "lognormvariate": [0, 1],
    EXPOVARIATE: [],
    "vonmisesvariate": [3, 2],
    "gammavariate": [0.5, 3],
    "betavariate": [2, 3],
    "paretovariate": [3.5],
    "weibullvariate": [1, 1.5],
    PRERECORDED: RECORDED_S,
}
SHAPES: list[tuple[str, list[float]]] = [
    ("uniform", [0, 1]),
    ("uniform", [-1, 2]),
    ("triangular", [-1, 3, 0]),
    ("normalvariate", [1, 1]),
    ("lognormvariate", [0, 1]),
    ("lognormvariate", [0, 3]),
    (EXPOVARIATE, []),
    ("vonmisesvariate", [0, 4]),
    ("gammavariate", [0.1, 1]),
    ("betavariate", [0.2, 3]),
    ("paretovariate", [1.1]),
    ("paretovariate", [1.5]),
    ("weibullvariate", [1, 0.3]),
    ("weibullvariate", [0.2, 1]),
]
RANDOM = [process for process in ARRIVAL_PROCESSES if process not in (CONSTANT, PRERECORDED)]


def pacer(
    process: str,
    steps: list[tuple[int, float]],
    clients: list[int] | range,
    total_clients: int,
    seed: int = 1,
    workload: int = 0,
) -> Pacer:
    return build_pacer(
        process, Schedule(steps), list(clients), total_clients, seed, workload, PARAMETERS.get(process, [])
    )


def arrivals(
    process: str,
    steps: list[tuple[int, float]],
    clients: list[int] | range,
    total_clients: int,
    seed: int = 1,
    workload: int = 0,
) -> list[Arrival]:
    return list(pacer(process, steps, clients, total_clients, seed, workload))


def count_between(found: list[Arrival], first_s: float, last_s: float) -> int:
    times = [time for time, _, _ in found]
    return bisect_left(times, round(last_s * S)) - bisect_left(times, round(first_s * S))


@pytest.mark.parametrize(
    ("steps", "clients", "expected"),
    [
        # 4 arrivals per second, the first after half a gap; clients take turns.
        ([(S, 4.0)], 2, [(125_000_000, 0, 0), (375_000_000, 1, 0), (625_000_000, 0, 1), (875_000_000, 1, 1)]),
        # A step of rate 0 moves the times behind it, and nothing else.
        ([(S, 1.0), (S, 0.0), (S, 1.0)], 1, [(500_000_000, 0, 0), (2_500_000_000, 0, 1)]),
        # A step that ends in the middle of a gap: the gap goes on at the next rate.
        ([(S, 1.0), (S, 2.0)], 1, [(500_000_000, 0, 0), (1_250_000_000, 0, 1), (1_750_000_000, 0, 2)]),
        # A partial last interval.
        ([(S, 2.0), (S // 2, 2.0)], 1, [(250_000_000, 0, 0), (750_000_000, 0, 1), (1_250_000_000, 0, 2)]),
        # More clients than arrivals.
        ([(S, 2.0)], 5, [(250_000_000, 0, 0), (750_000_000, 1, 0)]),
        ([(S, 0.0)], 3, []),
    ],
)
def test_constant_arrivals(steps: list[tuple[int, float]], clients: int, expected: list[Arrival]) -> None:
    assert arrivals(CONSTANT, steps, range(clients), clients) == expected


@pytest.mark.parametrize("clients", [1, 3, 7, 1000])
def test_constant_counts_of_each_interval_are_exact(clients: int) -> None:
    ticks = [50, 100, 200, 100]
    found = arrivals(CONSTANT, [(5 * S, float(rate)) for rate in ticks], range(clients), clients)
    assert [count_between(found, 5 * i, 5 * i + 5) for i in range(4)] == [5 * rate for rate in ticks]


@given(
    st.lists(st.tuples(st.integers(1, 20), st.sampled_from([0.0, 0.3, 1.0, 7.5, 33.3])), min_size=1, max_size=5),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_constant_counts_are_within_one_of_the_plan_at_any_time(
    seconds: list[tuple[int, float]], clients: int, workload: int
) -> None:
    steps = [(duration * S, rate) for duration, rate in seconds]
    schedule = Schedule(steps)
    found = arrivals(CONSTANT, steps, range(clients), clients, workload=workload)
    for number, (time, _, _) in enumerate(found):
        assert abs(number - schedule.arrivals_before(time)) < 1
    assert abs(len(found) - schedule.total) < 1


@pytest.mark.parametrize("clients", [2, 5, 100])
def test_constant_clients_are_never_in_lockstep(clients: int) -> None:
    found = arrivals(CONSTANT, [(2 * S, 100.0)], range(clients), clients)
    times = [time for time, _, _ in found]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert set(gaps) == {S // 100}


def test_workloads_have_different_offsets() -> None:
    phases = [first_offset(workload) for workload in range(20)]
    assert all(0 < phase < 1 for phase in phases)
    assert min(abs(a - b) for i, a in enumerate(phases) for b in phases[:i]) > 0.01


split_groups = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@settings(deadline=None)
@given(st.sampled_from(ARRIVAL_PROCESSES), split_groups, st.integers(0, 2**31), st.integers(0, 3))
def test_any_split_of_the_clients_gives_the_same_arrivals(
    process: str, shard_of_client: list[int], seed: int, workload: int
) -> None:
    steps = [(S, 20.0), (S // 2, 0.0), (S // 3, 60.0)]
    total = len(shard_of_client)
    whole = arrivals(process, steps, range(total), total, seed, workload)
    parts = []
    for shard in range(4):
        clients = [client for client, of in enumerate(shard_of_client) if of == shard]
        part = arrivals(process, steps, clients, total, seed, workload)
        assert {client for _, client, _ in part} <= set(clients)
        parts += part
    assert sorted(parts) == sorted(whole)


def test_each_arrival_process_is_tested() -> None:
    assert set(PARAMETERS) == set(ARRIVAL_PROCESSES)


any_steps = st.lists(
    st.tuples(st.integers(1, 20 * S), st.sampled_from([0.0, 0.05, 0.3, 1.0, 7.5, 33.3])), min_size=1, max_size=6
)


@settings(deadline=None)
@given(st.sampled_from(ARRIVAL_PROCESSES), any_steps, split_groups, st.integers(0, 9))
def test_arrivals_are_counted_as_they_come(
    process: str, steps: list[tuple[int, float]], shard_of_client: list[int], workload: int
) -> None:
    clients = [client for client, of in enumerate(shard_of_client) if of == 0]
    part = pacer(process, steps, clients, len(shard_of_client), 7, workload)
    assert part.count() == len(list(part))
    assert list(part) == list(part)


@settings(deadline=None)
@example("gammavariate", [(4465, 33.3)], 1, 43)
@given(st.sampled_from(RANDOM), any_steps, st.integers(1, 4), st.integers(0, 99))
def test_a_rate_change_within_a_gap_loses_no_arrival(
    process: str, steps: list[tuple[int, float]], clients: int, seed: int
) -> None:
    """What a client sends in Λ is the same under any schedule: here against one step of the same total."""
    schedule = Schedule(steps)
    changing = arrivals(process, steps, range(clients), clients, seed)
    assert all(0 <= time <= schedule.duration_ns for time, _, _ in changing)
    assume(schedule.total > 0)
    even = arrivals(process, [(1000 * S, schedule.total / 1000)], range(clients), clients, seed)
    # Whether the last one lies before or at the end may hang on the last bit.
    assert abs(len(even) - len(changing)) <= 1
    a_nanosecond = max(rate_rps for _, rate_rps in steps) / S / schedule.total * 1000 * S  # to which times are rounded
    for (time, client, sequence), (even_time, *same) in zip(changing, even, strict=False):
        assert [client, sequence] == same
        ns_apart = abs(schedule.arrivals_before(time) / schedule.total * 1000 * S - even_time)
        assert ns_apart <= 1e-6 * 1000 * S + a_nanosecond


@pytest.mark.parametrize("process", ARRIVAL_PROCESSES)
def test_times_never_decrease_and_each_client_counts_from_zero(process: str) -> None:
    found = arrivals(process, [(3 * S, 100.0), (S, 0.0), (3 * S, 300.0)], range(10), 10)
    if process == PRERECORDED:
        assert [time for time, _, _ in found] == [round(time_s * S) for time_s in RECORDED_S if time_s < 7]
        return
    assert [time for time, _, _ in found] == sorted(time for time, _, _ in found)
    sequences = defaultdict(list)
    for _, client, sequence in found:
        sequences[client].append(sequence)
    assert all(numbers == list(range(len(numbers))) for numbers in sequences.values())
    assert set(sequences) == set(range(10))
    assert all(0 <= time < 7 * S and not 3 * S < time < 4 * S for time, _, _ in found)


@pytest.mark.parametrize("process", ARRIVAL_PROCESSES)
def test_a_shard_without_clients_has_no_arrivals(process: str) -> None:
    assert arrivals(process, [(S, 100.0)], [], 3) == []


@pytest.mark.parametrize("process", RANDOM)
def test_random_arrivals_depend_on_the_seed(process: str) -> None:
    steps = [(S, 100.0)]
    first = arrivals(process, steps, range(3), 3, seed=5, workload=1)
    assert arrivals(process, steps, range(3), 3, seed=5, workload=1) == first
    assert arrivals(process, steps, range(3), 3, seed=6, workload=1) != first
    assert arrivals(process, steps, range(3), 3, seed=5, workload=2) != first


@pytest.mark.costly
@pytest.mark.parametrize("process", RANDOM)
def test_gaps_are_the_distributions_scaled_to_the_rate(process: str) -> None:
    """Each client's gaps are its distribution's, times clients / (rate × mean gap): two samples, Kolmogorov-Smirnov."""
    clients, rate = 4, 100.0
    scale = clients / rate / mean_gap(process, PARAMETERS[process])
    draw = sampler(process, PARAMETERS[process], random.Random(20261122))
    expected = [max(draw(), 0.0) * scale for _ in range(10_000)]
    times = defaultdict(list)
    for time, client, _ in arrivals(process, [(100 * S, rate)], range(clients), clients, seed=20261122):
        times[client].append(time / S)
    for client in range(clients):
        gaps = [later - earlier for earlier, later in pairwise(times[client])]
        # Times are whole ns, so what is at once is at most one ns later.
        gaps = [0.0 if gap < 1e-8 else gap for gap in gaps]
        assert stats.ks_2samp(gaps, expected).pvalue > 0.01 / clients / len(RANDOM), f"client {client}"


@pytest.mark.costly
@pytest.mark.parametrize("process", RANDOM)
def test_the_ticks_are_the_rate_from_the_first_moment_on(process: str) -> None:
    """Of many clients, none in step with another: counts of short spans lie within five standard deviations."""
    draw = sampler(process, PARAMETERS[process], random.Random(1))
    gaps = [max(draw(), 0.0) for _ in range(20_000)]
    dispersion = max(1.0, (stdev(gaps) / fmean(gaps)) ** 2)  # of counts, asymptotically; 1 in the short run
    found = arrivals(process, [(4 * S, 2000.0)], range(4000), 4000, seed=20261122)  # two gaps of each client
    for start_s, end_s in ((0, 0.1), (0.1, 0.5), (0.5, 1), (1, 2), (2, 4)):
        planned = 2000 * (end_s - start_s)
        assert abs(count_between(found, start_s, end_s) - planned) < 5 * math.sqrt(dispersion * planned), start_s


@pytest.mark.long
@pytest.mark.parametrize(("process", "parameters"), SHAPES)
def test_mean_counts_are_the_schedules_in_each_interval(process: str, parameters: list[float]) -> None:
    """Of 1,000 seeds, from the first second on; within three standard errors."""
    steps = [(S, 10.0), (2 * S, 20.0), (2 * S, 5.0)]
    counts: list[list[int]] = [[], [], []]
    for seed in range(1000):
        found = list(build_pacer(process, Schedule(steps), range(3), 3, seed, 0, parameters))
        for interval, (start_s, end_s) in zip(counts, ((0, 1), (1, 3), (3, 5)), strict=True):
            interval.append(count_between(found, start_s, end_s))
    for interval, planned in zip(counts, (10, 40, 10), strict=True):
        assert abs(fmean(interval) - planned) <= 3 * stdev(interval) / math.sqrt(1000)


# Computed by version 2 of the arrival processes. Their times may only change together with their version.
@pytest.mark.parametrize(
    ("process", "first"),
    [
        (CONSTANT, [(50_000_000, 0, 0), (150_000_000, 1, 0)]),
        (EXPOVARIATE, [(29_074_048, 1, 0), (139_226_488, 1, 1)]),
        ("lognormvariate", [(37_079_399, 1, 0), (350_324_609, 1, 1)]),
        ("weibullvariate", [(36_828_862, 1, 0), (375_060_880, 1, 1)]),
    ],
)
def test_the_times_of_a_seed_are_those_of_the_version(process: str, first: list[Arrival]) -> None:
    assert ARRIVALS_VERSION == 2
    assert arrivals(process, [(S, 10.0)], range(2), 2, seed=9)[:2] == first


@pytest.mark.parametrize(
    ("process", "version", "differ"),
    [
        (CONSTANT, 1, False),
        (EXPOVARIATE, 1, False),
        (PRERECORDED, 1, False),
        ("lognormvariate", 1, True),
        ("weibullvariate", 1, True),
        ("lognormvariate", ARRIVALS_VERSION, False),
    ],
)
def test_times_differ_from_those_of_an_older_version(process: str, version: int, differ: bool) -> None:
    assert times_differ(process, version) is differ


def test_a_rate_below_one_per_second_is_exact() -> None:
    steps = [(100 * S, 0.05)]
    assert arrivals(CONSTANT, steps, range(3), 3) == [
        (10 * S, 0, 0),
        (30 * S, 1, 0),
        (50 * S, 2, 0),
        (70 * S, 0, 1),
        (90 * S, 1, 1),
    ]
    for process in RANDOM:
        found = arrivals(process, [(40_000 * S, 0.05)], range(3), 3, seed=20261122)
        assert abs(len(found) - 2000) < 5 * math.sqrt(2000 * 2), process


@pytest.mark.costly
def test_a_million_requests_per_second_are_a_microsecond_apart() -> None:
    found = arrivals(CONSTANT, [(S // 100, 1e6)], range(7), 7)
    assert [time for time, _, _ in found] == [500 + 1000 * number for number in range(10_000)]
    for process in RANDOM:
        found = arrivals(process, [(S // 50, 1e6)], range(7), 7, seed=20261122)
        assert abs(len(found) - 20_000) < 5 * math.sqrt(20_000 * 2), process


def test_recorded_arrivals_are_dealt_to_the_clients_in_turn() -> None:
    recorded = build_pacer(PRERECORDED, Schedule([(2 * S, 1.0)]), [2, 0], 3, 1, 0, [0.5, 0.25, 1.75, 0.5, 2.0, 1.0])
    # In order: 0.25 of client 0, 0.5 of 1, 0.5 of 2, 1.0 of 0, 1.75 of 1; the plan ends at 2.
    expected = [(S // 4, 0, 0), (S // 2, 2, 0), (S, 0, 1)]
    assert list(recorded) == list(recorded) == expected
    assert recorded.count() == 3


@pytest.mark.parametrize("clients", [1, 5, 200])
def test_poisson_counts_lie_within_four_standard_deviations(clients: int) -> None:
    ticks = [50, 100, 200, 100]
    found = arrivals(EXPOVARIATE, [(5 * S, float(rate)) for rate in ticks], range(clients), clients, seed=20261122)
    for interval, rate in enumerate(ticks):
        planned = 5 * rate
        assert abs(count_between(found, 5 * interval, 5 * interval + 5) - planned) < 4 * math.sqrt(planned)


def test_the_gaps_of_each_poisson_client_are_exponential() -> None:
    """Kolmogorov-Smirnov at 1 %, Bonferroni-corrected over the clients, with a fixed seed."""
    clients, rate = 5, 100.0
    times = defaultdict(list)
    for time, client, _ in arrivals(EXPOVARIATE, [(60 * S, rate)], range(clients), clients, seed=20261122):
        times[client].append(time / S)
    for client in range(clients):
        gaps = [later - earlier for earlier, later in pairwise(times[client])]
        result = stats.kstest(gaps, "expon", args=(0, clients / rate))
        assert result.pvalue > 0.01 / clients, f"client {client}"


def test_the_gaps_of_a_poisson_client_follow_a_changing_rate() -> None:
    """In cumulative arrivals (time rescaled by the rate) the gaps are exponential with mean 1 per client."""
    steps = [(20 * S, 10.0), (5 * S, 0.0), (20 * S, 100.0), (20 * S, 30.0)]
    schedule = Schedule(steps)
    found = [schedule.arrivals_before(time) for time, _, _ in arrivals(EXPOVARIATE, steps, [0], 2, seed=3)]
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert stats.kstest(gaps, "expon", args=(0, 2)).pvalue > 0.01


def test_poisson_clients_share_the_load() -> None:
    counts = Counter(client for _, client, _ in arrivals(EXPOVARIATE, [(100 * S, 100.0)], range(10), 10, seed=4))
    assert all(abs(counts[client] - 1000) < 4 * math.sqrt(1000) for client in range(10))


@pytest.mark.parametrize(
    ("process", "parameters", "message"),
    [
        ("sometimes", [], "one of constant, uniform"),
        ("paretovariate", [1.0], "is infinite"),
        ("normalvariate", [-1.0, 1.0], "is -1"),
        ("gammavariate", [], "is missing"),
    ],
)
def test_what_no_schedule_can_be_paced_with_is_refused(process: str, parameters: list[float], message: str) -> None:
    with pytest.raises(DistributionError, match=message):
        build_pacer(process, Schedule([(S, 1.0)]), [0], 1, 1, 0, parameters)
