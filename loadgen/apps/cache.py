"""AppCache: a worker's client apps from the repository, fetched as archives from Redis, verified and unpacked."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from loadgen.apps import archive
from loadgen.apps.errors import AppInvalid
from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.keys import app_key

logger = logging.getLogger(__name__)

FETCH_TIMEOUT_S: Final = 20.0
_RETRY_PAUSE_S: Final = 0.5
_LOCK_PAUSE_S: Final = 0.05
_PIECE_BYTES: Final = 256 << 10  # small enough to come within a socket's time-out over a slow line
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TEMPORARY: Final = ".tmp"
_LOCK: Final = "fetch.lock"


class AppUnavailableError(Exception):
    """An app cannot be fetched from the repository; the message is the reason."""


class AppCache:
    """A folder of unpacked apps, named by the digests of their archives; several shards and workers may use one.

    One shard at a time fetches. A shard that runs an app holds a lock on the app's folder, so that it is not removed.
    Above the limit, the least recently used apps are removed.

    Args:
        limit_bytes: of all unpacked apps; exceeded while another one is unpacked.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._held: list[int] = []

    async def folder(self, client: redis.asyncio.Redis, digest: str) -> Path:
        """Returns the folder of an app, which is fetched if it is missing, and kept until `release`.

        Raises:
            AppUnavailableError: it is not in Redis, does not match its digest, or cannot be stored.
        """
        try:
            self._open()
            if self._hold(digest):
                return self._path(digest)
            async with self._fetching():
                if not self._hold(digest):  # another shard may have been faster
                    self._remove_left_over()
                    await self._unpack(digest, await self._fetch(client, digest))
                    if not self._hold(digest):
                        raise AppUnavailableError(f"{self._path(digest)} was removed by another process")
        except AppInvalid as error:
            raise AppUnavailableError(str(error)) from error
        except OSError as error:
            raise AppUnavailableError(f"galileo_apps_cache_dir: {self._directory}: {error.strerror}") from error
        return self._path(digest)

    def release(self) -> None:
        """Allows all folders to be removed."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()

    def _path(self, digest: str) -> Path:
        return self._directory / digest

    def _open(self) -> None:
        """Creates the folder with access for this user alone, as its contents are executed."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._directory.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise AppUnavailableError(
                f"galileo_apps_cache_dir: {self._directory} must belong to this user, and no other user may write to it"
            )

    def _hold(self, digest: str) -> bool:
        """Returns whether the app is there; if so, it is kept until `release`."""
        path = self._path(digest)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        # OSError: another process is removing the folder and holds the lock, or has just moved it.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                os.utime(descriptor)
                self._held.append(descriptor)
                return True
        os.close(descriptor)
        return False

    @asynccontextmanager
    async def _fetching(self) -> AsyncIterator[None]:
        """Waits for a lock, so that the shards of one app do not all have its archive in memory."""
        with (self._directory / _LOCK).open("w") as lock:
            while True:
                raise_if_cancelled()
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_LOCK_PAUSE_S)
            yield

    async def _fetch(self, client: redis.asyncio.Redis, digest: str) -> bytes:
        """Returns the archive; waits FETCH_TIMEOUT_S for Redis and for the archive."""
        ends_s = time.monotonic() + FETCH_TIMEOUT_S
        while True:
            raise_if_cancelled()
            try:
                data = await self._read(client, app_key(digest))
            except RedisError as error:
                reason = f"Redis does not answer: {error}"
            else:
                if archive.digest_of(data) == digest:
                    return data
                reason = "the archive in Redis does not match its digest" if data else "Redis does not have its archive"
            if time.monotonic() >= ends_s:
                raise AppUnavailableError(f"{reason}, for {FETCH_TIMEOUT_S:.0f} s (SHA-256 {digest})")
            logger.info("client app %s cannot be fetched yet: %s", digest, reason)
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _read(self, client: redis.asyncio.Redis, key: str) -> bytes:
        # redis-py types a result as a value or an awaitable, whichever client it is (redis/redis-py#2399).
        commands: Any = client
        size = min(await commands.strlen(key), archive.MAX_ARCHIVE_BYTES)
        data = bytearray()
        for start in range(0, size, _PIECE_BYTES):
            data += await commands.getrange(key, start, min(start + _PIECE_BYTES, size) - 1)
        return bytes(data)

    async def _unpack(self, digest: str, data: bytes) -> None:
        """Unpacks into a temporary folder, which is renamed when it is complete and on the disk."""
        temporary = self._directory / f"{digest}{_TEMPORARY}"
        temporary.mkdir(mode=0o700)
        try:
            for _ in archive.unpack(data, temporary):
                await asyncio.sleep(0)  # the shard's lease is renewed meanwhile
            self._make_room(_size(temporary))
            temporary.rename(self._path(digest))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _make_room(self, size: int) -> None:
        """Removes apps that no shard runs, the longest unused first, until there is room for one of this size.

        Raises:
            AppUnavailableError: the running apps take up too much room.
        """
        kept = sorted(self._apps(), key=lambda path: path.stat().st_mtime_ns)
        sizes = {path: _size(path) for path in kept}
        total = sum(sizes.values())
        for path in kept:
            if total + size <= self._limit_bytes:
                return
            if self._remove(path):
                total -= sizes[path]
        if total + size > self._limit_bytes:
            raise AppUnavailableError(
                f"{self._directory} is full of apps that are running; raise galileo_apps_cache_limit_mb"
            )

    def _remove(self, path: Path) -> bool:
        """Removes an app unless a shard runs it; returns whether it was removed."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            shutil.rmtree(path.rename(path.with_name(path.name + _TEMPORARY)))
            return True
        finally:
            os.close(descriptor)

    def _apps(self) -> Iterator[Path]:
        return (path for path in self._directory.iterdir() if _DIGEST.fullmatch(path.name))

    def _remove_left_over(self) -> None:
        """Removes the files of a shard that was killed while it fetched; no other shard fetches now."""
        for path in self._directory.glob(f"*{_TEMPORARY}"):
            shutil.rmtree(path)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
