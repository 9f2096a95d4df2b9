"""Downloads: files that the web server sends while it reads them, limited in number.

A client that reads slowly keeps a thread of the web server busy. Each process sends MAX_DOWNLOADS at a time, and has
twice as many threads (bin/run), so that lists, the admin and a cancel never wait for a download.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from django.http import FileResponse, HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request

from routing.errors import Unavailable

CSV = "text/csv"
MAX_DOWNLOADS = 8
# A client must take a piece within this, or is disconnected: one that has stalled would keep its thread for good.
STALL_S = 60.0
PIECE_CHARACTERS = 16 << 10

_free = threading.BoundedSemaphore(MAX_DOWNLOADS)


class TooManyDownloads(Unavailable):
    """This process sends MAX_DOWNLOADS already."""


class _Slot:
    """One of the downloads of this process, from its creation until `release`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_held = _free.acquire(blocking=False)
        if not self._is_held:
            raise TooManyDownloads(f"The web server sends {MAX_DOWNLOADS} downloads at a time; try again later.")

    def release(self) -> None:
        with self._lock:
            if self._is_held:
                self._is_held = False
                _free.release()

    def __del__(self) -> None:
        self.release()  # of a response that was never closed, because an error replaced it


def csv_download(
    request: Request, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> HttpResponseBase:
    """Returns a CSV file with a header row, sent while `rows` is read. Raises TooManyDownloads."""
    return _limited(
        request,
        lambda: StreamingHttpResponse(
            _pieces(columns, rows),
            content_type=f"{CSV}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
        ),
    )


def file_download(request: Request, file: Path, name: str, content_type: str) -> HttpResponseBase:
    """Returns the content of a file under another name. Raises TooManyDownloads, OSError."""
    return _limited(
        request, lambda: FileResponse(file.open("rb"), as_attachment=True, filename=name, content_type=content_type)
    )


def exact_seconds(time_ns: int | None) -> str:
    """Returns the time in seconds with all digits, which a float cannot hold; empty for None."""
    if time_ns is None:
        return ""
    seconds, ns = divmod(time_ns, 1_000_000_000)
    return f"{seconds}.{ns:09d}"


def _limited(request: Request, make: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """Returns the response, whose slot is free again when the web server has closed it."""
    slot = _Slot()
    try:
        response = make()
    except BaseException:
        slot.release()
        raise
    close = response.close

    def close_and_release() -> None:
        try:
            close()
        finally:
            slot.release()

    response.close = close_and_release  # type: ignore[method-assign]
    if connection := request.META.get("gunicorn.socket"):
        connection.settimeout(STALL_S)  # gunicorn sets it back before the connection's next request
    return response


def _pieces(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row)
        if text.tell() >= PIECE_CHARACTERS:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()
