"""A stack that runs under its lock, is described in the state file, and is always stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from galileo_site.stack.config import StackConfig, StackError
from galileo_site.stack.stack import Stack, check_machine
from galileo_site.stack.state import Lock, StateDir
from loadgen.interruption import Interruption


@contextmanager
def running(
    kind: str, config: StackConfig, state: StateDir, interruption: Interruption, say: Callable[[str], None]
) -> Iterator[Stack]:
    """Starts a stack and yields it when it is ready; it is stopped when the block ends, for whatever reason.

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
        stack = Stack(kind, config, state, interruption, say)
        stack.write_state("starting")
        state.write_env_file(stack.environments.controller())
        try:
            say("Starting Galileo …")
            stack.start()
            stack.write_state("running")
            yield stack
        finally:
            try:
                stack.write_state("stopping")
                say("Stopping Galileo …")
            finally:  # the output may be closed, and the disk full
                stack.stop()
                state.remove_empty_spools()
            say("Everything is stopped.")
    finally:
        state.clear_state()
        lock.release()
