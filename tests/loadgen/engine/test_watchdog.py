"""Watchdog: the time of a call is the app's own, not that in which the process stood still."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

# Prints "called", then how the call ended.
CALL = """
import time
from loadgen.engine.watchdog import AppStuck, CALL_LIMIT_S, Watchdog
watchdog = Watchdog()
watchdog.start()
print("called", flush=True)
watchdog.until_ns = time.monotonic_ns() + round(CALL_LIMIT_S * 1e9)
try:
    {call}
    print("returned")
except AppStuck:
    print("stuck")
watchdog.stop()
"""


def end_of(call: str, stopped_s: float) -> str:
    """How a call ends in a process that is stopped for a while."""
    process = subprocess.Popen([sys.executable, "-c", CALL.format(call=call)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "called\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGSTOP)
    time.sleep(stopped_s)
    process.send_signal(signal.SIGCONT)
    return process.communicate(timeout=30)[0].strip()


@pytest.mark.parametrize(
    "call", ["time.sleep(1.5)", "end_s = time.process_time() + 1\n    while time.process_time() < end_s: pass"]
)
def test_a_call_that_was_stopped_with_its_process_is_not_stuck(call: str) -> None:
    assert end_of(call, stopped_s=4) == "returned"


@pytest.mark.parametrize("call", ["time.sleep(60)", "count = 0\n    while True: count += 1"])
def test_a_call_that_does_not_return_is_stuck_all_the_same(call: str) -> None:
    assert end_of(call, stopped_s=1.5) == "stuck"


def test_a_call_into_c_that_computes_for_too_long_is_stuck() -> None:
    assert end_of("import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 6_000_000)", stopped_s=0) == "stuck"
