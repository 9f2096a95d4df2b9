"""Invalid settings end each entry point with a list of the wrong variables and without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from galileo_site.environment import PROJECT_ROOT

pytestmark = pytest.mark.slow

SITE = {"galileo_secret_key": "", "galileo_api_rate": "often", "galileo_redis_port": "70000"}
WORKER = {"galileo_worker_name": "two words", "galileo_redis_port": "70000", "galileo_slots": "0"}
STACK = {"galileo_web_port": "99999", "galileo_logging_level": "LOUD"}
AGENT = ["loadgen.agent.main", "--worker-pid", "1", "--instance", "x", "--started-ns", "0"]


@pytest.mark.parametrize(
    ("arguments", "status", "variables"),
    [
        pytest.param(["manage.py", "check"], 1, SITE, id="manage.py"),
        pytest.param(["-c", "import galileo_site.wsgi"], 1, SITE, id="wsgi"),
        pytest.param(["-m", "celery", "-A", "galileo_site", "beat"], 1, SITE, id="celery"),
        pytest.param(["-m", "galileo_site.stack", "status"], 1, STACK, id="stack"),
        pytest.param(["-m", "loadgen.worker"], 2, WORKER, id="worker"),
        pytest.param(["-m", *AGENT], 2, WORKER, id="agent"),
        pytest.param(["-m", "galileo_site.cli", "app", "ls"], 2, {"galileo_api_url": "ftp://a"}, id="galileo"),
    ],
)
def test_wrong_variables_are_listed_without_a_traceback(
    arguments: list[str], status: int, variables: dict[str, str]
) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("galileo_", "DJANGO_"))}
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT_ROOT,
        env=plain | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (status, "")
    listed = [line.removeprefix("galileo: ").partition(": ")[0] for line in ended.stderr.splitlines()]
    assert sorted(listed) == sorted(variables), ended.stderr
