"""make_venv: a virtual environment with what a test needs."""

import subprocess
import sys
from pathlib import Path


def make_venv(folder: Path, *requirements: str | Path) -> None:
    """Makes a virtual environment without a pip of its own, which would take longer, and installs into it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", *requirements], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
