"""Settings from `galileo_*` environment variables, validated once, with all errors at once."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from loadgen.compiled import OFF
from loadgen.protocol.keys import label_queue
from loadgen.protocol.variables import PREFIX, labels_of, looks_secret, refused_variables
from routing import routers
from routing.errors import Code, ErrorCollector

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
NAME_RULE = "at most 63 letters, digits, '.', '_' and '-', the first a letter or digit"
# Destinations of traces besides the database: none, files on the worker, a channel of Redis.
SQL, FILE, REDIS = "sql", "file", "redis"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MIN_TELEMETRY_INTERVAL_S = 0.1
ON = ("1", "true", "yes", "on")
Number = TypeVar("Number", int, float)


class Reader:
    """Reads typed values from a mapping of environment variables and collects what is wrong with them.

    Variables whose name or value is refused (variables.py) are wrong, and read as if they were missing. Each method
    returns the default for a missing, empty or wrong value; call `raise_if_wrong` after the last one.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._errors = ErrorCollector()
        for variable, code, message in refused_variables(environ):
            self._environ.pop(variable, None)
            self._errors.add(variable, code, message)

    def text(self, name: str, default: str = "") -> str:
        return self._environ.get(PREFIX + name, "").strip() or default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        return self._bounded(name, int, "whole number", default, low, high)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        return self._bounded(name, float, "number", default, low, high)

    def _bounded(self, name: str, parse: type[Number], kind: str, default: Number, low: Number, high: Number) -> Number:
        raw = self.text(name)
        if not raw:
            return default
        try:
            value, code = parse(raw), Code.RANGE
        except ValueError:
            value, code = parse(low - 1), Code.TYPE
        if not low <= value <= high:
            self.wrong(name, code, f"must be a {kind} from {low:,.10g} to {high:,.10g}, got {raw!r}")
            return default
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        raw = self.text(name, default)
        if raw not in choices:
            got = "" if looks_secret(name) else f", got {raw!r}"
            self.wrong(name, Code.CHOICE, f"must be one of {', '.join(choices)}{got}")
            return default
        return raw

    def flag(self, name: str, default: bool) -> bool:
        raw = self.text(name)
        if raw and raw.lower() not in (*ON, *OFF):
            self.wrong(name, Code.CHOICE, f"must be true or false, got {raw!r}")
            return default
        return raw.lower() in ON if raw else default

    def folder(self, name: str) -> Path | None:
        """Returns an existing folder, or None."""
        raw = self.text(name)
        if raw and not Path(raw).is_dir():
            self.wrong(name, Code.MISSING, f"must be an existing folder, got {raw!r}")
        return Path(raw).resolve() if raw else None

    def wrong(self, name: str, code: Code, message: str) -> None:
        self._errors.add(f"{PREFIX}{name}", code, message)

    def raise_if_wrong(self) -> None:
        """Raises InvalidInput; each error's path is the name of a variable."""
        self._errors.raise_if_any()


@dataclass(frozen=True)
class RedisSettings:
    """Address and credentials of the Redis-compatible server; without a user name, its default user is meant."""

    host: str
    port: int
    password: str = field(repr=False)
    username: str = ""

    @property
    def url(self) -> str:
        credentials = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{credentials if self.username or self.password else ''}{host}:{self.port}/0"


