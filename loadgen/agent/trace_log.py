"""TraceLog: a worker's own copy of its traces, in files or on a channel (`galileo_trace_logging` file or redis).

The agent writes each batch to the log once, when it first reads it, and then marks the batch's file. If it dies between
the two, the lines of that batch may appear twice.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from loadgen.agent.forwarder import BrokerAwayError, TraceLog
from loadgen.protocol.messages import BatchHeader
from loadgen.protocol.settings import FILE, REDIS, WorkerSettings
from loadgen.protocol.trace_batch import NO_HOST, NO_TIME, layout_of
from loadgen.protocol.trace_line import TraceLine, trace_line
from routing.errors import Code, InvalidInput

logger = logging.getLogger(__name__)

CHANNEL = "galileo/results/traces"
FILES = 8  # the one that is written to, and older ones


def lines_of(header: BatchHeader, records: bytes) -> Iterator[TraceLine]:
    """Yields the traces of a batch (loadgen/protocol/trace_batch.py)."""
    layout = layout_of(header)
    for values in layout.record.iter_unpack(records):
        row = dict(zip(layout.columns, values, strict=True))
        place = row["host"]
        created = header.epoch_broker_ns + row["intended_ns"]
        dispatched = _later(created, row["lateness_ns"])
        sent = _later(dispatched, row["connection_wait_ns"])
        yield trace_line(
            header.group_id,
            row["client"],
            row["sequence"],
            header.request_id_header,
            header.ids_version,
            row["outcome"],
            service=header.service,
            created=created,
            sent=sent,
            done=_later(sent, row["service_time_ns"]),
            status=row["status"] or None,
            server="" if place == NO_HOST else header.hosts[place],
            exp_id=header.experiment_id or "",
            dispatched=dispatched,
            size=row["size"],
            routing_version=row["routing_version"],
            reason=row.get("reason", 0),
            resent=row.get("resent", 0),
            address="" if place == NO_HOST or not header.addresses else header.addresses[place],
        )


def _later(time_ns: int | None, duration_ns: int) -> int | None:
    return None if time_ns is None or duration_ns == NO_TIME else time_ns + duration_ns


def _seconds(time_ns: int | None) -> str:
    """Returns seconds since the epoch with nine decimals, for which a float is too inexact."""
    return "" if time_ns is None else f"{time_ns // 1_000_000_000}.{time_ns % 1_000_000_000:09d}"


class CsvTraceLog:
    """`traces-<worker>.csv` in a folder: a line of names, then one for each row; older files end in `.1.csv`, ….

    All files together have at most `limit_bytes`; the oldest file is removed. Lines that the file system refuses are
    missing, and the agent logs the first such error.

    Raises:
        InvalidInput: from `open`.
    """

    def __init__(self, directory: Path, worker: str, limit_bytes: int) -> None:
        self._directory = directory
        self._worker = worker
        self._limit_bytes = limit_bytes // FILES
        self._failing = False

    def open(self) -> None:
        """Creates the folder; the first line creates the file."""
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self._directory} cannot be used: {error.strerror}"
            raise InvalidInput.of("galileo_trace_dir", Code.MISSING, message) from error
        if not os.access(self._directory, os.R_OK | os.W_OK | os.X_OK):
            message = f"{self._directory} must be writable by the worker's user"
            raise InvalidInput.of("galileo_trace_dir", Code.MISSING, message)

    def path(self, age: int = 0) -> Path:
        """Returns the current file, or the one that was current `age` files ago."""
        return self._directory / f"traces-{self._worker}{f'.{age}' if age else ''}.csv"

    def write(self, header: BatchHeader, records: bytes) -> None:
        if not records:
            return
        text = _csv(header, records)
        try:
            self._append(text)
        except OSError as error:
            if not self._failing:
                logger.error("traces are not written to %s: %s", self.path(), error.strerror)
            self._failing = True
            return
        self._failing = False

    def _append(self, text: bytes) -> None:
        path = self.path()
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size + len(text) > self._limit_bytes:
                self._rotate()
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            if not size:
                text = _NAMES + text
            written = file.write(text)
            if written != len(text):  # a full file system stores a part
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self) -> None:
        for age in range(FILES - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self.path(age - 1).replace(self.path(age))


def _csv(header: BatchHeader, records: bytes) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in lines_of(header, records):
        times = map(_seconds, line[3:6])
        writer.writerow((*line[:3], *times, *line[6:9], _seconds(line.dispatched), *line[10:]))
    return text.getvalue().encode()


_NAMES = (",".join(TraceLine._fields) + "\n").encode()


class RedisTraceLog:
    """Publishes each request that was sent, in the original's line format, on the channel `galileo/results/traces`.

    Raises:
        BrokerAwayError: some of the lines may have been published; the next try publishes them again.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client  # redis-py types results as awaitable, too (redis/redis-py#2399)

    def write(self, header: BatchHeader, records: bytes) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for line in lines_of(header, records):
            if line.sent is not None:
                pipeline.publish(CHANNEL, original_line(line))
        try:
            pipeline.execute()
        except (RedisError, OSError) as error:
            raise BrokerAwayError(str(error)) from error


def original_line(line: TraceLine) -> str:
    """Returns request id, client, service, created, sent, done, status, server, experiment, response, without quotes.

    A missing time or status is -1; the text of the response, which is not stored, is None.
    """
    times = ",".join("-1" if time_ns is None else _seconds(time_ns)[:-2] for time_ns in line[3:6])
    status = -1 if line.status is None else line.status
    service = line.service.replace(",", ";")
    return f"{line.request_id},{line.client},{service},{times},{status},{line.server},{line.exp_id or None},None"


def open_trace_log(settings: WorkerSettings, client: redis.Redis) -> TraceLog | None:
    """Returns the log of the settings, or None for `sql`, because all traces go to the database anyway.

    It does not check the folder: batches must be forwarded even when it cannot be used any more.
    """
    if settings.trace_logging == REDIS:
        return RedisTraceLog(client)
    return csv_trace_log(settings) if settings.trace_logging == FILE else None


def csv_trace_log(settings: WorkerSettings) -> CsvTraceLog:
    return CsvTraceLog(settings.trace_dir, settings.name, settings.trace_limit_bytes)
