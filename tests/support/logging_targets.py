"""Targets that log request ids as servers of the field do, on real sockets.

What each makes of an id is a function of its own, for tests of logs alone.
"""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.support.raw_targets import RawTarget, Seen, ok_to


def rails_id(received: str) -> str:
    """ActionDispatch::RequestId: letters, digits, `_`, `-` and `@` of at most 255 characters."""
    return re.sub(r"[^\w@-]", "", received, flags=re.ASCII)[:255] or str(uuid.uuid4())


def phoenix_id(received: str) -> str:
    """Plug.RequestId: an id of 20 to 200 bytes is kept."""
    return received if 20 <= len(received) <= 200 else uuid.uuid4().hex[:20]


def heroku_id(received: str) -> str:
    """Heroku's router: an id of 20 to 200 letters, digits, `+`, `/`, `=` and `-` is kept."""
    return received if re.fullmatch(r"[0-9A-Za-z+/=-]{20,200}", received) else str(uuid.uuid4())


def envoy_id(_received: str) -> str:
    """Envoy and Istio, for a request from outside: an id of their own, with the reason not to trace it."""
    return preserving_envoy_id(str(uuid.uuid4()))


def preserving_envoy_id(received: str) -> str:
    """Envoy with preserve_external_request_id: the id, but the 15th character of 36 is the reason not to trace it."""
    return f"{received[:14]}9{received[15:]}" if len(received) == 36 else received


class LoggingTarget(RawTarget):
    """Answers with 200, and logs each request.

    Args:
        log: the file that it makes.
        id_of: what it makes of the received id.
        lines: what it logs of a request; `{id}` stands for the id, `{method}` for the method.
    """

    def __init__(self, log: Path, id_of: Callable[[str], str], *lines: str) -> None:
        super().__init__()
        self._log = log
        self._id_of = id_of
        self._lines = lines
        log.touch()

    def serve(self, connection: socket.socket, number: int) -> None:
        while seen := self.read(connection, number):
            self._write(seen)
            connection.sendall(ok_to(seen))

    def _write(self, seen: Seen) -> None:
        logged = self._id_of(seen.request_id)
        text = "".join(f"{line.format(id=logged, method=seen.method)}\n" for line in self._lines)
        with self._log.open("a") as file:
            file.write(text)


def rails_like(log: Path) -> LoggingTarget:
    """Ruby on Rails with `log_tags: [:request_id]`: two lines of each request."""
    return LoggingTarget(log, rails_id, '[{id}] Started {method} "/"', "[{id}] Completed 200 OK in 1ms")


def envoy_like(log: Path) -> LoggingTarget:
    """Envoy's default access log of requests from outside."""
    return LoggingTarget(log, envoy_id, '"{method} / HTTP/1.1" 200 - 0 2 1 0 "-" "-" "{id}" "shop"')


def preserving_envoy_like(log: Path) -> LoggingTarget:
    """The same with preserve_external_request_id."""
    return LoggingTarget(log, preserving_envoy_id, '"{method} / HTTP/1.1" 200 - 0 2 1 0 "-" "-" "{id}" "shop"')


def phoenix_like(log: Path) -> LoggingTarget:
    """Phoenix, whose logger has `metadata: [:request_id]`: two lines of each request."""
    return LoggingTarget(log, phoenix_id, "request_id={id} [info] {method} /", "request_id={id} [info] Sent 200 in 1ms")


def heroku_like(log: Path) -> LoggingTarget:
    """Heroku's router."""
    return LoggingTarget(log, heroku_id, 'at=info method={method} path="/" request_id={id} status=200 bytes=2')
