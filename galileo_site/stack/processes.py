"""Child: a child process with its command, its log, its readiness and its end."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.config import StackError
from loadgen.interruption import Interruption

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class ChildSpec:
    """A command and how to treat its process.

    Attributes:
        log: gets its output; None: it shares the output of this process.
        is_ready: None: it is ready as soon as it runs.
        grace_s: the time to end after a signal, before it is killed.
        death_signal: is sent to it when its parent is killed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    is_ready: Callable[[], bool] | None = None
    ready_within_s: float = 60.0
    grace_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL


@dataclass(eq=False)
class Child:
    """One running instance of a spec, in its own process group, so that a terminal's Ctrl-C does not reach it.

    It gets no session of its own: the kernel would divide the cores by session first (sched(7), autogroup), and nice
    values and policies would have no effect between Galileo's processes.
    """

    spec: ChildSpec
    process: subprocess.Popen[bytes]
    started_at_s: float = field(default_factory=time.monotonic)
    ready_at_s: float | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int:
        return self.process.pid

    def exit_status(self) -> int | None:
        return self.process.poll()

    def check_ready(self) -> bool:
        if self.ready_at_s is None and (self.spec.is_ready is None or self.spec.is_ready()):
            self.ready_at_s = time.monotonic()
        return self.ready_at_s is not None

    @property
    def start_took_s(self) -> float:
        """The time from its start until it was ready, or until now."""
        return (self.ready_at_s or time.monotonic()) - self.started_at_s

    def log_tail(self, lines: int = 15) -> str:
        text = self.spec.log.read_text(errors="replace") if self.spec.log else ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def start(spec: ChildSpec) -> Child:
    """Starts the process; its output is appended to the log.

    Must be called from the main thread: the kernel sends the death signal when the thread that started the child ends.
    """
    with spec.log.open("ab") if spec.log else nullcontext() as log:
        process = subprocess.Popen(
            tied(spec.command, spec.death_signal),
            env=dict(spec.environment),
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            process_group=0,
        )
    return Child(spec, process)


def tied(command: Sequence[str], number: signal.Signals) -> list[str]:
    """Returns a command that runs `command` and gets signal `number` when the calling process ends."""
    program = Path(__file__).with_name("tied.py")
    return [sys.executable, "-I", "-S", str(program), str(int(number)), str(os.getpid()), *command]


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent has died, so that `strays` finds them."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def run_to_end(
    spec: ChildSpec,
    interruption: Interruption,
    meanwhile: Callable[[], object] = lambda: None,
    end_by: signal.Signals = signal.SIGTERM,
) -> Child:
    """Runs a command, and `meanwhile` again and again until it ends. Returns the child that has ended.

    Raises:
        Interrupted: a signal arrived; the command was ended by the signal `end_by`.
    """
    child = start(spec)
    try:
        while child.exit_status() is None:
            meanwhile()
            interruption.wait(0.05)
    finally:
        stop([child], interruption, end_by)
    return child


def wait_ready(children: Sequence[Child], interruption: Interruption, say: Callable[[str], None]) -> None:
    """Waits until all are ready. Raises StackError when one dies or takes too long, Interrupted at a signal."""
    waiting = list(children)
    while waiting:
        for child in list(waiting):
            status = child.exit_status()
            if status is not None:
                raise StackError(f"{child.name} ended with status {status} while starting:\n{child.log_tail()}")
            if child.check_ready():
                say(f"  {child.name:<11} ready in {child.start_took_s:.1f} s")
                waiting.remove(child)
            elif child.start_took_s > child.spec.ready_within_s:
                raise StackError(f"{child.name} was not ready within {child.start_took_s:.0f} s:\n{child.log_tail()}")
        interruption.wait(0.05 if waiting else 0)


def stop(children: Sequence[Child], interruption: Interruption, end_by: signal.Signals = signal.SIGTERM) -> list[str]:
    """Sends a signal to all at once, and SIGKILL to those that outlive their grace. Returns the names of the killed."""
    for child in children:
        child.process.send_signal(end_by)
    killed = []
    signalled_at_s = time.monotonic()
    waiting = [child for child in children if child.exit_status() is None]
    while waiting:
        for child in waiting:
            if interruption.hurry or time.monotonic() - signalled_at_s > child.spec.grace_s:
                os.killpg(child.pid, signal.SIGKILL)  # it is not reaped yet, so that its pid is not used again
                child.process.wait()
                killed.append(child.name)
        time.sleep(0.02)
        waiting = [child for child in waiting if child.exit_status() is None]
    return killed


def strays(known: Sequence[Child]) -> list[psutil.Process]:
    """Returns the children of this process that are not in `known`. Reaps those that have ended."""
    pids = {child.pid for child in known}
    found = []
    for process in psutil.Process().children():
        if process.pid not in pids:
            try:
                process.wait(0)  # reaps it if it has ended
            except psutil.TimeoutExpired:
                found.append(process)
    return found


def end_strays(known: Sequence[Child], grace_s: float) -> list[str]:
    """Sends SIGTERM, then SIGKILL, to every stray. Returns their command lines, for the log."""
    ended: dict[int, str] = {}
    signalled_at_s = time.monotonic()
    while found := strays(known):
        waited_s = time.monotonic() - signalled_at_s
        if waited_s > grace_s + 5:
            raise StackError(f"Processes {[process.pid for process in found]} do not end, even after SIGKILL.")
        for process in found:
            try:
                if process.pid not in ended:
                    ended[process.pid] = " ".join(process.cmdline())
                    process.terminate()
                elif waited_s > grace_s:
                    process.kill()
            except psutil.NoSuchProcess:
                continue  # ended in between; the next round reaps it
        time.sleep(0.05)
    return list(ended.values())
