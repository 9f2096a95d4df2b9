"""Becomes another program that ends with its parent: `python tied.py SIGNAL PARENT_PID PROGRAM ARGUMENT...`.

A process of its own, because what `subprocess` can run between fork and exec is unsafe as soon as there are threads.
Run by path, with the standard library alone, so that it starts quickly.
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
    if os.getppid() != parent:  # it ended before the call: no signal would come
        os.kill(os.getpid(), signal.SIGKILL)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
