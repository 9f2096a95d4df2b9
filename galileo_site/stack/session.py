"""A stack that runs under its lock, is described in the state file, and is always stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from galileo_site.stack.config import StackConfig, StackError
from galileo_site.stack.stack import Stack, check_machine
from galileo_site.stack.state import Lock, StateDir
from loadgen.interruption import Interruption

DEMO = "demo"
UP = "up"


class Session:
    """A running stack and its description in the state file."""

    def __init__(self, kind: str, config: StackConfig, state: StateDir, stack: Stack) -> None:
        self.stack = stack
        self._kind = kind
        self._config = config
        self._state = state
        self._started_at_s = time.time()

    def write(self, phase: str) -> None:
        self._state.write_state(
            {
                "pid": os.getpid(),
                "kind": self._kind,
                "phase": phase,
                "started_at": self._started_at_s,
                "web_url": self._config.web_url,
                "admin_user": self._config.admin_user,
                "api_auth": self._config.api_auth,
                "children": self.stack.describe(),
            }
        )


@contextmanager
def running(
    kind: str, config: StackConfig, state: StateDir, interruption: Interruption, say: Callable[[str], None]
) -> Iterator[Session]:
    """A stack that is ready; it is stopped when the block ends, for whatever reason.

    Raises:
        StackError: another stack runs, the machine cannot run one, a child has died, or one does not end.
        Interrupted: a signal arrived while it started.
    """
    check_machine(config)
    state.create()
    lock = Lock(state.lock_file)
    if not lock.acquire():
        raise StackError(f"Galileo is running already in {state.root}.")
    try:
        state.clear_state()  # of a stack that was killed
        session = Session(kind, config, state, Stack(config, state, interruption, say))
        session.write("starting")
        state.write_env_file(session.stack.environments.controller())
        try:
            say("Starting Galileo …")
            session.stack.start(set_route=kind == UP)
            session.write("running")
            yield session
        finally:
            try:
                session.write("stopping")
                say("Stopping Galileo …")
            finally:  # the reader of the output may be gone, and the disk full
                session.stack.stop()
                state.remove_empty_spools()
            say("Everything is stopped.")
    finally:
        state.clear_state()
        lock.release()
