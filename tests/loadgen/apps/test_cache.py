"""Apps reach a worker through Redis: verified, unpacked whole or not at all, and kept within a limit."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import redis

from loadgen.apps import cache as module
from loadgen.apps.archive import digest_of
from loadgen.apps.cache import AppCache, AppUnavailableError
from loadgen.device.redis_connections import async_client
from loadgen.protocol.keys import app_key
from loadgen.protocol.settings import RedisSettings
from tests.support.archives import GENERATOR, MANIFEST, app_archive
from tests.support.redis_server import RedisServer

LIMIT = 64 << 20


class Rig:
    """A cache in a folder, and the server that it fetches from."""

    def __init__(self, server: RedisServer, store: redis.Redis, folder: Path) -> None:
        self._settings = RedisSettings("127.0.0.1", server.port, server.password)
        self.store = store
        self.folder = folder

    def put(self, data: bytes, digest: str = "") -> str:
        digest = digest or digest_of(data)
        self.store.set(app_key(digest), data)
        return digest

    def fetch(self, cache: AppCache, *digests: str) -> list[Path]:
        """The folders of apps, asked for at once."""

        async def ask() -> list[Path]:
            client = async_client(self._settings)
            try:
                return await asyncio.gather(*(cache.folder(client, digest) for digest in digests))
            finally:
                await client.aclose()

        return asyncio.run(ask())

    def cache(self, limit: int = LIMIT) -> AppCache:
        return AppCache(self.folder, limit)

    def kept(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"fetch.lock"}


@pytest.fixture
def rig(redis_server: RedisServer, store: redis.Redis, tmp_path: Path) -> Rig:
    return Rig(redis_server, store, tmp_path / "apps")


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_app_is_fetched_in_pieces_verified_and_unpacked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 100)
    noise = os.urandom(5000)
    digest = rig.put(app_archive(("noise", noise)))
    (folder,) = rig.fetch(rig.cache(), digest)
    assert folder == rig.folder / digest
    assert content_of(folder) == {"manifest.yml": MANIFEST, "generator.py": GENERATOR, "noise": noise}
    assert rig.folder.stat().st_mode & 0o777 == 0o700


def test_an_app_that_is_there_is_not_fetched_again(rig: Rig) -> None:
    digest = rig.put(app_archive())
    rig.fetch(rig.cache(), digest)
    rig.store.flushall()
    (folder,) = rig.fetch(rig.cache(), digest)
    assert "generator.py" in content_of(folder)


def test_several_shards_fetch_an_app_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    genuine = AppCache._fetch

    def counted(cache: AppCache, client: Any, digest: str) -> Coroutine[Any, Any, bytes]:
        fetched.append(digest)
        return genuine(cache, client, digest)

    monkeypatch.setattr(AppCache, "_fetch", counted)
    digest = rig.put(app_archive())
    assert len(set(rig.fetch(rig.cache(), *[digest] * 5))) == 1
    assert fetched == [digest]


def test_an_archive_that_comes_late_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_PAUSE_S", 0.01)
    data = app_archive()
    reads = []
    genuine = AppCache._read

    async def read(cache: AppCache, client: Any, key: str) -> bytes:
        reads.append(key)
        if len(reads) == 2:
            raise redis.ConnectionError("away")
        if len(reads) == 3:
            rig.put(data)
        return await genuine(cache, client, key)

    monkeypatch.setattr(AppCache, "_read", read)
    (folder,) = rig.fetch(rig.cache(), digest_of(data))
    assert "generator.py" in content_of(folder)
    assert len(reads) == 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "Redis does not have its archive"), (b"another", "the archive in Redis does not match its digest")],
)
def test_a_missing_or_wrong_archive_is_refused_in_the_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str
) -> None:
    monkeypatch.setattr(module, "FETCH_TIMEOUT_S", 0.0)
    if data:
        rig.put(data, "ab" * 32)
    with pytest.raises(AppUnavailableError, match=f"{reason}.*{'ab' * 32}"):
        rig.fetch(rig.cache(), "ab" * 32)
    assert rig.kept() == set()


def test_an_invalid_archive_is_not_unpacked(rig: Rig) -> None:
    digest = rig.put(app_archive(("../evil", b"x")))
    with pytest.raises(AppUnavailableError, match="leads out of the app's folder"):
        rig.fetch(rig.cache(), digest)
    assert rig.kept() == set()
    assert not (rig.folder.parent / "evil").exists()


def test_what_a_killed_shard_left_is_removed(rig: Rig) -> None:
    digest = rig.put(app_archive())
    (rig.folder / f"{digest}.tmp").mkdir(parents=True, mode=0o700)
    (rig.folder / f"{digest}.tmp" / "generator.py").write_text("half of it")
    rig.folder.chmod(0o700)
    (folder,) = rig.fetch(rig.cache(), digest)
    assert content_of(folder)["generator.py"] == GENERATOR
    assert rig.kept() == {digest}


def test_the_least_recently_used_app_is_removed_at_the_limit(rig: Rig) -> None:
    one, two, three = (rig.put(app_archive(("data", os.urandom(10_000)))) for _ in range(3))
    for number, digest in enumerate((one, two)):
        cache = rig.cache(25_000)
        rig.fetch(cache, digest)
        cache.release()
        os.utime(rig.folder / digest, (number, number))
    cache = rig.cache(25_000)
    rig.fetch(cache, one)  # used again
    cache.release()
    rig.fetch(rig.cache(25_000), three)
    assert rig.kept() == {one, three}


def test_an_app_that_runs_stays(rig: Rig) -> None:
    one, two = (rig.put(app_archive(("data", os.urandom(10_000)))) for _ in range(2))
    running = rig.cache(15_000)
    rig.fetch(running, one)
    with pytest.raises(AppUnavailableError, match="raise galileo_apps_cache_limit_mb"):
        rig.fetch(rig.cache(15_000), two)
    assert rig.kept() == {one}
    running.release()
    rig.fetch(rig.cache(15_000), two)
    assert rig.kept() == {two}


def test_a_folder_that_others_may_write_to_is_not_used(rig: Rig) -> None:
    rig.folder.mkdir(mode=0o700)
    rig.folder.chmod(0o777)
    with pytest.raises(AppUnavailableError, match=r"galileo_apps_cache_dir: .* no other user may write to it"):
        rig.fetch(rig.cache(), rig.put(app_archive()))


def test_a_folder_that_cannot_be_made_is_named(rig: Rig) -> None:
    rig.folder.parent.joinpath("file").write_text("")
    cache = AppCache(rig.folder.parent / "file" / "apps", LIMIT)
    with pytest.raises(AppUnavailableError, match=r"galileo_apps_cache_dir: .*Not a directory"):
        rig.fetch(cache, rig.put(app_archive()))


def test_releasing_twice_does_no_harm(rig: Rig) -> None:
    cache = rig.cache()
    rig.fetch(cache, rig.put(app_archive()))
    cache.release()
    cache.release()
    assert time.time() - (rig.folder / next(iter(rig.kept()))).stat().st_mtime < 60
