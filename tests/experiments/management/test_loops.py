"""The daemon's loops run in threads; one that raises is restarted, and all end with the stop event."""

import threading

import pytest

from experiments.management import loops


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("loadgen.backoff.FIRST_PAUSE_S", 0.001)


def test_a_loop_that_raises_is_restarted(caplog):
    stop, broken, steady = threading.Event(), [], []

    def breaks_twice(told: threading.Event) -> None:
        broken.append(1)
        if len(broken) < 3:
            raise ValueError("out of luck")
        told.wait(10)

    def goes_on(told: threading.Event) -> None:
        steady.append(1)
        told.wait(10)

    threads = loops.start({"lucky": breaks_twice, "steady": goes_on}, stop)
    for _ in range(1000):
        if len(broken) == 3 and steady:
            break
        stop.wait(0.01)
    stop.set()
    assert loops.join(threads, 5) == []
    assert (len(broken), len(steady)) == (3, 1)
    assert caplog.text.count("lucky failed; it is restarted in") == 2
    assert "out of luck" in caplog.text


def test_a_loop_that_does_not_end_in_time_is_named(monkeypatch):
    stop, released = threading.Event(), threading.Event()
    threads = loops.start({"deaf": lambda told: released.wait(10), "obedient": lambda told: told.wait(10)}, stop)
    stop.set()
    assert loops.join(threads, 0.05) == ["deaf"]
    assert all(thread.daemon for thread in threads)
    released.set()
    assert loops.join(threads, 5) == []
