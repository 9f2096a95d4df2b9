"""One request of a client app, for the controller shell: `python -m loadgen.shard.app_request FOLDER`.

The app runs in a process of its own, because it is its user's code, which may fail, hang or end its process. It is
loaded and called as on a worker, for client 0.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack
from requests import PreparedRequest

from loadgen.apps.one_request import ANSWER, MAX_BODY_BYTES, QUESTION, UNPACKED, AppAnswer, AppQuestion, AppRequest
from loadgen.engine import AppError
from loadgen.engine.client_app import ClientApp, find_app
from loadgen.engine.http import prepared
from loadgen.engine.watchdog import Watchdog
from loadgen.protocol.codec import from_wire, to_wire


def main(folder: Path) -> None:
    question = from_wire(AppQuestion, msgpack.unpackb((folder / QUESTION).read_bytes()))
    try:
        answer = AppAnswer(_ask(question, folder / UNPACKED))
    except AppError as error:
        answer = AppAnswer(error=str(error).encode(errors="backslashreplace").decode())
    (folder / ANSWER).write_bytes(msgpack.packb(to_wire(answer)))


def _ask(question: AppQuestion, unpacked: Path) -> AppRequest:
    """Raises AppError."""
    apps_dir = None if question.apps_dir is None else Path(question.apps_dir)
    watchdog = Watchdog()
    fetched = unpacked if unpacked.is_dir() else None
    app = ClientApp(question.app, find_app(question.app, apps_dir, fetched), watchdog)
    parameters = app.parameters(question.parameters)
    watchdog.start()
    try:
        instance = app.instance(None if app.manifest.shared else 0, parameters, time.monotonic_ns())
        return instance.next_request(time.monotonic_ns(), _prepared, question.base_url)
    finally:
        watchdog.stop()


def _prepared(base_url: str, method: Any, endpoint: Any, kwargs: Any) -> AppRequest:
    """Raises AppError."""
    call = prepared.check(method, endpoint, kwargs)
    request = prepared.prepare(prepared.new_session(), base_url, call)
    assert request.method is not None and request.url is not None
    body = _body(request)
    headers = {_text(name): _text(value) for name, value in request.headers.items()}
    if body is not None and "Content-Length" in headers:
        headers["Content-Length"] = str(len(body))  # the bytes that were read count, not a file's size
    verify, cert = call.tls.verify, call.tls.cert
    jar: Any = getattr(request, "_cookies", None)
    return AppRequest(
        method=request.method,
        url=request.url,
        headers=headers,
        body=body,
        cookies={cookie.name: cookie.value or "" for cookie in jar or ()},
        connect_timeout_s=call.connect_timeout_s,
        read_timeout_s=call.timeout_s,
        follow=call.follow,
        verify=verify is not False,
        bundle=verify if isinstance(verify, str) else None,
        cert=[] if cert is None else [cert] if isinstance(cert, str) else list(cert),
    )


def _body(request: PreparedRequest) -> bytes | None:
    body: Any = request.body
    if body is None:
        return None
    parts: Iterable[Any] = [body] if isinstance(body, bytes | str) else body
    if hasattr(body, "read"):
        parts = iter(lambda: body.read(1 << 16), type(body.read(0))())
    data = bytearray()
    try:
        for part in parts:
            data += part.encode() if isinstance(part, str) else part
            if len(data) > MAX_BODY_BYTES:
                raise AppError(f"the body has more than {MAX_BODY_BYTES >> 20} MiB")
    except AppError:
        raise
    except Exception as error:
        raise AppError(f"the body cannot be read: {type(error).__name__}: {error}") from error
    return bytes(data)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
