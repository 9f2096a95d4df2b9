"""Whose time on the cores counts against a run."""

from __future__ import annotations

import time

import pytest

from loadgen.cores import CoreWatch, others_of


@pytest.mark.parametrize(
    ("used", "core", "own", "expected"),
    [
        ({0: 100, 1: 10}, 0, 100, 10),  # the shard alone on its core, the other one nearly idle
        ({0: 100, 1: 10}, 0, 30, 70),  # a neighbour on the shard's core
        ({0: 30, 1: 100}, 0, 30, 100),  # a neighbour has the only other core
        ({0: 30, 1: 100, 2: 5, 3: 0}, 0, 30, 0),  # of four cores, one busy neighbour leaves enough
        ({0: 30, 1: 100, 2: 90, 3: 95}, 0, 30, 90),  # but three do not
        ({0: 50}, 0, 50, 0),  # one core, the shard alone
        ({0: 100}, 0, 40, 60),
        ({0: 20}, 0, 40, 0),  # ticks are coarse
        ({0: 20}, 3, 40, 0),  # not known
        ({}, -1, 40, 0),
    ],
)
def test_the_shards_core_and_one_beside_it_must_be_free(
    used: dict[int, int], core: int, own: int, expected: int
) -> None:
    assert others_of(used, core, own) == expected


def test_the_sum_never_decreases() -> None:
    watch = CoreWatch(time.process_time_ns())
    sums = [watch.others_ns(time.process_time_ns()) for _ in range(3)]
    assert sums == sorted(sums)
    assert sums[0] >= 0
