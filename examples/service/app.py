"""The ASGI application: `POST /predictions/<model>`, `GET /`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from examples.service.classifier import Classifier, NotAnImage
from examples.service.request_log import RequestLog
from examples.service.station import Full, ServiceTimes, Station

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answer = tuple[int, dict[str, Any]]

MAX_BODY_BYTES = 1 << 20
ID_HEADERS = (b"x-request-id", b"traceparent")
_PREDICTION = re.compile(r"/predictions/([A-Za-z0-9_.-]{1,64})")


class Disconnected(Exception):
    """The client disconnected before its request was complete."""


class Service:
    """One instance of the service; all model names share one classifier."""

    def __init__(
        self, name: str, classifier: Classifier, station: Station, service_times: ServiceTimes, log: RequestLog
    ) -> None:
        self.name = name
        self.received = 0
        self._classifier = classifier
        self._station = station
        self._service_times = service_times
        self._log = log

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is served, not {scope['type']}")
        request_id = next((value for name, value in scope["headers"] if name in ID_HEADERS), b"")
        path = scope["raw_path"].decode("latin-1")
        self._log.write(time.time(), request_id.decode("latin-1"), scope["method"], path)
        self.received += 1
        try:
            status, content = await self._answer(scope["method"], path, scope["headers"], receive)
        except Disconnected:
            return
        body = json.dumps(content).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 413:
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, method: str, path: str, headers: list[tuple[bytes, bytes]], receive: Receive) -> Answer:
        if path == "/":
            return (200, self.state()) if method in ("GET", "HEAD") else (405, _error(f"{method} is not served here"))
        match = _PREDICTION.fullmatch(path)
        if match is None:
            return 404, _error("not found: POST an image to /predictions/<model>")
        if method != "POST":
            return 405, _error(f"{method} is not served here: POST an image")
        try:
            data = await _read_body(headers, receive)
        except OverflowError as error:
            return 413, _error(str(error))
        try:
            async with self._station:
                return await self._predict(match[1], data)
        except Full as error:
            return 503, _error(str(error))

    async def _predict(self, model: str, data: bytes) -> Answer:
        """Returns the response after the drawn service time, which includes the time of the real work."""
        started_s = time.monotonic()
        try:
            chances = self._classifier.predict(data)
        except NotAnImage as error:
            return 400, _error(str(error))
        await asyncio.sleep(max(0.0, self._service_times.next_s() - (time.monotonic() - started_s)))
        return 200, {"model": model, "prediction": next(iter(chances)), "probabilities": chances}

    def state(self) -> dict[str, Any]:
        station = self._station
        return {
            "name": self.name,
            "classes": list(self._classifier.classes),
            "concurrency": station.concurrency,
            "received": self.received,
            "busy": station.busy,
            "waiting": station.waiting,
            "longest_queue": station.longest_queue,
            "served": station.served,
            "refused": station.refused,
        }


async def _read_body(headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    too_large = OverflowError(f"the body is larger than {MAX_BODY_BYTES} bytes")
    if int(declared) > MAX_BODY_BYTES:  # the HTTP parser has checked that it is a number
        raise too_large
    chunks = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunks += message.get("body", b"")
        if len(chunks) > MAX_BODY_BYTES:
            raise too_large
        if not message.get("more_body", False):
            return bytes(chunks)


def _error(reason: str) -> dict[str, Any]:
    return {"error": reason}
