"""Executes a program that gets a signal when its parent ends: `python tied.py SIGNAL PARENT_PID PROGRAM ARGUMENT...`.

It is a process of its own, because a `preexec_fn` of `subprocess` is unsafe in a process with threads. It is run by
path and with the standard library alone, so that it starts quickly.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    number, parent, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # the parent ended before the call, so no signal will come
        os.kill(os.getpid(), signal.SIGKILL)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
