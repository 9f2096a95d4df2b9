"""A process that ends between two looks is ended, not an error."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from tests.support.process_tree import agents_of, command_of, is_living, living


def test_a_process_that_has_ended_is_not_an_error() -> None:
    code = "print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "loadgen.agent.main"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()  # before that, it may still have the command line of the process that started it, or none
    process = psutil.Process(child.pid)
    assert living([process]) == [process]
    assert is_living(child.pid)
    assert "input()" in command_of(process)
    assert process in agents_of(psutil.Process())

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert_has_ended(process)  # a zombie
    child.communicate()
    assert_has_ended(process)


def assert_has_ended(process: psutil.Process) -> None:
    assert living([process]) == []
    assert not is_living(process.pid)
    assert command_of(process) == ""
    assert process not in agents_of(psutil.Process())
