"""SiteSettings: the controller's settings from `galileo_*` variables, validated once, with all errors at once."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from loadgen.protocol.settings import LOG_LEVELS, Reader, RedisSettings, read_redis
from routing.errors import Code

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DRIVERS = ("sqlite", "postgres", "mysql")
# The values of galileo_api_auth: a token, password or session is required under /api, or none is.
REQUIRED, NONE = "required", "none"
DEFAULT_PORTS = {"postgres": 5432, "mysql": 3306}
UNITS_S = {"s": 1, "min": 60, "hour": 3600}
_RATE = re.compile(rf"([1-9][0-9]{{0,8}})/({'|'.join(UNITS_S)})")
_WEB_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Rate:
    """The most requests, or attempts to log in, in a period."""

    requests: int
    period_s: int


@dataclass(frozen=True)
class SiteSettings:
    """The settings of the controller's processes."""

    secret_key: str = field(repr=False)
    debug: bool
    https: bool
    api_auth: str
    allowed_hosts: list[str]
    csrf_trusted_origins: list[str]
    database: dict[str, Any] = field(repr=False)
    redis: RedisSettings
    ingest_queues: int
    apps_repo_dir: Path
    logging_level: str
    apps_dir: Path | None
    api_rate: Rate | None
    login_rate: Rate | None
    web_prefix: str
    trusted_proxies: list[Network]


@contextmanager
def exit_if_wrong() -> Iterator[None]:
    """Wraps the first use of the settings in an entry point: prints the list of wrong variables and exits with 1."""
    try:
        yield
    except ImproperlyConfigured as error:
        sys.exit(str(error))


def read_site(environ: Mapping[str, str] | None = None) -> SiteSettings:
    """Reads the settings of web, control, ingest, beat and experimentd.

    Raises:
        InvalidInput: with every invalid variable.
    """
    reader = Reader(os.environ if environ is None else environ)
    debug = reader.flag("debug", False)
    secret_key = reader.text("secret_key")
    if not secret_key and debug:
        secret_key = secrets.token_urlsafe(50)
    elif not secret_key:
        reader.wrong(
            "secret_key", Code.REQUIRED, "must be a long random string (`make up` makes one), unless galileo_debug=true"
        )
    settings = SiteSettings(
        secret_key=secret_key,
        debug=debug,
        https=reader.flag("https", False),
        api_auth=reader.choice("api_auth", REQUIRED, (REQUIRED, NONE)),
        allowed_hosts=_listed(reader.text("allowed_hosts", "127.0.0.1,localhost")),
        csrf_trusted_origins=_listed(reader.text("csrf_trusted_origins")),
        database=_read_database(reader),
        redis=read_redis(reader),
        ingest_queues=reader.integer("ingest_queues", 1, 1, 256),
        apps_repo_dir=Path(reader.text("apps_repo_dir", str(PROJECT_ROOT / "var" / "apps"))).absolute(),
        logging_level=reader.choice("logging_level", "INFO", LOG_LEVELS),
        apps_dir=reader.folder("apps_dir"),
        api_rate=_read_rate(reader, "api_rate", "6000/min"),
        login_rate=_read_rate(reader, "login_rate", "20/min"),
        web_prefix=_read_web_prefix(reader),
        trusted_proxies=_read_trusted_proxies(reader),
    )
    if settings.database["ENGINE"].endswith("sqlite3") and settings.ingest_queues > 1:
        reader.wrong(
            "ingest_queues", Code.CONFLICT, "must be 1 with SQLite, which has one writer; use PostgreSQL for more"
        )
    if settings.api_auth == NONE and any(host.startswith(("*", ".")) for host in settings.allowed_hosts):
        # By DNS rebinding, any page with an accepted host name would have the controller's origin in a browser.
        message = "none needs galileo_allowed_hosts to name each host in full, without * and leading dots"
        reader.wrong("api_auth", Code.CONFLICT, message)
    reader.raise_if_wrong()
    return settings


def _read_rate(reader: Reader, name: str, default: str) -> Rate | None:
    """Returns the limit, or None for no limit."""
    text = reader.text(name, default)
    if text == NONE:
        return None
    found = _RATE.fullmatch(text)
    if found is None:
        message = f"must be a number per s, min or hour, such as {default}, or none, got {text!r}"
        reader.wrong(name, Code.FORMAT, message)
        return None
    return Rate(int(found[1]), UNITS_S[found[2]])


def _read_web_prefix(reader: Reader) -> str:
    """Returns the path below which a proxy serves the web server, without a trailing slash; "" for none."""
    text = reader.text("web_prefix").rstrip("/")
    if text and not _WEB_PREFIX.fullmatch(text):
        reader.wrong("web_prefix", Code.FORMAT, f"must be a path such as /galileo, got {text!r}")
    return text


def _read_trusted_proxies(reader: Reader) -> list[Network]:
    found: list[Network] = []
    for text in _listed(reader.text("trusted_proxies")):
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            message = f"must be addresses or networks like 127.0.0.1,10.0.0.0/8, separated by commas, got {text!r}"
            reader.wrong("trusted_proxies", Code.FORMAT, message)
    return found


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_database(reader: Reader) -> dict[str, Any]:
    driver = reader.choice("expdb_driver", "sqlite", DRIVERS)
    if driver == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": reader.text("expdb_sqlite_path", str(PROJECT_ROOT / "var" / "galileo.sqlite3")),
            # SQLite has one writer at a time. With the write lock from BEGIN on, writers wait; a read lock that is
            # upgraded later would fail.
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    database: dict[str, Any] = {
        "ENGINE": f"django.db.backends.{'postgresql' if driver == 'postgres' else 'mysql'}",
        "NAME": reader.text(f"expdb_{driver}_db", "galileo"),
        "USER": reader.text(f"expdb_{driver}_user", "galileo"),
        "PASSWORD": reader.text(f"expdb_{driver}_password"),
        "HOST": reader.text(f"expdb_{driver}_host", "127.0.0.1"),
        "PORT": reader.integer(f"expdb_{driver}_port", DEFAULT_PORTS[driver], 1, 65535),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
    if driver == "mysql":
        database["OPTIONS"] = {"charset": "utf8mb4", "isolation_level": "read committed"}
    return database
