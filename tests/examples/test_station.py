"""The example service's station: a few servers, one bounded queue, first in first out."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from examples.service.station import Full, ServiceTimes, Station


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Visitors:
    """Tasks that each hold a server until they are told to leave."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.entered: list[int] = []
        self.leave = [asyncio.Event() for _ in range(10)]

    def arrive(self, number: int) -> asyncio.Task[None]:
        async def visit() -> None:
            async with self.station:
                self.entered.append(number)
                await self.leave[number].wait()

        return asyncio.create_task(visit())


def test_the_number_of_servers_bounds_concurrent_requests() -> None:
    async def scenario() -> None:
        visitors = Visitors(Station(concurrency=2, queue_length=8))
        tasks = [visitors.arrive(number) for number in range(5)]
        await settle()
        assert visitors.entered == [0, 1]
        assert (visitors.station.busy, visitors.station.waiting) == (2, 3)
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())


def test_queued_requests_are_served_in_order_of_arrival() -> None:
    async def scenario() -> None:
        visitors = Visitors(Station(concurrency=2, queue_length=8))
        tasks = [visitors.arrive(number) for number in range(5)]
        await settle()
        for leaving, expected in ((1, [0, 1, 2]), (0, [0, 1, 2, 3]), (3, [0, 1, 2, 3, 4])):
            visitors.leave[leaving].set()
            await settle()
            assert visitors.entered == expected
        for event in visitors.leave:
            event.set()
        await asyncio.gather(*tasks)
        station = visitors.station
        assert (station.busy, station.waiting, station.served, station.longest_queue) == (0, 0, 5, 3)

    asyncio.run(scenario())


def test_a_request_at_a_full_queue_is_refused_and_counted() -> None:
    async def scenario() -> None:
        visitors = Visitors(Station(concurrency=1, queue_length=2))
        tasks = [visitors.arrive(number) for number in range(4)]
        await settle()
        with pytest.raises(Full, match="2 requests are waiting"):
            await tasks[3]
        assert visitors.station.refused == 1
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())


def test_a_request_cancelled_in_the_queue_frees_its_place() -> None:
    async def scenario() -> None:
        visitors = Visitors(Station(concurrency=1, queue_length=8))
        tasks = [visitors.arrive(number) for number in range(3)]
        await settle()
        tasks[1].cancel()
        visitors.leave[0].set()
        await settle()
        assert visitors.entered == [0, 2]
        visitors.leave[2].set()
        await tasks[2]
        assert (visitors.station.busy, visitors.station.waiting) == (0, 0)

    asyncio.run(scenario())


def test_a_request_cancelled_at_its_turn_frees_the_server() -> None:
    async def scenario() -> None:
        visitors = Visitors(Station(concurrency=1, queue_length=8))
        tasks = [visitors.arrive(number) for number in range(3)]
        await settle()
        visitors.station._release()  # hands the server to request 1, which has not run since
        tasks[1].cancel()
        await settle()
        assert visitors.entered == [0, 2]
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())


def test_service_times_have_the_stated_mean() -> None:
    times = ServiceTimes(0.008, seed=1)
    # Deviation of one: 0.53 of the mean; of the mean of 20,000: 0.4 %. Tolerance: five of those.
    assert statistics.fmean(times.next_s() for _ in range(20_000)) == pytest.approx(0.008, rel=0.02)


def test_a_seed_fixes_the_service_times() -> None:
    first, second, other = (ServiceTimes(0.01, seed) for seed in (5, 5, 6))
    drawn = [first.next_s() for _ in range(10)]
    assert drawn == [second.next_s() for _ in range(10)]
    assert drawn != [other.next_s() for _ in range(10)]


def test_a_mean_of_zero_takes_no_time() -> None:
    assert ServiceTimes(0.0, seed=1).next_s() == 0.0
