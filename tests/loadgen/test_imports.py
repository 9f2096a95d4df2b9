"""The worker is free of Django."""

import subprocess
import sys

import pytest

from tests.support.worker_process import ROOT

pytestmark = pytest.mark.costly

MODULES = ["loadgen.tasks", "loadgen.agent.main", "loadgen.worker", "loadgen.celery"]


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize("module", MODULES)
def test_the_worker_imports_where_django_is_not_installed(module: str) -> None:
    run(f"import sys; sys.modules['django'] = None; import {module}")


@pytest.mark.parametrize("module", MODULES)
def test_worker_imports_no_django_where_it_is_installed(module: str) -> None:
    # kombu and celery look for Django's lazy texts and settings by themselves when they find it.
    theirs = "import celery.utils.collections, kombu.utils.json"
    listing = (
        "print(*sorted(name for name in sys.modules if name.startswith(('django', 'rest_framework', 'experiments'))))"
    )

    assert run(f"import sys, {module}; {theirs}; {listing}") == run(f"import sys; {theirs}; {listing}")
