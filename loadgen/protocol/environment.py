"""Settings from `galileo_*` environment variables, validated once, with all errors at once."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadgen.compiled import OFF
from loadgen.protocol.keys import label_queue
from routing import routers

PREFIX = "galileo_"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# Where traces go besides the database: nowhere, to files on the worker, to a channel of Redis.
SQL, FILE, REDIS = "sql", "file", "redis"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MIN_TELEMETRY_INTERVAL_S = 0.1
SECRET_WORDS = ("pass", "pwd", "token", "secret", "key", "credential")


class SettingsError(Exception):
    """One or more environment variables are wrong; `errors` holds a sentence for each."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        super().__init__("invalid settings:\n" + "\n".join(f"  {error}" for error in errors))


class Reader:
    """Reads typed values from a mapping of environment variables and collects what is wrong with them.

    Each method returns the default for a missing, empty or wrong value; call `raise_if_wrong` after the last one.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.errors: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self._environ.get(PREFIX + name, "").strip() or default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        raw = self.text(name)
        if not raw:
            return default
        try:
            value = int(raw)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            self.errors.append(f"{PREFIX}{name}: a whole number from {low} to {high} is needed, not {raw!r}")
            return default
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        raw = self.text(name)
        if not raw:
            return default
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            self.errors.append(f"{PREFIX}{name}: a number from {low:g} to {high:g} is needed, not {raw!r}")
            return default
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        raw = self.text(name, default)
        if raw not in choices:
            self.errors.append(f"{PREFIX}{name}: one of {', '.join(choices)} is needed, not {raw!r}")
            return default
        return raw

    def flag(self, name: str, default: bool) -> bool:
        raw = self.text(name)
        if not raw:
            return default
        if raw.lower() in ("1", "true", "yes", "on"):
            return True
        if raw.lower() not in OFF:
            self.errors.append(f"{PREFIX}{name}: true or false is needed, not {raw!r}")
            return default
        return False

    def wrong(self, name: str, sentence: str) -> None:
        self.errors.append(f"{PREFIX}{name}: {sentence}")

    def raise_if_wrong(self) -> None:
        if self.errors:
            raise SettingsError(self.errors)


@dataclass(frozen=True)
class RedisSettings:
    """Where the Redis-compatible server is."""

    host: str
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        from urllib.parse import quote

        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{credentials}{host}:{self.port}/0"


def read_redis(reader: Reader) -> RedisSettings:
    """The `galileo_redis_host`, `_port` and `_password` variables (127.0.0.1, 6379, none)."""
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
    trace_dir: Path  # used with FILE alone
    trace_limit_bytes: int
    apps_cache_dir: Path
    apps_cache_limit_bytes: int
    telemetry_interval_s: float  # 0: the agent publishes none
    router: str = routers.HOST  # of workloads that name none
    static_host: str = routers.DEFAULT_STATIC_HOST  # of the static router, for workloads that name none

    @property
    def queues(self) -> list[str]:
        """The queues that it takes orders from, one for each label; its name is one of them."""
        return [label_queue(label, value) for label, value in sorted(self.labels.items())]


# Galileo's own settings: variables with these names are no labels. (`worker_name` and `router_type` are some by design:
# the controller asks for a routing record only where a worker's router would read it.)
OWN_SETTINGS = frozenset(
    "redis_host redis_port redis_password slots apps_dir apps_repo_dir apps_repository apps_cache_dir "
    "apps_cache_limit_mb api_url api_user api_auth api_rate spool_dir spool_limit_mb logging_level ingest_queues "
    "ingest_queue "
    "trace_logging trace_dir trace_limit_mb telemetry_interval_s router_static_host state_dir "
    "compiled web_host web_port allowed_hosts debug https venv flower_host flower_port csrf_trusted_origins".split()
)
OWN_PREFIXES = ("expdb_", "admin_")


def labels_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Labels of this device: each `galileo_*` variable that is neither a secret nor one of our own settings."""
    labels = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or not value.strip():
            continue
        label = variable[len(PREFIX) :]
        if label in OWN_SETTINGS or label.startswith(OWN_PREFIXES):
            continue
        if any(word in label.lower() for word in SECRET_WORDS):
            continue
        labels[label] = value.strip()
    return labels


