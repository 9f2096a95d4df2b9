"""The whole of Galileo on free ports, for end-to-end tests: broker, database, control, ingest, beat, workers, and web.

Workers are started as a user starts them, through bin/run. So are the controller's processes and the commands of
manage.py, unless they are forks of one process, which saves most of the time of their start: tests.support.fork_server.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil
import redis
import yaml
from django.db.models import QuerySet

from experiments.models import Experiment, Shard
from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.ports import pick_free
from galileo_site.stack.processes import Child, ChildSpec, start, stop
from loadgen.interruption import Interruption
from loadgen.protocol.keys import shard_key, worker_key
from tests.support.database_servers import Postgres
from tests.support.fork_server import ForkServer
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.stepped_clock import SteppedClock
from tests.support.stored import Stored
from tests.support.waiting import wait_for
from tests.support.web import Web

CONTROLLER = ("control", "ingest", "beat")
_ADMIN = "admin"


class Galileo:
    """A context manager; `directory` keeps the database (if it is SQLite), the logs and the spools.

    Args:
        workers: each worker's name and its zone.
        worker_prefix: stands before every worker's command.
        postgres: a running server to store in, instead of SQLite.
        with_web: starts the web server, too, with an administrator's token: `web` speaks to it.
        proxied: names of workers that reach the broker through a proxy of their own, which `proxies` holds.
        variables: further environment variables of every process.
        forked: forks the controller's processes and the commands of manage.py.
        broker_clock: the wall clock of the broker alone.
    """

    def __init__(
        self,
        directory: Path,
        workers: dict[str, str],
        worker_prefix: Sequence[str] = (),
        *,
        postgres: Postgres | None = None,
        with_web: bool = False,
        proxied: Collection[str] = (),
        variables: Mapping[str, str] | None = None,
        forked: bool = True,
        broker_clock: SteppedClock | None = None,
    ) -> None:
        self.directory = directory
        self.database = directory / "galileo.sqlite3"
        self.children: dict[str, Child] = {}
        self.redis = RedisServer(directory / "redis", append_only=True, clock=broker_clock)
        self.proxies = {name: Proxy(self.redis.port) for name in proxied}
        self.stored = Stored(self.database, postgres)
        self._forked = forked
        self._forks: ForkServer | None = None
        self._workers = workers
        self._worker_prefix = list(worker_prefix)
        self._postgres = postgres
        self._variables = dict(variables or {})
        self._web_port = pick_free() if with_web else None
        self._web: Web | None = None
        self._secret_key = secrets.token_urlsafe(40)
        self._admin_password = secrets.token_urlsafe(16)

    def __enter__(self) -> Galileo:
        try:
            self.redis.start()
            for proxy in self.proxies.values():
                proxy.start()
            if self._forked:
                self._forks = ForkServer(self.directory, self.environment)
            self.manage("migrate", "--verbosity=0")
            for name in CONTROLLER:
                self.start_controller(name)
            for name in self._workers:
                self.start_worker(name)
            if self._web_port is not None:
                self._start_web(self._web_port)
            for name in self._workers:
                wait_for(lambda name=name: self.broker().exists(worker_key(name)), f"worker {name} to register")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*reversed(self.children))
        if self._forks is not None:
            self._forks.stop()
        for proxy in self.proxies.values():
            proxy.stop()
        self.redis.stop()

    def broker(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis.url, socket_timeout=5)

    @property
    def web(self) -> Web:
        """The API, as an administrator."""
        if self._web is None:
            raise RuntimeError("there is no web server: with_web=True starts one")
        return self._web

    @property
    def administrator(self) -> tuple[str, str]:
        """Name and password, where there is a web server."""
        return _ADMIN, self._admin_password

    @property
    def environment(self) -> dict[str, str]:
        ours = ("galileo_", "DJANGO_")  # the tests' own settings, which a user's processes do not have
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        database = self._postgres.environment if self._postgres else {"galileo_expdb_sqlite_path": str(self.database)}
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            "galileo_venv": sys.prefix,
            "galileo_redis_port": str(self.redis.port),
            "galileo_redis_password": self.redis.password,
            "galileo_secret_key": self._secret_key,
            "galileo_apps_repo_dir": str(self.directory / "apps"),
            "galileo_apps_dir": str(PROJECT_ROOT / "examples" / "apps"),
            **database,
            **self._variables,
        }

    def start_controller(self, name: str, *arguments: str, **variables: str) -> Child:
        """Starts (or starts again) `bin/run ARGUMENTS`, or `bin/run NAME`, with the settings that all share."""
        arguments = arguments or (name,)
        command = [str(PROJECT_ROOT / "bin" / "run"), *arguments]
        if self._forks is None:
            return self.start(name, command, **variables)
        log = self.directory / f"{name}.log"
        process: Any = self._forks.start_run(arguments, log, **variables)
        self.children[name] = Child(ChildSpec(name, command, self.environment, log, grace_s=30.0), process)
        return self.children[name]

    def start(self, name: str, command: list[str], **environment: str) -> Child:
        """Starts (or starts again) one of the processes."""
        log = self.directory / f"{name}.log"
        spec = ChildSpec(name, command, {**self.environment, **environment}, log, grace_s=30.0)
        self.children[name] = start(spec)
        return self.children[name]

    def start_worker(self, name: str, **variables: str) -> Child:
        """Starts a worker; one that is not among `workers` needs its `galileo_zone`."""
        proxy = self.proxies.get(name)
        return self.start(
            name,
            [*self._worker_prefix, str(PROJECT_ROOT / "bin" / "run"), "worker"],
            **{
                "galileo_worker_name": name,
                "galileo_zone": self._workers.get(name, ""),
                "galileo_spool_dir": str(self.spool(name)),
                "galileo_apps_cache_dir": str(self.directory / f"apps-{name}"),
                "galileo_redis_port": str(proxy.port if proxy else self.redis.port),
                **variables,
            },
        )

    def spool(self, worker: str) -> Path:
        """The folder of a worker's batches."""
        return self.directory / f"spool-{worker}"

    def stop(self, *names: str) -> None:
        """SIGTERM, and SIGKILL for what does not end; one after the other."""
        for name in names:
            stop([self.children[name]], Interruption())

    def kill(self, name: str) -> None:
        """Kills the main process alone."""
        self.children[name].process.kill()
        self.children[name].process.wait()

    def manage(
        self, *arguments: str | Path, check: bool = True, stdin: IO[str] | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of manage.py; with `check`, a failure shows its output."""
        command = ["manage.py", *map(str, arguments)]
        if self._forks is not None:
            done = self._forks.run(command, stdin, **variables)
        else:
            done = subprocess.run(
                [sys.executable, *command], cwd=PROJECT_ROOT, env={**self.environment, **variables}, stdin=stdin,
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def write_plan(self, plan: dict[str, Any]) -> Path:
        path = self.directory / f"plan-{secrets.token_hex(4)}.yml"
        path.write_text(yaml.safe_dump(plan))
        return path

    def run(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Runs a plan to its end; what `run_experiment --wait --json` answers."""
        done = self.manage("run_experiment", self.write_plan(plan), "--wait", "--json", check=False)
        if done.returncode:
            raise AssertionError(f"exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.log_tails()}")
        return dict(json.loads(done.stdout))

    def begin(self, plan: dict[str, Any]) -> str:
        """Submits a plan; returns the experiment's id."""
        return self.manage("run_experiment", self.write_plan(plan)).stdout.split()[-1]

    def report(self, experiment_id: str, *target_logs: Path, check: bool = True) -> dict[str, Any]:
        logs = [part for log in target_logs for part in ("--target-log", log)]
        return dict(json.loads(self.manage("report", experiment_id, "--json", *logs, check=check).stdout))

    def read(self, rows: QuerySet[Any, Any]) -> list[Any]:
        """The rows of an unevaluated queryset, read from this Galileo's database."""
        return self.stored.read(rows)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a statement; `?` stands for a parameter."""
        return self.stored.query(sql, *parameters)

    def experiment(self, experiment_id: str) -> Experiment:
        (experiment,) = self.read(Experiment.objects.filter(id=experiment_id))
        return experiment

    def status(self, experiment_id: str) -> str:
        return str(self.experiment(experiment_id).status)

    def wait_for_status(self, experiment_id: str, *statuses: str) -> str:
        wait_for(lambda: self.status(experiment_id) in statuses, f"{experiment_id} to become {' or '.join(statuses)}")
        return self.status(experiment_id)

    def shard_processes(self, worker: str) -> list[psutil.Process]:
        """The pool processes of a worker that run a shard now."""
        shards = self.read(Shard.objects.filter(status__in=["READY", "RUNNING"]))
        values = [self.broker().get(shard_key(shard.id)) for shard in shards]
        statuses = [json.loads(value) for value in values if value]
        pids = {status["pid"] for status in statuses if status["worker"] == worker}
        return [psutil.Process(pid) for pid in pids]

    def log_tails(self, lines: int = 15) -> str:
        return "\n".join(f"--- {name}\n{child.log_tail(lines)}" for name, child in self.children.items())

    def _start_web(self, port: int) -> None:
        self.manage("ensure_admin", galileo_admin_user=_ADMIN, galileo_admin_password=self._admin_password)
        token = self.manage("drf_create_token", _ADMIN).stdout.split()[2]  # Generated token … for user …
        self.start_controller("web", "api", galileo_web_port=str(port))
        self._web = Web(port, token)
        wait_for(self._web.answers, "web to answer")


@contextmanager
def stopped(process: psutil.Process, seconds: float) -> Iterator[None]:
    """Stops a process with SIGSTOP for a while."""
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
        yield
    finally:
        process.send_signal(signal.SIGCONT)
