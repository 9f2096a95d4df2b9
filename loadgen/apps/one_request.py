"""Messages between the shell and the process that calls a client app for one request (shard/app_request.py).

Both are files of a folder that the two share: the question is there when the process starts, the answer when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from loadgen.protocol.environment import RedisSettings

QUESTION, ANSWER, CACHE = "question", "answer", "cache"
MAX_BODY_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class AppQuestion:
    """Whose next request is wanted, and where it is to go."""

    app: str
    digest: str | None  # of its archive in the repository
    parameters: dict[str, Any]
    apps_dir: str | None  # a folder of apps that come first
    base_url: str
    redis: RedisSettings


@dataclass(frozen=True)
class AppRequest:
    """A request as `requests` prepared it of what the app said; `body` is what its files and generators held."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    cookies: dict[str, str]
    connect_timeout_s: float | None  # None: the workload's
    read_timeout_s: float | None
    follow: bool
    verify: bool
    bundle: str | None  # of certificates
    cert: list[str]  # of the client: a file, or a certificate's and a key's


@dataclass(frozen=True)
class AppAnswer:
    """The request, or a sentence with the traceback's last lines in its place."""

    request: AppRequest | None = None
    error: str = ""
