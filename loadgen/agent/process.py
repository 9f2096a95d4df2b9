"""AgentProcess: keeps the agent running from the worker's main process, and waits for it at the end.

The tick is a SIGALRM of the interval timer. Celery's own timers do not run while it waits for a broker that is away,
when the agent is needed most; and a thread would make forking unsafe.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from types import FrameType
from typing import Any

from celery import signals

from loadgen.agent.main import EXIT_NAME_TAKEN
from loadgen.agent.supervision import RECONNECT

logger = logging.getLogger(__name__)

SHUTDOWN_S = 20.0
_TICK_S = 1.0


class AgentProcess:
    """Keeps one agent running for as long as the worker's main process runs."""

    def __init__(self) -> None:
        self.predecessor = ""  # the dead instance that has the worker's name
        self.name_taken = False
        self._instance = uuid.uuid4().hex
        self._started_ns = time.monotonic_ns()
        self._main_pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._draining_since: float | None = None

    def connect(self) -> None:
        """Connects the agent to the start and the shutdown of the Celery worker in this process."""
        signals.worker_ready.connect(self.start, weak=False)
        signals.worker_shutting_down.connect(self.drain, weak=False)
        signals.worker_shutdown.connect(self.finish, weak=False)

    def start(self, **_: Any) -> None:
        """Starts the agent and the tick, unless they have been started."""
        if self._main_pid == os.getpid():
            return
        self._main_pid = os.getpid()
        self._launch()
        signal.signal(signal.SIGALRM, self._tick)
        signal.signal(RECONNECT, self._reconnect)
        signal.setitimer(signal.ITIMER_REAL, _TICK_S, _TICK_S)

    def drain(self, **_: Any) -> None:
        """Makes the agent drain the shards and its spool, and then exit."""
        if self._draining_since is None and self._process is not None:
            self._draining_since = time.monotonic()
            self._process.terminate()

    def finish(self, **_: Any) -> None:
        """Waits for the drained agent, at most SHUTDOWN_S since the drain began, then kills it."""
        if self._main_pid != os.getpid():
            return  # this is a pool child, or the agent was never started
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.drain()
        if self._process is None or self._draining_since is None:
            return
        try:
            self._process.wait(max(1.0, self._draining_since + SHUTDOWN_S - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("the agent does not end and is killed")
            self._process.kill()
            self._process.wait()

    def _launch(self) -> None:
        command = [sys.executable, "-m", "loadgen.agent.main", "--worker-pid", str(self._main_pid)]
        command += ["--instance", self._instance, "--started-ns", str(self._started_ns)]
        if self.predecessor:
            command += ["--takes-over", self.predecessor]
        if self._draining_since is not None:
            command.append("--drain")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def _tick(self, _signum: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._main_pid or self._process is None:
            return  # this is a pool child, which has inherited the handler
        status = self._process.poll()
        if status is None or (status == 0 and self._draining_since is not None):
            return
        if status == EXIT_NAME_TAKEN:
            self._process = None
            self.name_taken = True
            os.kill(self._main_pid, signal.SIGTERM)
            return
        # Not by logging, which the signal may have interrupted.
        os.write(2, f"loadgen: the agent ended with status {status}, started again\n".encode())
        self._launch()

    def _reconnect(self, _signum: int, _frame: FrameType | None) -> None:
        """Raises an error in Celery's loop that means a lost connection, so that it reconnects."""
        if os.getpid() == self._main_pid:
            raise ConnectionResetError("orders wait although a slot is free")
