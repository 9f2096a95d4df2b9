"""The round robin is exact over a cycle and within one request of the exact share at every moment; chance is fair."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.routers import RandomBalancer, WeightedBalancer

# No deadline per example: the machine may be busy. The same examples every time: a red run can be repeated.
patient = settings(deadline=None, derandomize=True)

weight_lists = st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(any)
decimal_weights = st.decimals(0, 100, places=3, allow_nan=False, allow_infinity=False).map(float)


def named(weights):
    return {f"host{i}": weight for i, weight in enumerate(weights)}


def take(balancer, count):
    return [balancer.next() for _ in range(count)]


def assert_within_one_at_every_prefix(weights, picks):
    total = sum(Fraction(str(weight)) for weight in weights.values())
    shares = {host: Fraction(str(weight)) / total for host, weight in weights.items()}
    counts = dict.fromkeys(weights, 0)
    for n, host in enumerate(picks, 1):
        counts[host] += 1
        for each, share in shares.items():
            assert abs(counts[each] - share * n) < 1, f"{each} had {counts[each]} of {n} requests"


@pytest.mark.parametrize("offset", range(8))
def test_weights_1_2_3_are_exact_over_each_cycle(offset):
    weights = {"a": 1, "b": 2, "c": 3}
    picks = take(WeightedBalancer(weights, offset), 600)
    assert_within_one_at_every_prefix(weights, picks)
    for begin in range(0, 600, 6):
        assert Counter(picks[begin : begin + 6]) == weights


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_small_weights_and_offsets_stay_within_one(count):
    for weights in itertools.product(range(6), repeat=count):
        if not any(weights):
            continue
        for offset in range(count + 1):
            picks = take(WeightedBalancer(named(weights), offset), 2 * sum(weights) + 1)
            assert_within_one_at_every_prefix(named(weights), picks)


@patient
@given(weights=weight_lists, offset=st.integers(0, 40), count=st.integers(1, 300))
def test_any_weights_offset_and_length_stay_within_one(weights, offset, count):
    picks = take(WeightedBalancer(named(weights), offset), count)
    assert_within_one_at_every_prefix(named(weights), picks)


@patient
@given(weights=st.lists(decimal_weights, min_size=1, max_size=6).filter(any), offset=st.integers(0, 9))
def test_fractional_weights_count_as_the_decimals_that_they_are(weights, offset):
    picks = take(WeightedBalancer(named(weights), offset), 200)
    assert_within_one_at_every_prefix(named(weights), picks)


@patient
@given(weights=st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any), offset=st.integers(0, 9))
def test_every_cycle_is_exact(weights, offset):
    cycle = sum(weights) // math.gcd(*weights)
    balancer = WeightedBalancer(named(weights), offset)
    exact = {host: w // math.gcd(*weights) for host, w in named(weights).items() if w}
    assert [Counter(take(balancer, cycle)) for _ in range(3)] == [exact] * 3


def test_a_tenth_and_two_tenths_are_exact_in_three_requests():
    balancer = WeightedBalancer({"a": 0.1, "b": 0.2})
    assert Counter(take(balancer, 3)) == {"a": 1, "b": 2}
    assert Counter(take(balancer, 300)) == {"a": 100, "b": 200}


def test_a_cycle_too_long_to_keep_is_still_exact():
    weights = {"a": 5003, "b": 1, "c": 2501}
    picks = take(WeightedBalancer(weights, offset=1), sum(weights.values()))
    assert Counter(picks) == weights
    assert_within_one_at_every_prefix(weights, picks)


@patient
@given(weights=st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_as_many_shards_as_hosts_each_start_with_another_host(weights):
    first = [WeightedBalancer(named(weights), offset).next() for offset in range(len(weights))]
    assert sorted(first) == sorted(named(weights))


def test_the_first_shard_starts_with_the_heaviest_host():
    assert [WeightedBalancer({"a": 1, "b": 2, "c": 3}, offset).next() for offset in range(4)] == ["c", "b", "a", "c"]


def test_a_host_of_weight_zero_gets_nothing():
    assert set(take(WeightedBalancer({"a": 1, "b": 0}, offset=1), 50)) == {"a"}


def test_a_host_keeps_its_credit_when_weights_change():
    balancer = WeightedBalancer({"a": 1, "b": 1})
    assert balancer.next() == "a"
    balancer.update({"a": 1, "b": 1.5})
    assert balancer.next() == "b"


def test_setting_the_same_weights_again_changes_nothing():
    weights = {"a": 1, "b": 2, "c": 4}
    plain, updated = WeightedBalancer(weights, offset=2), WeightedBalancer(weights, offset=2)
    expected = take(plain, 100)
    picks = []
    for _ in range(100):
        updated.update(weights)
        picks.append(updated.next())
    assert_within_one_at_every_prefix(weights, picks)
    assert Counter(picks) == Counter(expected)


def test_removed_hosts_do_not_change_later_shares():
    balancer = WeightedBalancer({"a": 1, "b": 1, "gone": 1})
    assert balancer.next() == "a"
    balancer.update({"a": 1, "b": 1})
    assert take(balancer, 4) == ["b", "a", "b", "a"]


def test_a_host_that_comes_back_starts_without_credit():
    balancer = WeightedBalancer({"a": 1, "b": 1})
    assert balancer.next() == "a"
    balancer.update({"b": 1})
    balancer.update({"a": 1, "b": 1})
    assert balancer.next() == "a"


def test_a_new_host_is_due_no_arrears():
    balancer = WeightedBalancer({"a": 1})
    take(balancer, 1000)
    balancer.update({"a": 1, "b": 1})
    picks = take(balancer, 100)
    assert_within_one_at_every_prefix({"a": 1, "b": 1}, picks)


def test_a_host_paused_with_weight_zero_finds_its_credit_again():
    balancer = WeightedBalancer({"a": 1, "b": 1, "c": 2})
    assert take(balancer, 2) == ["c", "a"]
    balancer.update({"a": 1, "b": 0, "c": 1})
    take(balancer, 2)
    balancer.update({"a": 1, "b": 1, "c": 1})
    assert balancer.next() == "b"


@patient
@given(
    changes=st.lists(
        st.tuples(st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any), st.integers(1, 40)),
        min_size=2,
        max_size=6,
    ),
    offset=st.integers(0, 5),
)
def test_after_changes_shares_stay_within_three_requests(changes, offset):
    balancer = WeightedBalancer(named(changes[0][0]), offset)
    for weights, count in changes:
        balancer.update(named(weights))
        counts = Counter(take(balancer, count))
        for host, weight in named(weights).items():
            assert abs(counts[host] - Fraction(weight * count, sum(weights))) < 3
            assert weight or not counts[host]


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": math.nan}, {"a": math.inf, "b": 1}])
def test_invalid_weights_are_refused_and_change_nothing(weights):
    with pytest.raises(ValueError, match="weights"):
        WeightedBalancer(weights)
    balancer = WeightedBalancer({"a": 1, "b": 1})
    assert balancer.next() == "a"
    with pytest.raises(ValueError, match="weights"):
        balancer.update(weights)
    assert take(balancer, 3) == ["b", "a", "b"]


def test_a_negative_offset_is_refused():
    with pytest.raises(ValueError, match="offset"):
        WeightedBalancer({"a": 1}, offset=-1)


def draw(balancer, clients=50, sequences=200):
    return [balancer.next(client, sequence) for client in range(clients) for sequence in range(sequences)]


def test_random_hosts_get_their_share_by_weight():
    counts = Counter(draw(RandomBalancer({"a": 1, "b": 2, "none": 0, "c": 5}, "seed")))
    assert counts.total() == 10_000
    assert set(counts) == {"a", "b", "c"}
    # Four standard deviations of a binomial count.
    for host, share in (("a", 1 / 8), ("b", 2 / 8), ("c", 5 / 8)):
        assert abs(counts[host] - 10_000 * share) < 4 * math.sqrt(10_000 * share * (1 - share))


def test_random_hosts_of_consecutive_requests_are_independent():
    picks = draw(RandomBalancer({"a": 1, "b": 1}, "seed"))
    pairs = Counter(itertools.pairwise(picks))
    for pair in itertools.product("ab", repeat=2):
        assert abs(pairs[pair] - 2500) < 4 * math.sqrt(10_000 * 3 / 16)


def test_a_random_host_depends_on_seed_client_and_sequence_alone():
    weights = {"a": 1, "b": 1, "c": 1}
    whole, other = draw(RandomBalancer(weights, "7/0")), draw(RandomBalancer(weights, "7/1"))
    apart = RandomBalancer(weights, "7/0")
    assert [apart.next(client, sequence) for sequence in range(200) for client in range(49, -1, -1)] != whole
    assert {(client, sequence): apart.next(client, sequence) for sequence in range(200) for client in range(50)} == {
        (client, sequence): whole[client * 200 + sequence] for sequence in range(200) for client in range(50)
    }
    assert whole != other


def test_invalid_random_weights_change_nothing():
    balancer = RandomBalancer({"a": 1}, "seed")
    for weights in ({}, {"a": 0}, {"b": -1}):
        with pytest.raises(ValueError, match="weights"):
            balancer.update(weights)
    assert balancer.next(0, 0) == "a"
    balancer.update({"b": 1})
    assert balancer.next(0, 0) == "b"
