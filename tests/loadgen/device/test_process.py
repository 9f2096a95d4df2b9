"""Priorities and limits that a process requests from the kernel."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import threading

import pytest

from loadgen.device.process import stay_in_background, take_short_turns


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the call's number is known for these")
def test_short_turns_leave_policy_and_nice_value_as_they_are() -> None:
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    heard: list[bool] = []
    thread = threading.Thread(target=lambda: heard.append(take_short_turns()))  # the test's own thread stays as it is
    thread.start()
    thread.join()
    assert heard == [True]
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


def test_only_one_thread_stays_in_the_background() -> None:
    values: list[int] = []

    def work() -> None:
        stay_in_background()
        values.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert values == [max(10, before)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_the_limit_of_descriptors_is_raised_as_far_as_it_may() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = hard - 1 if hard > 1000 else hard
    script = (
        "import resource; from loadgen.device.process import raise_descriptor_limit as lift;"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], lift(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    command = ["prlimit", f"--nofile=100:{allowed}", sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["100", *[str(allowed)] * 3]