def read_redis(reader: Reader) -> RedisSettings:
    """Reads `galileo_redis_host`, `_port`, `_password` and `_username` (127.0.0.1, 6379, none, the default user)."""
    host = reader.text("redis_host", "127.0.0.1")
    if re.search(r"[@/\s]", host):  # the value is not shown: credentials before an @ would be
        reader.wrong("redis_host", Code.FORMAT, "must be a host name or an address, without scheme, user and port")
    return RedisSettings(
        host=host,
        port=reader.integer("redis_port", 6379, 1, 65535),
        password=reader.text("redis_password"),
        username=reader.text("redis_username"),
    )


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker; `labels` maps label to value, without the `galileo_` prefix."""

    name: str
    labels: dict[str, str]
    redis: RedisSettings
    slots: int
    apps_dir: Path | None
    spool_dir: Path
    spool_limit_bytes: int
    logging_level: str
    ingest_queues: int
    trace_logging: str
    trace_dir: Path  # used only with FILE
    trace_limit_bytes: int
    apps_cache_dir: Path
    apps_cache_limit_bytes: int
    telemetry_interval_s: float  # 0: the agent publishes no telemetry
    router: str = routers.HOST  # of workloads without one
    static_host: str = routers.DEFAULT_STATIC_HOST  # of the static router, for workloads without one

    @property
    def queues(self) -> list[str]:
        """The queues from which the worker takes orders: one for each label, its name included."""
        return [label_queue(label, value) for label, value in sorted(self.labels.items())]


def read_worker(environ: Mapping[str, str] | None = None, *, cores: int = 1) -> WorkerSettings:
    """Reads the settings of a worker and its agent.

    Args:
        cores: those that the worker can use (loadgen/device/cores.py); the default of its slots depends on them.

    Raises:
        InvalidInput: with every invalid variable.
    """
    environ = os.environ if environ is None else environ
    reader = Reader(environ)
    name = reader.text("worker_name", platform.node() or "worker")
    labels = {**labels_of(environ), "worker_name": name}
    for label, value in labels.items():
        if not NAME_PATTERN.fullmatch(label) or not NAME_PATTERN.fullmatch(value):
            # The value is not shown: a variable that is not a setting may hold a secret.
            reader.wrong(label, Code.FORMAT, f"name and value of a label must be {NAME_RULE}")
    trace_logging = reader.choice("trace_logging", SQL, (SQL, FILE, REDIS))
    trace_dir = reader.text("trace_dir")
    if trace_logging == FILE and not trace_dir:
        reader.wrong("trace_dir", Code.REQUIRED, f"must be a folder when {PREFIX}trace_logging is {FILE}")
    reader.flag("compiled", True)  # loadgen/compiled/__init__.py reads it; here it is only checked
    interval_s = reader.number("telemetry_interval_s", 1.0, 0.0, 3600.0)
    if 0 < interval_s < MIN_TELEMETRY_INTERVAL_S:
        message = f"must be at least {MIN_TELEMETRY_INTERVAL_S:g} s, or 0 for no telemetry, got {interval_s:g}"
        reader.wrong("telemetry_interval_s", Code.RANGE, message)
    router_type = reader.choice("router_type", routers.HOST, routers.ROUTER_NAMES)
    static_host = reader.text("router_static_host", routers.DEFAULT_STATIC_HOST)
    try:
        routers.parse_static_host(static_host)
    except ValueError as error:
        has_user = "@" in static_host  # then the value is not shown
        message = "must be host[:port] or http[s]://host[:port][/path], without a user" if has_user else str(error)
        reader.wrong("router_static_host", Code.FORMAT, message)
    settings = WorkerSettings(
        name=name,
        labels=labels,
        redis=read_redis(reader),
        slots=reader.integer("slots", max(4, 2 * cores), 1, 1024),
        apps_dir=reader.folder("apps_dir"),
        spool_dir=Path(reader.text("spool_dir") or f"/dev/shm/galileo-{os.getuid()}-{name}"),
        spool_limit_bytes=reader.integer("spool_limit_mb", 256, 1, 1 << 20) << 20,
        logging_level=reader.choice("logging_level", "INFO", LOG_LEVELS),
        ingest_queues=reader.integer("ingest_queues", 1, 1, 256),
        trace_logging=trace_logging,
        trace_dir=Path(trace_dir).absolute(),
        trace_limit_bytes=reader.integer("trace_limit_mb", 1024, 32, 1 << 20) << 20,
        router=routers.router_of(router_type),
        static_host=static_host,
        telemetry_interval_s=interval_s,
        apps_cache_dir=Path(reader.text("apps_cache_dir") or f"/var/tmp/galileo-{os.getuid()}-apps").absolute(),
        apps_cache_limit_bytes=reader.integer("apps_cache_limit_mb", 256, 64, 1 << 20) << 20,
    )
    reader.raise_if_wrong()
    return settings
