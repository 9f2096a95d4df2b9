"""The experiment daemon as a process of its own, with a database and a broker of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.processes import tied
from loadgen.protocol.keys import INSTRUCTIONS_KEY, INSTRUCTIONS_PROCESSING_KEY, worker_key
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for
from tests.support.workers import register


class DaemonSite:
    """A broker, an SQLite database, and daemons on them; a context manager that ends what it has started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "galileo.sqlite3"
        self.redis = RedisServer(directory / "redis", append_only=True)
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._secret_key = secrets.token_urlsafe(40)

    def __enter__(self) -> DaemonSite:
        self.redis.start()
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()
        self.redis.stop()

    @property
    def environment(self) -> dict[str, str]:
        ours = ("galileo_", "DJANGO_")  # the tests' own settings
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **inherited,
            "galileo_venv": sys.prefix,
            "galileo_redis_port": str(self.redis.port),
            "galileo_redis_password": self.redis.password,
            "galileo_secret_key": self._secret_key,
            "galileo_expdb_sqlite_path": str(self.database),
        }

    def migrate(self) -> None:
        """Makes the database beside its place and moves it there, whole."""
        made = self.directory / "made.sqlite3"
        command = [sys.executable, str(PROJECT_ROOT / "manage.py"), "migrate", "--verbosity=0"]
        environment = {**self.environment, "galileo_expdb_sqlite_path": str(made)}
        subprocess.run(command, env=environment, check=True, timeout=60)
        with sqlite3.connect(made) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        shutil.move(made, self.database)

    def join(self, *workers: str) -> None:
        """Registers workers that stay."""
        with self.redis.client() as client:
            for name in workers:
                register(client, name, labels={"worker_name": name})
                client.persist(worker_key(name))

    def start(self, *, killed_when: str = "", level: str = "INFO") -> subprocess.Popen[bytes]:
        """Starts a daemon as a user does; or one that kills itself at one of the moments of `tests.support.killed`."""
        run = [str(PROJECT_ROOT / "bin" / "run"), "experimentd", "--logging", level]
        command = [sys.executable, "-m", "tests.support.killed_daemon", killed_when] if killed_when else run
        with self.log_path.open("ab") as log:
            daemon = subprocess.Popen(
                tied(command, signal.SIGKILL), cwd=PROJECT_ROOT, env=self.environment, stdout=log, stderr=log
            )
        self._daemons.append(daemon)
        return daemon

    @property
    def log_path(self) -> Path:
        return self.directory / "experimentd.log"

    def log(self) -> str:
        return self.log_path.read_text()

    def push(self, *instructions: dict[str, Any]) -> None:
        with self.redis.client() as client:
            for instruction in instructions:
                client.lpush(INSTRUCTIONS_KEY, json.dumps(instruction))

    def queued(self) -> tuple[int, int]:
        """How many instructions nobody has taken, and how many are being processed."""
        with self.redis.client() as client:
            return int(client.llen(INSTRUCTIONS_KEY)), int(client.llen(INSTRUCTIONS_PROCESSING_KEY))

    def wait_until_empty(self) -> None:
        wait_for(lambda: self.queued() == (0, 0), "the queue to be empty", within_s=30)

    def experiments(self) -> list[tuple[str, str]]:
        """Name and status of each, in the order in which they were made."""
        connection = sqlite3.connect(self.database, timeout=20)
        try:
            return connection.execute("SELECT name, status FROM experiments_experiment ORDER BY created_at").fetchall()
        finally:
            connection.close()
