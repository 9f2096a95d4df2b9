"""A worker that has no ephemeral port left says so, request by request."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.http_target import ROOT
from tests.support.needed import need


@pytest.mark.slow
def test_requests_without_a_port_are_counted_and_the_others_sent() -> None:
    network = [str(need("/usr/bin/unshare", "util-linux")), "--user", "--map-root-user", "--net"]
    if subprocess.run([*network, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network of its own")
    command = [*network, sys.executable, "-m", "tests.loadgen.engine.http.few_ports", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"CONNECT_NO_PORT": 30, "TIMEOUT": 20}
