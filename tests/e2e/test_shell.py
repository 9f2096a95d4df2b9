"""The controller shell on a real terminal."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pexpect
import pytest

from experiments.shell.commands import USAGE
from galileo_site.environment import PROJECT_ROOT

PROMPT = "galileo> "
TABLE = """\
+---------------------------+----------------------+-----------+
| Service                   |                Hosts |   Weights |
+---------------------------+----------------------+-----------+
| myservice                 |           host1:8080 |       1.0 |
|                           |           host2:8080 |       2.0 |
+---------------------------+----------------------+-----------+
"""
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """A shell on a pty; `says` types a line and returns what is shown until the next prompt."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self._child = pexpect.spawn(
            str(PROJECT_ROOT / "bin" / "run"),
            ["shell", *arguments],
            env={**environment, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"},
            encoding="utf-8",
            timeout=30,
            dimensions=(50, 200),
            echo=False,
        )
        self._child.expect_exact(PROMPT)
        self.banner = _plain(self._child.before)

    def says(self, line: str) -> str:
        self._child.sendline(line)
        self._child.expect_exact(PROMPT)
        return _plain(self._child.before)

    def close(self) -> None:
        # pexpect's own way gives up if the process has not ended 0.1 s after each signal.
        self._child.kill(signal.SIGKILL)
        self._child.wait()
        self._child.close()


def _plain(text: str) -> str:
    return _ESCAPE.sub("", text)


@pytest.fixture(params=["python", "ipython"])
def terminal(galileo, request) -> Iterator[Terminal]:
    opened = Terminal(galileo.environment, "-i", request.param)
    yield opened
    opened.close()


def test_a_session_begins_with_a_banner_and_tells_what_there_is(terminal, galileo):
    assert "Welcome to the galileo shell!\nType `usage` to list available functions\n" in terminal.banner
    assert USAGE in terminal.says("usage")
    assert str(PROJECT_ROOT) in terminal.says("pwd")
    assert f"galileo_redis_port={galileo.redis.port}\n" in terminal.says("env")
    assert "Galileo(2 workers, 0 client groups)" in terminal.says("g")
    assert "['worker-a', 'worker-b']" in terminal.says("g.workers()")
    assert "none was started in this shell" in terminal.says("exp")
    assert "experiments.models.experiment" in terminal.says("Experiment.__module__")
    terminal.says("rtbl.clear(); None")
    record = "RoutingRecord(service='myservice', hosts=['host1:8080', 'host2:8080'], weights=[1, 2])\n"
    assert record in terminal.says("rtbl.set('myservice', ['host1:8080', 'host2:8080'], [1, 2])")
    assert TABLE in terminal.says("rtbl")
    assert "removed" not in terminal.says("rtbl.remove('myservice'); None")
    assert "PlanInvalid: num: must be at least 1" in terminal.says("g.spawn('x', 0)")


def test_a_script_runs_from_a_file_and_from_the_standard_input(galileo, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('workers', g.workers())\n")
    said = "workers ['worker-a', 'worker-b']\n"
    assert galileo.manage("shell", "--source", script).stdout == said
    with script.open() as opened:
        assert galileo.manage("shell", stdin=opened).stdout == said
    assert galileo.manage("shell", "-c", script.read_text()).stdout == said
    missing = galileo.manage("shell", "--source", tmp_path / "none.py", check=False)
    assert missing.returncode == 1
    assert "none.py cannot be read" in missing.stderr


def test_a_program_has_the_objects_too(galileo):
    done = subprocess.run(
        [sys.executable, "-c", "from experiments.shell import g; print(g.workers())"],
        cwd=PROJECT_ROOT,
        env=galileo.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "['worker-a', 'worker-b']\n"
