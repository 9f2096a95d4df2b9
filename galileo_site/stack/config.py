"""StackConfig: the stack's settings, read from `galileo_*` variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from galileo_site.environment import NONE, PROJECT_ROOT, REQUIRED
from loadgen.protocol.settings import LOG_LEVELS, Reader

HOST = "127.0.0.1"
SERVICE_NAME = "squeezenet"
SERVICE_WEIGHTS = (1, 2, 3)
WORKER_ZONES = {"worker-a": "A", "worker-b": "B"}


class StackError(Exception):
    """A command failed; the message is one sentence for the user, and log lines may follow it."""


@dataclass(frozen=True)
class StackConfig:
    """`redis_port` 0 means any free port."""

    state_dir: Path
    web_port: int
    redis_port: int
    admin_user: str
    logging_level: str
    api_auth: str

    @property
    def web_url(self) -> str:
        return f"http://{HOST}:{self.web_port}/"


def read_config(environ: Mapping[str, str] | None = None) -> StackConfig:
    """Returns the settings of `environ`. Raises InvalidInput with every invalid variable."""
    reader = Reader(os.environ if environ is None else environ)
    config = StackConfig(
        state_dir=(PROJECT_ROOT / (reader.text("state_dir") or "var")).resolve(),
        web_port=reader.integer("web_port", 5001, 1, 65535),
        redis_port=reader.integer("redis_port", 0, 0, 65535),
        admin_user=reader.text("admin_user", "admin"),
        logging_level=reader.choice("logging_level", "INFO", LOG_LEVELS),
        api_auth=reader.choice("api_auth", REQUIRED, (REQUIRED, NONE)),
    )
    reader.raise_if_wrong()
    return config
