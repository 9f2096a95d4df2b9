"""The service's own log of received requests: the ground truth that an experiment's report is compared with."""

from __future__ import annotations

import re
from pathlib import Path

_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_MAX_LENGTH = 200


class RequestLog:
    """One line per request, written when its head arrives: `<unix time> <request id or -> <method> <path>`.

    Line-buffered: a reader sees every request so far, and a killed service has lost none.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="ascii", buffering=1)

    def write(self, at_s: float, request_id: str, method: str, path: str) -> None:
        self._file.write(f"{at_s:.6f} {_field(request_id)} {_field(method)} {_field(path)}\n")

    def close(self) -> None:
        self._file.close()


def _field(text: str) -> str:
    """Returns the text as one word, so that a client cannot forge a line or a column."""
    return _NOT_PRINTABLE.sub("?", text[:_MAX_LENGTH]) or "-"
