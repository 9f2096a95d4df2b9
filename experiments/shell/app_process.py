"""One request of a client app, made in a process of its own, from which the app cannot harm the shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgpack

import loadgen
from experiments.shell.errors import AppFailed
from loadgen.apps.one_request import ANSWER, MAX_BODY_BYTES, QUESTION, AppAnswer, AppQuestion, AppRequest
from loadgen.protocol.codec import MessageError, from_wire, to_wire

# Covers fetching (20 s), loading (5 s) and calling (3 s) the app, each of which has its own limit and error.
TIMEOUT_S = 40.0
_LOOK_EVERY_S = 0.02
_ROOT = Path(loadgen.__file__).resolve().parents[1]


def request_of(question: AppQuestion, timeout_s: float = TIMEOUT_S) -> AppRequest:
    """Returns the app's next request.

    Raises:
        AppFailed: with the last lines of the app's traceback, or with the end of its process.
    """
    with TemporaryDirectory(prefix="galileo-app-") as name:
        folder = Path(name)
        (folder / QUESTION).write_bytes(msgpack.packb(to_wire(question)))
        ended = _run([sys.executable, "-m", "loadgen.shard.app_request", name], timeout_s)
        answer = _answer(folder / ANSWER)
    if answer is not None and answer.error:
        raise AppFailed(answer.error)
    if answer is None or answer.request is None:
        raise AppFailed(f"client app {question.app!r}: {ended} without a request")
    return answer.request


def _run(command: list[str], timeout_s: float) -> str:
    """Runs the process, and kills its process group at the end. Returns how it ended."""
    deadline_s = time.monotonic() + timeout_s
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # WNOWAIT leaves the process as a zombie: until `wait` no other process can get its id or its group.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline_s:
                return f"its process did not end within {timeout_s:g} s"
            time.sleep(_LOOK_EVERY_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"its process ended with exit status {process.returncode}"


def _answer(file: Path) -> AppAnswer | None:
    """Returns the answer, or None if there is none, or not a complete one."""
    try:
        if file.stat().st_size > 2 * MAX_BODY_BYTES:
            return None
        return from_wire(AppAnswer, msgpack.unpackb(file.read_bytes()))
    except (OSError, ValueError, MessageError):
        return None
