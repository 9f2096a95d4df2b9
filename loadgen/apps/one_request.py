"""AppQuestion, AppAnswer: messages between the shell and a process that calls a client app (shard/app_request.py).

Both are files in a shared folder: the question exists when the process starts, the answer when it ends. An app of the
repository lies beside them, unpacked: its process gets no access to the broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

QUESTION, ANSWER, UNPACKED = "question", "answer", "app"
MAX_BODY_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class AppQuestion:
    """The app whose next request is wanted, and the request's target."""

    app: str
    parameters: dict[str, Any]
    apps_dir: str | None  # a folder of apps that come first
    base_url: str


@dataclass(frozen=True)
class AppRequest:
    """An app's request as prepared by `requests`; `body` has the contents of its files and generators."""

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
    """The request, or an error with the traceback's last lines."""

    request: AppRequest | None = None
    error: str = ""
