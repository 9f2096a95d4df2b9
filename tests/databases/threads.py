"""Several connections at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event
from typing import TypeVar

from django.db import connections, transaction

Result = TypeVar("Result")


def together(count: int, work: Callable[[int], Result]) -> list[Result]:
    """Calls `work(number)` in this many threads at once, each with a database connection of its own; their results."""
    barrier = Barrier(count, timeout=30)

    def run(number: int) -> Result:
        barrier.wait()
        try:
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@contextmanager
def elsewhere(work: Callable[[], Result]) -> Iterator[Future[Result]]:
    """Calls `work` in a thread with a database connection of its own; waits for it at the end, and raises its error."""

    def run() -> Result:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        yield future
        future.result()


@contextmanager
def unfinished(work: Callable[[], object]) -> Iterator[None]:
    """Within the context, another connection has done `work` in a transaction that is still open; then it commits."""
    done, finish = Event(), Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                work()
                done.set()
                finish.wait(60)
        finally:
            done.set()

    with elsewhere(hold) as held:
        try:
            assert done.wait(60)
            if held.done():
                held.result()
            yield
        finally:
            finish.set()
