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
from routing import routers
from routing.errors import Code, ErrorCollector

PREFIX = "galileo_"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
NAME_RULE = "at most 63 letters, digits, '.', '_' and '-', the first a letter or digit"
# Destinations of traces besides the database: none, files on the worker, a channel of Redis.
SQL, FILE, REDIS = "sql", "file", "redis"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MIN_TELEMETRY_INTERVAL_S = 0.1
ON = ("1", "true", "yes", "on")
SECRET_WORDS = ("pass", "pwd", "token", "secret", "key", "credential")
Number = TypeVar("Number", int, float)


class Reader:
    """Reads typed values from a mapping of environment variables and collects what is wrong with them.

    Each method returns the default for a missing, empty or wrong value; call `raise_if_wrong` after the last one.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._errors = ErrorCollector()

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
            self.wrong(name, Code.CHOICE, f"must be one of {', '.join(choices)}, got {raw!r}")
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
    """Address and password of the Redis-compatible server."""

    host: str
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{credentials}{host}:{self.port}/0"


def read_redis(reader: Reader) -> RedisSettings:
    """Reads the `galileo_redis_host`, `_port` and `_password` variables (127.0.0.1, 6379, none)."""
    return RedisSettings(
        host=reader.text("redis_host", "127.0.0.1"),
        port=reader.integer("redis_port", 6379, 1, 65535),
        password=reader.text("redis_password"),
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


# Galileo's own settings, which are not labels. `worker_name` and `router_type` are labels, too, because the controller
# requires a routing record only where a worker's router would read it.
OWN_SETTINGS = frozenset(
    "redis_host redis_port redis_password slots apps_dir apps_repo_dir apps_repository apps_cache_dir "
    "apps_cache_limit_mb api_url api_user api_auth api_rate spool_dir spool_limit_mb logging_level ingest_queues "
    "ingest_queue "
    "trace_logging trace_dir trace_limit_mb telemetry_interval_s router_static_host state_dir "
    "compiled web_host web_port web_prefix allowed_hosts debug https venv flower_host flower_port csrf_trusted_origins "
    "trusted_proxies login_rate".split()
)
OWN_PREFIXES = ("expdb_", "admin_")


def labels_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the labels of this device: each `galileo_*` variable that is neither a secret nor one of OWN_SETTINGS."""
    given = {name.removeprefix(PREFIX): value.strip() for name, value in environ.items() if name.startswith(PREFIX)}
    return {
        label: value
        for label, value in given.items()
        if value and label not in OWN_SETTINGS and not label.startswith(OWN_PREFIXES)
        if not any(word in label.lower() for word in SECRET_WORDS)
    }


def read_worker(environ: Mapping[str, str] | None = None) -> WorkerSettings:
    """Reads the settings of a worker and its agent.

    Raises:
        InvalidInput: with every invalid variable.
    """
    environ = os.environ if environ is None else environ
    reader = Reader(environ)
    name = reader.text("worker_name", platform.node() or "worker")
    labels = {**labels_of(environ), "worker_name": name}
    for label, value in labels.items():
        if not NAME_PATTERN.fullmatch(label) or not NAME_PATTERN.fullmatch(value):
            reader.wrong(label, Code.FORMAT, f"name and value of a label must be {NAME_RULE}, got {value!r}")
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
        reader.wrong("router_static_host", Code.FORMAT, str(error))
    settings = WorkerSettings(
        name=name,
        labels=labels,
        redis=read_redis(reader),
        slots=reader.integer("slots", max(4, 2 * (os.cpu_count() or 1)), 1, 1024),
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
