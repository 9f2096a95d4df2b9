"""Interruption by signals, and pauses between restarts."""

from __future__ import annotations

import os
import signal

import pytest

from loadgen.backoff import Backoff
from loadgen.interruption import Interrupted, Interruption


def test_without_a_signal_a_wait_just_ends() -> None:
    interruption = Interruption()
    interruption.wait(0)
    assert (interruption.number, interruption.name) == (None, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_kept_and_ends_a_wait(number: int) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            interruption.wait(60)
        assert (caught.value.exit_status, interruption.name) == (128 + number, signal.Signals(number).name)
    assert signal.getsignal(number) == before


def test_a_second_signal_hurries_only_well_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.5, 12.0])
    monkeypatch.setattr("loadgen.interruption.time.monotonic", lambda: next(times))
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert (interruption.name, interruption.hurry) == ("SIGINT", False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (interruption.name, interruption.hurry) == ("SIGINT", True)


def test_pauses_double_until_a_long_run() -> None:
    backoff = Backoff()
    assert [backoff.pause_s(0.1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [backoff.pause_s(61), backoff.pause_s(0.1)] == [1, 2]
