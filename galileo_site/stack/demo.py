"""`demo`: starts a stack, runs the example experiment on it, reports, and stops the stack, whatever happens."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack import processes
from galileo_site.stack.child_environment import manage
from galileo_site.stack.config import SERVICE_NAME, StackConfig
from galileo_site.stack.processes import ChildSpec
from galileo_site.stack.session import running
from galileo_site.stack.stack import DEMO, Stack
from galileo_site.stack.state import StateDir
from loadgen.interruption import Interruption

PLAN = PROJECT_ROOT / "examples" / "demo.yml"
# Time for run_experiment to cancel its experiment and for the load to stop.
_CANCEL_GRACE_S = 30.0


def demo(config: StackConfig, state: StateDir, interruption: Interruption) -> int:
    """Returns the exit status: 0 only if the experiment and its report succeeded. Raises StackError, Interrupted."""
    with running(DEMO, config, state, interruption, say) as stack:
        state.demo_id_file.unlink(missing_ok=True)
        routes = f"{SERVICE_NAME}={','.join(stack.routes)}"
        run_demo = manage("run_experiment", PLAN, "--wait", "--id-file", state.demo_id_file, "--route", routes)
        ran = _foreground(run_demo, stack, interruption)
        if not state.demo_id_file.exists():
            return ran or 1
        logs = [part for name in stack.service_names for part in ("--target-log", state.request_log(name))]
        reported = _foreground(manage("report", state.demo_id_file.read_text().strip(), *logs), stack, interruption)
        return ran or reported


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _foreground(command: Sequence[str], stack: Stack, interruption: Interruption) -> int:
    """Runs a command that shares this process's output, and watches the stack meanwhile. Returns its exit status.

    It has its own process group, so that it gets one Ctrl-C, from this process, and can cancel its experiment before
    anything else stops. Another signal is passed on as Ctrl-C. Raises Interrupted after the command has ended.
    """
    spec = ChildSpec("command", command, stack.environments.controller(), grace_s=_CANCEL_GRACE_S)
    status = processes.run_to_end(spec, interruption, stack.watch, signal.SIGINT).process.returncode
    return status if status >= 0 else 128 - status