def _telemetry_interval_s(reader: Reader) -> float:
    interval_s = reader.number("telemetry_interval_s", 1.0, 0.0, 3600.0)
    if 0 < interval_s < MIN_TELEMETRY_INTERVAL_S:
        least = f"{MIN_TELEMETRY_INTERVAL_S:g} s"
        reader.wrong("telemetry_interval_s", f"at least {least} are needed, or 0 for no telemetry, not {interval_s:g}")
    return interval_s


def read_worker(environ: Mapping[str, str] | None = None) -> WorkerSettings:
    """Settings of a worker and its agent.

    Raises:
        SettingsError: with a sentence for every wrong variable.
    """
    environ = os.environ if environ is None else environ
    reader = Reader(environ)
    name = reader.text("worker_name", platform.node() or "worker")
    if not NAME_PATTERN.fullmatch(name):
        reader.wrong("worker_name", f"letters, digits, '.', '_' and '-' (at most 63) are needed, not {name!r}")
    labels = labels_of(environ)
    for label, value in labels.items():
        if not NAME_PATTERN.fullmatch(label) or not NAME_PATTERN.fullmatch(value):
            reader.wrong(
                label,
                "a label's name and value take letters, digits, '.', '_' and '-', at most 63 of them",
            )
    apps_dir = reader.text("apps_dir")
    if apps_dir and not Path(apps_dir).is_dir():
        reader.wrong("apps_dir", f"the folder {apps_dir!r} does not exist")
    trace_logging = reader.choice("trace_logging", SQL, (SQL, FILE, REDIS))
    trace_dir = reader.text("trace_dir")
    if trace_logging == FILE and not trace_dir:
        reader.wrong("trace_dir", f"a folder is needed for {PREFIX}trace_logging={FILE}")
    reader.flag("compiled", True)  # obeyed already: loadgen/compiled/__init__.py
    router_type = reader.choice("router_type", routers.HOST, routers.ROUTER_NAMES)
    static_host = reader.text("router_static_host", routers.DEFAULT_STATIC_HOST)
    try:
        routers.parse_static_host(static_host)
    except ValueError as error:
        reader.wrong("router_static_host", str(error))
    settings = WorkerSettings(
        name=name,
        labels={**labels, "worker_name": name},
        redis=read_redis(reader),
        slots=reader.integer("slots", max(4, 2 * (os.cpu_count() or 1)), 1, 1024),
        apps_dir=Path(apps_dir).resolve() if apps_dir else None,
        spool_dir=Path(reader.text("spool_dir") or f"/dev/shm/galileo-{os.getuid()}-{name}"),
        spool_limit_bytes=reader.integer("spool_limit_mb", 256, 1, 1 << 20) << 20,
        logging_level=reader.choice("logging_level", "INFO", LOG_LEVELS),
        ingest_queues=reader.integer("ingest_queues", 1, 1, 256),
        trace_logging=trace_logging,
        trace_dir=Path(trace_dir).absolute(),
        trace_limit_bytes=reader.integer("trace_limit_mb", 1024, 32, 1 << 20) << 20,
        router=routers.router_of(router_type),
        static_host=static_host,
        telemetry_interval_s=_telemetry_interval_s(reader),
        apps_cache_dir=Path(reader.text("apps_cache_dir") or f"/var/tmp/galileo-{os.getuid()}-apps").absolute(),
        apps_cache_limit_bytes=reader.integer("apps_cache_limit_mb", 256, 64, 1 << 20) << 20,
    )
    reader.raise_if_wrong()
    return settings
