"""`up`, `down` and `status`: a stack in the background, kept alive by a supervisor process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from galileo_site.environment import NONE, PROJECT_ROOT
from galileo_site.stack.config import StackConfig, StackError
from galileo_site.stack.demo import say
from galileo_site.stack.session import running
from galileo_site.stack.stack import UP, check_machine
from galileo_site.stack.state import StateDir, is_locked
from loadgen.interruption import Interrupted, Interruption
from loadgen.protocol.logs import UtcFormatter

log = logging.getLogger(__name__)

_PROGRAM = "galileo_site.stack"
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 120.0


def up(config: StackConfig, state: StateDir, interruption: Interruption) -> int:
    """Starts a supervisor in the background and waits until its stack is ready. Raises StackError, Interrupted."""
    if is_locked(state.lock_file):
        return _already_up(state, interruption)
    check_machine(config)  # here, too, so that its error is the first output
    state.create()
    supervisor = subprocess.Popen(
        [sys.executable, "-m", _PROGRAM, "supervise"],
        cwd=PROJECT_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _copy_until_ready(supervisor, state, interruption)
    except Interrupted:
        supervisor.terminate()
        supervisor.wait()
        raise
    if supervisor.poll() is not None:
        return supervisor.returncode or 1  # its error has been printed
    _print_access(state, _read_state(state))
    return 0


def supervise(config: StackConfig, state: StateDir, interruption: Interruption) -> int:
    """Runs the background process: it prints the progress of its start, and logs everything later to a file."""
    state.create()
    _log_to(state.log("stack"))
    with running(UP, config, state, interruption, _say_and_log) as stack:
        _log_to(state.log("stack"))  # a new file, because the start has renamed the last run's logs
        _leave_terminal()
        log.info("everything is ready")
        try:
            while True:
                interruption.wait(0.2)
                stack.watch()
        except Interrupted as signalled:
            log.info("stopping, because of %s", signalled)
    return 0


def down(state: StateDir) -> int:
    """Stops the stack, if one runs. Raises StackError if it does not end."""
    if not is_locked(state.lock_file):
        state.clear_state()  # of a stack that was killed
        say("Galileo is not running.")
        return 0
    supervisor = _supervisor(state)
    say("Stopping Galileo …")
    if not _end(supervisor, signal.SIGTERM, _STOP_TIMEOUT_S):
        if not _end(supervisor, signal.SIGKILL, 10.0):  # the kernel ends its children with it
            raise StackError(f"Process {supervisor.pid} does not end.")
        say("It did not stop in time and was killed.")
    say("Galileo is stopped.")
    return 0


def status(state: StateDir) -> int:
    """Prints the processes that run. Returns 0 if a stack runs, else 3."""
    if not is_locked(state.lock_file):
        say("Galileo is not running.")
        return 3
    about = _read_state(state)
    say(f"Galileo is {about['phase']}: {about['web_url']} (supervisor: process {about['pid']})")
    for child in about["children"]:
        restarts = f", started again {child['restarts']} times" if child["restarts"] else ""
        say(f"  {child['name']:<11} {child['state']} (process {child['pid']}{restarts})")
    return 0


def _already_up(state: StateDir, interruption: Interruption) -> int:
    about = _read_state(state)
    if about["kind"] != UP:
        raise StackError(f"A demo is running in {state.root}; wait for its end, or stop it with Ctrl-C there.")
    end_at_s = time.monotonic() + _START_TIMEOUT_S
    while about["phase"] == "starting" and is_locked(state.lock_file) and time.monotonic() < end_at_s:
        interruption.wait(0.2)
        about = _read_state(state)
    if about["phase"] != "running":
        raise StackError(f"Galileo is {about['phase']}; try again in a moment.")
    say("Galileo is running already.")
    _print_access(state, about)
    return 0


def _print_access(state: StateDir, about: dict[str, Any]) -> None:
    say(f"  web        {about['web_url']}")
    say(f"  user       {about['admin_user']}")
    say(f"  password   {state.secrets().admin_password}")
    if about["api_auth"] == NONE:
        say("  API        open to everyone, without a token (galileo_api_auth=none)")
    say(f"  logs       {state.logs}")
    file = state.env_file
    shortest = file.relative_to(PROJECT_ROOT) if file.is_relative_to(PROJECT_ROOT) else file
    say(f"  commands   bin/run --envfile={shortest} manage COMMAND")


def _copy_until_ready(supervisor: subprocess.Popen[bytes], state: StateDir, interruption: Interruption) -> None:
    """Copies the supervisor's output until it is closed; then the supervisor is ready or has ended."""
    assert supervisor.stdout is not None
    os.set_blocking(supervisor.stdout.fileno(), False)
    while (chunk := supervisor.stdout.read()) != b"":
        if chunk:
            sys.stdout.write(chunk.decode(errors="replace"))
            sys.stdout.flush()
        interruption.wait(0.05)
    if state.read_state().get("phase") != "running":
        supervisor.wait()


def _say_and_log(line: str) -> None:
    log.info("%s", line.strip())
    try:
        say(line)
    except BrokenPipeError:
        _leave_terminal()  # the process that started this one has ended


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _log_to(path: Path) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(UtcFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _read_state(state: StateDir) -> dict[str, Any]:
    """Returns the description of the stack that holds the lock; waits up to 2 s for it. Raises StackError."""
    for _ in range(40):
        about = state.read_state()
        if about:
            return about
        time.sleep(0.05)
    raise StackError(f"Another process uses {state.root}; try again in a moment.")


def _supervisor(state: StateDir) -> psutil.Process:
    try:
        process = psutil.Process(int(_read_state(state)["pid"]))
        if _PROGRAM in process.cmdline():
            return process
    except psutil.Error:
        log.debug("the supervisor has ended, or belongs to another user")
    raise StackError(f"{state.lock_file} is held by a process that is not Galileo's.")


def _end(process: psutil.Process, number: signal.Signals, timeout_s: float) -> bool:
    """Sends a signal. Returns whether the process ended in time; a zombie has ended."""
    end_at_s = time.monotonic() + timeout_s
    try:
        process.send_signal(number)
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end_at_s:
                return False
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        log.debug("process %d has ended", process.pid)
    return True
