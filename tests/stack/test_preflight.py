"""`bin/preflight`: one sentence for each missing requirement."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "preflight"


@pytest.fixture(scope="module")
def preflight() -> ModuleType:
    loader = SourceFileLoader("preflight", str(SCRIPT))
    spec = importlib.util.spec_from_loader("preflight", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    code = compile(SCRIPT.read_text(), str(SCRIPT), "exec")  # not through the loader, which would leave a cache in bin/
    exec(code, module.__dict__)
    return module


def everything(_name: str) -> bool:
    return True


def without(*missing: str) -> Callable[[str], bool]:
    return lambda name: name not in missing


@pytest.mark.parametrize(("version", "machine"), [((3, 11), "x86_64"), ((3, 13), "aarch64"), ((4, 0), "x86_64")])
def test_a_fitting_machine_lacks_nothing(preflight: ModuleType, version: tuple[int, int], machine: str) -> None:
    assert preflight.problems(version, "Linux", machine, everything) == []


@pytest.mark.parametrize(
    ("version", "system", "machine", "can_import", "words"),
    [
        ((3, 9), "Linux", "x86_64", everything, ["Python 3.11 or newer", "this is Python 3.9", "PYTHON="]),
        ((3, 11), "Linux", "x86_64", without("ensurepip"), ["ensurepip", "python3-venv"]),
        ((3, 11), "Linux", "x86_64", without("venv", "ensurepip"), ["venv", "python3-venv"]),
        ((3, 11), "Linux", "armv7l", everything, ["x86_64 or aarch64", "armv7l"]),
        ((3, 11), "Darwin", "x86_64", everything, ["Linux", "Darwin"]),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    preflight: ModuleType,
    version: tuple[int, int],
    system: str,
    machine: str,
    can_import: Callable[[str], bool],
    words: list[str],
) -> None:
    (sentence,) = preflight.problems(version, system, machine, can_import)
    assert all(word in sentence for word in words)
    assert sentence.endswith(".")


def test_all_missing_requirements_are_named(preflight: ModuleType) -> None:
    assert len(preflight.problems((3, 6), "Darwin", "arm64", without("ensurepip"))) == 3


def test_this_machine_passes_silently() -> None:
    ran = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_an_old_python_can_read_the_script() -> None:
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.NamedExpr)]
