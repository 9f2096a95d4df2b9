"""One request of a client app, made in a process of its own, from which the app cannot harm the shell.

The process gets none of the controller's secrets: neither in its environment, its arguments or its files, nor in the
environment of the shell, which it could read in /proc. It runs as the shell's user, and can read this user's files.
"""

from __future__ import annotations

import ctypes
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
from loadgen.apps import archive
from loadgen.apps.errors import AppInvalid
from loadgen.apps.one_request import ANSWER, MAX_BODY_BYTES, QUESTION, UNPACKED, AppAnswer, AppQuestion, AppRequest
from loadgen.protocol.codec import MessageError, from_wire, to_wire

# Covers loading (5 s) and calling (3 s) the app, each of which has its own limit and error.
TIMEOUT_S = 20.0
_LOOK_EVERY_S = 0.02
# The variables that an app may need. All others are left out, as any of them may hold a password or a token.
_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV",
    "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "galileo_compiled",
)  # fmt: skip
_PR_SET_DUMPABLE = 4  # of prctl(2)
_ROOT = Path(loadgen.__file__).resolve().parents[1]


def request_of(question: AppQuestion, app: bytes | None = None, timeout_s: float = TIMEOUT_S) -> AppRequest:
    """Returns the app's next request.

    Args:
        app: its archive; None for an app of the question's folder.

    Raises:
        AppFailed: with the last lines of the app's traceback, or with the end of its process.
    """
    with TemporaryDirectory(prefix="galileo-app-") as name:
        folder = Path(name)
        if app is not None:
            _unpack(app, folder / UNPACKED, question.app)
        (folder / QUESTION).write_bytes(msgpack.packb(to_wire(question)))
        ended = _run([sys.executable, "-m", "loadgen.shard.app_request", name], timeout_s)
        answer = _answer(folder / ANSWER)
    if answer is not None and answer.error:
        raise AppFailed(answer.error)
    if answer is None or answer.request is None:
        raise AppFailed(f"client app {question.app!r}: {ended} without a request")
    return answer.request


def _unpack(app: bytes, folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    try:
        for _ in archive.unpack(app, folder):
            pass
    except (AppInvalid, OSError) as error:
        raise AppFailed(f"client app {name!r} cannot be unpacked: {error}") from error


def _hide_environment() -> None:
    """Makes this process not dumpable, so that no process of its user can read its environment or its memory in /proc.

    It stays so, as an app may have left a process behind. Only root, and this process, can read there; there are no
    core dumps, and this user cannot attach a debugger. A process that this one forks is not dumpable until it executes
    a program.

    Raises:
        OSError: the kernel has refused it.
    """
    if not sys.platform.startswith("linux"):  # there is no /proc
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")


def _run(command: list[str], timeout_s: float) -> str:
    """Runs the process, and kills its process group at the end. Returns how it ended."""
    _hide_environment()
    deadline_s = time.monotonic() + timeout_s
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        close_fds=True,
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
