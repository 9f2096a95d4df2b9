"""The state directory: one lock, kept secrets, a description of what runs, logs and data."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from galileo_site.stack.config import StackError
from loadgen.protocol.variables import PREFIX

_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Secrets:
    """The secrets of a state directory, which are generated once."""

    redis_password: str
    secret_key: str
    admin_password: str


class StateDir:
    """Paths below the state directory, and the files that the stack itself reads and writes there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "log"
        self.redis = root / "redis"
        self.database = root / "galileo.sqlite3"
        self.apps = root / "apps"
        self.lock_file = root / "lock"
        self.secrets_file = root / "secrets.json"
        self.state_file = root / "stack.json"
        self.env_file = root / "galileo.env"
        self.demo_id_file = root / "demo-experiment-id"

    def create(self) -> None:
        """Raises StackError if the directory cannot be made or written."""
        try:
            for path in (self.root, self.logs, self.redis):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise StackError(f"The state directory {self.root} cannot be used: {error.strerror}.") from error

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def request_log(self, name: str) -> Path:
        """Returns the file in which an example service logs its requests."""
        return self.logs / f"{name}.requests.log"

    def start_new_logs(self) -> None:
        """Renames the last run's logs to `*.log.1`; reports use request logs, which must start empty."""
        for path in self.logs.glob("*.log"):
            path.replace(path.with_name(path.name + ".1"))

    def secrets(self) -> Secrets:
        """Reads or generates the secrets. Raises StackError if the file is damaged."""
        try:
            return Secrets(**json.loads(self.secrets_file.read_text()))
        except FileNotFoundError:
            made = Secrets(secrets.token_urlsafe(24), secrets.token_urlsafe(48), secrets.token_urlsafe(12))
            _write_atomically(self.secrets_file, json.dumps(vars(made), indent=2))
            return made
        except (ValueError, TypeError) as error:
            raise StackError(f"{self.secrets_file} is damaged; delete it to make new secrets.") from error

    def write_state(self, state: dict[str, Any]) -> None:
        _write_atomically(self.state_file, json.dumps(state, indent=2))

    def write_env_file(self, environment: Mapping[str, str]) -> None:
        """Writes the settings of the running stack, for `bin/run --envfile`; `clear_state` removes the file."""
        lines = [f"{name}={value}\n" for name, value in sorted(environment.items()) if name.startswith(PREFIX)]
        _write_atomically(self.env_file, "".join(lines))

    def read_state(self) -> dict[str, Any]:
        """Returns the description of the stack, or {}. It is valid only while the lock is held."""
        try:
            state = json.loads(self.state_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def clear_state(self) -> None:
        self.state_file.unlink(missing_ok=True)
        self.env_file.unlink(missing_ok=True)

    def _spool_parents(self) -> list[Path]:
        """Returns the possible parents of spools, the best one first."""
        name = f"galileo-{os.getuid()}-{sha256(str(self.root).encode()).hexdigest()[:8]}"
        return [_SHARED_MEMORY / name, self.root / "spool"]

    def spool(self, worker: str) -> Path:
        """Creates and returns a worker's spool directory, in memory if possible."""
        for parent in self._spool_parents():
            try:
                parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if _is_ours(parent) and os.access(parent, os.W_OK):
                    (parent / worker).mkdir(mode=0o700, exist_ok=True)
                    return parent / worker
            except OSError:
                continue  # no such file system, or another user's file; the next one is tried
        raise StackError(f"No spool directory can be made, neither in {_SHARED_MEMORY} nor in {self.root}.")

    def remove_empty_spools(self) -> None:
        """Removes empty spools when no worker runs. A spool with batches stays; its worker forwards them later."""
        for parent in self._spool_parents():
            if not parent.is_dir() or not _is_ours(parent):
                continue
            for spool in parent.iterdir():
                if all(path.suffix == ".lock" for path in spool.rglob("*")):
                    shutil.rmtree(spool)
            if not any(parent.iterdir()):
                parent.rmdir()


def _is_ours(directory: Path) -> bool:
    """Returns whether this user owns the directory; any user can create one, or a link, in /dev/shm."""
    facts = directory.lstat()
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()


class Lock:
    """Held by the process that runs the stack of a state directory, for as long as it lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Tries once. The kernel releases the lock when the process ends, however it ends."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return True  # without a state directory, no process can hold the lock
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(path: Path) -> bool:
    lock = Lock(path)
    free = lock.acquire()
    lock.release()
    return not free


def _write_atomically(path: Path, content: str) -> None:
    """Replaces the file in one step; only its owner can read it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    Path(name).replace(path)
