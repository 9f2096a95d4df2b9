"""Signals as a flag."""

from __future__ import annotations

import signal

import pytest

from galileo_site.stack import interrupts as module
from galileo_site.stack.errors import Interrupted
from galileo_site.stack.interrupts import Interrupts


def test_without_a_signal_nothing_happens() -> None:
    interrupts = Interrupts()
    interrupts.check()
    interrupts.sleep(0)


def test_the_first_signal_is_kept_and_ends_a_sleep() -> None:
    interrupts = Interrupts()
    interrupts._handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted) as caught:
        interrupts.sleep(60)
    assert caught.value.exit_status == 143


def test_the_same_ctrl_c_seen_twice_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    interrupts = Interrupts()
    interrupts._handle(signal.SIGINT, None)
    now[0] += 0.2
    interrupts._handle(signal.SIGINT, None)
    assert not interrupts.hurry
    now[0] += 2
    interrupts._handle(signal.SIGINT, None)
    assert interrupts.hurry
