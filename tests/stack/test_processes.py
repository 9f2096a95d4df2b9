"""Children: how they become ready, how they end, and that none outlives the stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from galileo_site.stack import processes
from galileo_site.stack.config import StackError
from galileo_site.stack.processes import ChildSpec
from loadgen.interruption import Interrupted, Interruption
from tests.stack.waiting import wait_for
from tests.support.process_tree import living

pytestmark = pytest.mark.slow
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
SLEEPS = "import time; print('up', flush=True); time.sleep(60)"


def spec(tmp_path: Path, code: str, name: str = "child", grace_s: float = 10.0, within_s: float = 20.0) -> ChildSpec:
    log = tmp_path / f"{name}.log"
    return ChildSpec(
        name=name,
        command=[sys.executable, "-c", code],
        environment=dict(os.environ),
        log=log,
        is_ready=lambda: "up" in log.read_text(),
        ready_within_s=within_s,
        grace_s=grace_s,
    )


def test_a_child_is_ready_by_its_check_and_ends_at_sigterm(tmp_path: Path) -> None:
    said: list[str] = []
    child = processes.start(spec(tmp_path, SLEEPS))
    processes.wait_ready([child], Interruption(), said.append)
    assert len(said) == 1 and said[0].split()[:2] == ["child", "ready"]
    assert processes.stop([child], Interruption()) == []
    assert child.exit_status() == -signal.SIGTERM


def test_a_child_leads_its_own_process_group(tmp_path: Path) -> None:
    child = processes.start(spec(tmp_path, SLEEPS))
    assert os.getpgid(child.pid) == child.pid
    assert os.getsid(child.pid) == os.getsid(0)  # otherwise the kernel would divide the cores by session first
    processes.stop([child], Interruption())


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    deaf = processes.start(spec(tmp_path, DEAF, "deaf", grace_s=0.3))
    polite = processes.start(spec(tmp_path, SLEEPS, "polite"))
    processes.wait_ready([deaf, polite], Interruption(), lambda _: None)
    assert processes.stop([deaf, polite], Interruption()) == ["deaf"]
    assert deaf.exit_status() == -signal.SIGKILL
    assert polite.exit_status() == -signal.SIGTERM


def test_a_second_signal_shortens_every_grace(tmp_path: Path) -> None:
    child = processes.start(spec(tmp_path, DEAF, grace_s=60))
    interruption = Interruption()
    processes.wait_ready([child], interruption, lambda _: None)
    interruption.hurry = True
    assert processes.stop([child], interruption) == ["child"]


def test_a_child_that_dies_while_starting_is_an_error(tmp_path: Path) -> None:
    code = "print('line\\n' * 50 + 'no such table', flush=True); raise SystemExit(3)"
    child = processes.start(
        ChildSpec("web", [sys.executable, "-c", code], {}, tmp_path / "web.log", is_ready=lambda: False)
    )
    with pytest.raises(StackError) as caught:
        processes.wait_ready([child], Interruption(), lambda _: None)
    lines = str(caught.value).splitlines()
    assert lines[0] == "web ended with status 3 while starting:"
    assert lines[-1].strip() == "no such table"
    assert len(lines) == 16


def test_a_child_that_is_never_ready_is_an_error(tmp_path: Path) -> None:
    child = processes.start(spec(tmp_path, "import time; time.sleep(60)", within_s=0.3))
    with pytest.raises(StackError, match="child was not ready within"):
        processes.wait_ready([child], Interruption(), lambda _: None)
    processes.stop([child], Interruption())


def test_a_signal_ends_the_waiting(tmp_path: Path) -> None:
    child = processes.start(spec(tmp_path, "import time; time.sleep(60)"))
    interruption = Interruption()
    interruption.arrive(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        processes.wait_ready([child], interruption, lambda _: None)
    assert caught.value.exit_status == 130
    processes.stop([child], interruption)


def test_a_command_is_run_to_its_end(tmp_path: Path) -> None:
    failing = ChildSpec("migrate", [sys.executable, "-c", "raise SystemExit('disk full')"], {}, tmp_path / "log")
    child = processes.run_to_end(failing, Interruption())
    assert (child.exit_status(), child.log_tail()) == (1, "    disk full")


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from galileo_site.stack import processes
from galileo_site.stack.processes import ChildSpec
log = Path({str(tmp_path / "log")!r})
child = processes.start(ChildSpec("deaf", [sys.executable, "-c", {DEAF!r}], os.environ, log))
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_for(lambda: "up" in (tmp_path / "log").read_text())
    parent.kill()
    parent.communicate()
    wait_for(lambda: not living([child]))


def test_what_a_child_leaves_behind_is_found_and_ended(tmp_path: Path) -> None:
    parent = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {DEAF!r}], start_new_session=True).wait()"
    )
    # In a process of its own, because adopting orphans would also adopt those of other tests.
    code = """
import os, sys
from pathlib import Path
from galileo_site.stack import processes
from loadgen.interruption import Interruption
from galileo_site.stack.processes import ChildSpec
processes.adopt_orphans()
log = Path(sys.argv[1])
spec = ChildSpec("child", [sys.executable, "-c", sys.argv[2]], os.environ, log, lambda: "up" in log.read_text())
child = processes.start(spec)
processes.wait_ready([child], Interruption(), lambda _: None)
assert processes.strays([child]) == []
processes.stop([child], Interruption())
ended = processes.end_strays([], grace_s=0.2)
assert len(ended) == 1 and "SIG_IGN" in ended[0], ended
assert processes.strays([]) == []
print("none left")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "log"), parent]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("none left\n", "")
