"""The programs that the suite needs and pip does not install."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

# Each program, and Debian's package of it.
PACKAGES = {
    "wrk": "wrk",
    "hey": "hey",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "taskset": "util-linux",
    "chrt": "util-linux",
}


class Missing(Exception):
    """A program is missing; the message has the command that installs it."""


def need(program: str) -> str:
    """Returns the path of one of PACKAGES. Raises Missing, with the name of its package."""
    found = _find(program)
    if found is None:
        raise Missing(f"{program} was not found: apt-get install {PACKAGES[program]}")
    return found


def install_missing(say: Callable[[str], None]) -> None:
    """Installs missing programs as root with apt-get; otherwise prints the command that does."""
    packages = [package for program, package in PACKAGES.items() if _find(program) is None]
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        say(f"Some lines cannot be measured before: sudo apt-get install {' '.join(packages)}")
        return
    say(f"Installing {', '.join(packages)} ...")
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    done = subprocess.run(
        install, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        say(f"{' '.join(install)} failed; try apt-get update before:\n{done.stderr[-500:]}")


def _find(program: str) -> str | None:
    # nginx is in sbin, which is not on every user's path.
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
