"""The spool: sealed trace batches as files, from the shard that seals them to the acknowledgement of their ingest.

A file appears whole or not at all (a temporary name, then `os.replace`). It is not synced to a disk: the default is
tmpfs, and what survives a loss of power is not worth an edge device's flash.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loadgen.messages import batch_id

_BATCH_NAME = re.compile(r"(\d+)\.(\d+)\.(\d+)\.batch")
_TEMPORARY = ".tmp"
_SCAN_EVERY_NS = 1_000_000_000
_SCAN_SHARE = 200  # at most 1/200 of the time goes into scans


class SpoolError(Exception):
    """The spool's folder cannot be used; the message says why."""


@dataclass(frozen=True, order=True)
class BatchName:
    """Names a batch; sorted as sealed within a shard."""

    shard_id: int
    attempt: int
    number: int

    @property
    def id(self) -> str:
        return batch_id(self.shard_id, self.attempt, self.number)

    @property
    def file(self) -> str:
        return f"{self.id}.batch"

    @classmethod
    def parse(cls, file: str) -> BatchName | None:
        """The name in a file's name; None if the file is no sealed batch."""
        match = _BATCH_NAME.fullmatch(file)
        return cls(*map(int, match.groups())) if match else None


class Spool:
    """A worker's folder of sealed batches, bounded by `limit_bytes`. Several processes use one folder.

    Raises:
        SpoolError: from `open`, when the folder cannot be used.
    """

    def __init__(self, directory: Path, limit_bytes: int, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._monotonic_ns = monotonic_ns
        self._size_bytes = 0
        self._next_scan_ns = 0

    def open(self) -> None:
        """Creates the folder, for our user only."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.directory.stat().st_uid
        except OSError as error:
            raise SpoolError(f"galileo_spool_dir: {self.directory} cannot be used: {error.strerror}") from error
        if owner != os.getuid() or not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            raise SpoolError(f"galileo_spool_dir: {self.directory} must belong to, and be writable by, our user")

    def write(self, name: BatchName, data: bytes) -> None:
        """Adds a sealed batch. OSError passes through (a full or lost file system); then nothing has been added."""
        temporary = self.directory / f"{name.id}{_TEMPORARY}"
        try:
            temporary.write_bytes(data)
            temporary.replace(self.directory / name.file)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._size_bytes += len(data)

    def read(self, name: BatchName) -> bytes:
        """Raises FileNotFoundError for a batch that is not there any more."""
        return (self.directory / name.file).read_bytes()

    def remove(self, name: BatchName) -> None:
        """Removes a batch; it need not be there."""
        (self.directory / name.file).unlink(missing_ok=True)

    def set_aside(self, name: BatchName) -> Path:
        """Renames a file that is no batch, so that it is kept for a look but never forwarded; returns its new path."""
        path = self.directory / f"{name.id}.broken"
        (self.directory / name.file).rename(path)
        return path

    def scan(self) -> dict[BatchName, int]:
        """All sealed batches, in order of sealing within each shard, with their sizes in bytes."""
        return dict(sorted(self._entries()))

    def size_bytes(self) -> int:
        """Bytes of all sealed batches, about a second old (with what this object wrote since)."""
        started_ns = self._monotonic_ns()
        if started_ns >= self._next_scan_ns:
            self._size_bytes = sum(size for _, size in self._entries())
            now_ns = self._monotonic_ns()
            self._next_scan_ns = now_ns + max(_SCAN_EVERY_NS, (now_ns - started_ns) * _SCAN_SHARE)
        return self._size_bytes

    def is_full(self) -> bool:
        return self.size_bytes() >= self._limit_bytes

    def remove_temporary(self, older_than_s: float) -> None:
        """Removes what writers that were killed have left."""
        horizon = time.time() - older_than_s
        for path in self.directory.glob(f"*{_TEMPORARY}"):
            with contextlib.suppress(FileNotFoundError):  # its writer has renamed it just now
                if path.stat().st_mtime < horizon:
                    path.unlink()

    def _entries(self) -> Iterator[tuple[BatchName, int]]:
        with os.scandir(self.directory) as entries:
            for entry in entries:
                name = BatchName.parse(entry.name)
                if name is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # the agent has removed it just now
                    yield name, entry.stat().st_size
