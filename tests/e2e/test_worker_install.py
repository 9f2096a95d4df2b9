"""A device needs no more than requirements-worker.txt."""

import subprocess

import pytest

from galileo_site.environment import PROJECT_ROOT
from loadgen.protocol.keys import worker_key
from tests.support.galileo import Galileo
from tests.support.venv import make_venv
from tests.support.waiting import wait_for

pytestmark = pytest.mark.long


def test_a_worker_starts_from_an_environment_without_django(tmp_path, galileo: Galileo):
    venv = tmp_path / "venv"
    make_venv(venv, "-r", PROJECT_ROOT / "requirements-worker.txt")
    assert subprocess.run([venv / "bin" / "python", "-c", "import django"], capture_output=True).returncode == 1
    galileo.start(
        "bare-worker",
        [str(PROJECT_ROOT / "bin" / "run"), "worker"],
        galileo_venv=str(venv),
        galileo_worker_name="bare",
        galileo_zone="C",
        galileo_spool_dir=str(tmp_path / "spool"),
    )
    try:
        wait_for(lambda: galileo.broker().exists(worker_key("bare")), "the bare worker to register")
    finally:
        galileo.stop("bare-worker")
