"""A real worker (`python -m loadgen.worker`) for tests, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil
import redis

from loadgen.device.registry import read_worker_info
from loadgen.protocol.messages import WorkerInfo
from loadgen.protocol.settings import RedisSettings, WorkerSettings, read_worker
from tests.support.process_tree import agents_of
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
READY_S = 30.0

# Ends with the test run, even one that is killed; Python 3.12 warns of a preexec_fn where there are threads.
_EXEC_TIED_TO_PARENT = """
import os, signal, sys
from loadgen.device.process import follow_parent
if follow_parent(signal.SIGTERM, int(sys.argv[1])):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0, what: str = "the condition") -> None:
    """Polls until `condition()` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.05)


class WorkerProcess:
    """A worker as a context manager; `variables` are further `galileo_*` variables (without the prefix)."""

    def __init__(self, server: RedisServer, name: str, directory: Path, **variables: str) -> None:
        self.name = name
        self.spool_dir = directory / f"spool-{name}"
        self._log_path = directory / f"{name}.log"
        self._client = redis.Redis.from_url(server.url)
        self._variables = {
            "galileo_redis_host": "127.0.0.1",
            "galileo_redis_port": str(server.port),
            "galileo_redis_password": server.password,
            "galileo_redis_username": server.username,
            "galileo_worker_name": name,
            "galileo_spool_dir": str(self.spool_dir),
            "galileo_slots": "2",
            "galileo_apps_cache_dir": str(directory / f"apps-{name}"),
            **{f"galileo_{key}": value for key, value in variables.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        """The worker's environment: ours without any `galileo_*`, and its own."""
        return {key: value for key, value in os.environ.items() if not key.startswith("galileo_")} | self._variables

    @property
    def settings(self) -> WorkerSettings:
        """The settings that the worker reads."""
        return read_worker(self._variables)

    def start(self, *, wait: bool = True) -> WorkerProcess:
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _EXEC_TIED_TO_PARENT, str(os.getpid()), sys.executable, "-m", "loadgen.worker"],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            try:
                wait_until(lambda: self.info() or self.process.poll() is not None, READY_S, f"worker {self.name}")
                assert self.process.poll() is None, self.log()
            except AssertionError:
                self.stop()
                raise
        return self

    def info(self) -> WorkerInfo | None:
        """What the registry says of it."""
        return read_worker_info(self._client, self.name)

    def agent(self) -> psutil.Process | None:
        """The agent's process, None while there is none."""
        assert self.process is not None
        return next(iter(agents_of(psutil.Process(self.process.pid))), None)

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def signal(self, signum: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit status, once it ends."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            family = [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children())]
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            wait_until(lambda: not any(psutil.pid_exists(pid) for pid in family), what="the end of the family")
        self._client.close()

    def __enter__(self) -> WorkerProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def settings_for(server: RedisServer, name: str, spool_dir: Path) -> WorkerSettings:
    """Settings of a worker without a process."""
    return WorkerSettings(
        name=name,
        labels={"worker_name": name},
        redis=RedisSettings("127.0.0.1", server.port, server.password, server.username),
        slots=2,
        apps_dir=None,
        spool_dir=spool_dir,
        spool_limit_bytes=256 << 20,
        logging_level="INFO",
        ingest_queues=1,
        trace_logging="sql",
        trace_dir=spool_dir,
        trace_limit_bytes=256 << 20,
        telemetry_interval_s=0.0,
        apps_cache_dir=spool_dir.parent / "apps",
        apps_cache_limit_bytes=64 << 20,
    )
