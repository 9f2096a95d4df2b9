"""The spool: sealed trace batches as files, from the shard that seals them to the acknowledgement of their ingest.

A file appears whole or not at all (a temporary name, then `os.replace`). It is not synced to a disk: the default is
tmpfs, and batches that survive a loss of power are not worth the wear of an edge device's flash.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from loadgen.protocol.messages import GROUP_ID_PATTERN, batch_id
from routing.errors import Code, InvalidInput

BROKEN, REFUSED = ".broken", ".refused"  # batches set aside: an incomplete file; one that ingest refuses
MAX_SET_ASIDE = 16  # at most 12 MiB, with captures

_SEALED = ".batch"
_TEMPORARY = ".tmp"
_NUMBER = "(0|[1-9][0-9]{0,18})"  # one spelling only, so that each name has one file
_BATCH_ID = re.compile(rf"({GROUP_ID_PATTERN})\.{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
_SCAN_EVERY_NS = 1_000_000_000
_SCAN_SHARE = 200  # at most 1/200 of the time is spent on scans


class BatchName(NamedTuple):
    """The name of a batch; names of a shard sort in the order of sealing. A tuple, because thousands are sorted."""

    group_id: str
    shard_id: int
    attempt: int
    number: int

    @property
    def id(self) -> str:
        return batch_id(*self)

    @property
    def file(self) -> str:
        return f"{self.id}{_SEALED}"

    @property
    def shard(self) -> tuple[str, int]:
        """Identifies the shard, also among those of other databases."""
        return self.group_id, self.shard_id

    @classmethod
    def parse(cls, batch: str) -> BatchName | None:
        """Returns the name in a batch's id, or None for any other text."""
        match = _BATCH_ID.fullmatch(batch)
        if match is None:
            return None
        group_id, shard_id, attempt, number = match.groups()
        return cls(group_id, int(shard_id), int(attempt), int(number))


class Spool:
    """A worker's folder of sealed batches, bounded by `limit_bytes`. Several processes share the folder.

    Raises:
        InvalidInput: from `open`, when the folder cannot be used.
    """

    def __init__(self, directory: Path, limit_bytes: int, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._monotonic_ns = monotonic_ns
        self._size_bytes = 0
        self._next_scan_ns = 0
        self._marked: set[BatchName] = set()  # on a file system without access rights

    def open(self) -> None:
        """Creates the folder, accessible only to this user."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.directory.stat().st_uid
        except OSError as error:
            raise _unusable(f"{self.directory} cannot be used: {error.strerror}") from error
        if owner != os.getuid() or not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            raise _unusable(f"{self.directory} must belong to, and be writable by, the worker's user")

    def write(self, name: BatchName, *parts: bytes | memoryview) -> None:
        """Adds a sealed batch. OSError passes through (a full or lost file system); nothing has been added then."""
        temporary = self.directory / f"{name.id}{_TEMPORARY}"
        try:
            with temporary.open("wb") as file:
                file.writelines(parts)
            temporary.replace(self.directory / name.file)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._size_bytes += sum(map(len, parts))

    def read(self, name: BatchName) -> bytes:
        """Returns the batch's bytes. Raises FileNotFoundError for a missing batch."""
        return (self.directory / name.file).read_bytes()

    def remove(self, name: BatchName) -> None:
        """Removes a batch, if it exists."""
        (self.directory / name.file).unlink(missing_ok=True)
        self._marked.discard(name)

    def mark(self, name: BatchName) -> None:
        """Marks a batch as logged, by making its file read-only. Raises FileNotFoundError for a missing batch.

        On a file system without access rights, the mark lasts as long as this object.
        """
        try:
            (self.directory / name.file).chmod(stat.S_IRUSR)
        except PermissionError:
            self._marked.add(name)

    def is_marked(self, name: BatchName) -> bool:
        """Returns whether the batch is marked. Raises FileNotFoundError for a missing batch."""
        return name in self._marked or not (self.directory / name.file).stat().st_mode & stat.S_IWUSR

    def set_aside(self, name: BatchName, why: str) -> Path | None:
        """Renames a batch's file to end in `why` (BROKEN or REFUSED): it is kept for inspection, but not forwarded.

        Only the newest MAX_SET_ASIDE such files are kept. Returns the file's new path, or None for a missing batch.
        """
        path = self.directory / f"{name.id}{why}"
        try:
            (self.directory / name.file).rename(path)
        except FileNotFoundError:
            return None
        now_ns = time.time_ns()
        os.utime(path, ns=(now_ns, now_ns))  # its age counts from now; otherwise the oldest batch would go at once
        self._remove_old_set_aside()
        return path

    def scan(self) -> dict[BatchName, int]:
        """Returns all sealed batches, in the order of sealing within each shard, with their sizes in bytes."""
        return dict(sorted(self._entries()))

    def size_bytes(self) -> int:
        """Returns the bytes of all sealed batches, as counted up to a second ago, plus those written here since."""
        started_ns = self._monotonic_ns()
        if started_ns >= self._next_scan_ns:
            self._size_bytes = sum(size for _, size in self._entries())
            now_ns = self._monotonic_ns()
            self._next_scan_ns = now_ns + max(_SCAN_EVERY_NS, (now_ns - started_ns) * _SCAN_SHARE)
        return self._size_bytes

    def is_full(self) -> bool:
        return self.size_bytes() >= self._limit_bytes

    def remove_begun(self, group_id: str, shard_id: int, attempt: int) -> None:
        """Removes the incomplete files of an attempt of a shard that was killed."""
        for path in self.directory.glob(f"{group_id}.{shard_id}.{attempt}.*{_TEMPORARY}"):
            path.unlink(missing_ok=True)

    def remove_temporary(self, older_than_s: float) -> None:
        """Removes the incomplete files of writers that were killed."""
        horizon = time.time() - older_than_s
        for path in self.directory.glob(f"*{_TEMPORARY}"):
            with contextlib.suppress(FileNotFoundError):  # its writer has just renamed it
                if path.stat().st_mtime < horizon:
                    path.unlink()

    def _remove_old_set_aside(self) -> None:
        kept = []
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.endswith((BROKEN, REFUSED)):
                    with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                        kept.append((entry.stat().st_mtime_ns, entry.name))
        for _, name in sorted(kept)[:-MAX_SET_ASIDE]:
            (self.directory / name).unlink(missing_ok=True)

    def _entries(self) -> Iterator[tuple[BatchName, int]]:
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if not entry.name.endswith(_SEALED):
                    continue
                name = BatchName.parse(entry.name.removesuffix(_SEALED))
                if name is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # the agent has just removed it
                    yield name, entry.stat().st_size


def _unusable(message: str) -> InvalidInput:
    return InvalidInput.of("galileo_spool_dir", Code.MISSING, message)
