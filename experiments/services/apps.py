"""The repository of client apps: upload, deletion, and the transfer of apps to the workers through Redis.

A version is a row, and a file named by its digest in `galileo_apps_repo_dir`. The file is written before the row; a
file that no row and no experiment needs is removed later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from experiments import selectors
from experiments.models import ClientApp, ClientAppVersion, Workload
from experiments.plans import PlanInvalid
from loadgen.apps import archive
from loadgen.apps.archive import CheckedArchive
from loadgen.apps.errors import AppInvalid
from loadgen.apps.manifest import MANIFEST, declared_parameters
from loadgen.apps.parameters import filled
from loadgen.protocol.keys import APP_TTL_S, app_key
from loadgen.protocol.messages import WorkloadSpec
from routing.errors import Code, Unavailable
from routing.redis import redis_client

log = logging.getLogger(__name__)

UPLOAD_ATTEMPTS = 3
# How long an unreferenced archive stays, because an upload may be about to insert its row.
UNNEEDED_S = 3600
_ARCHIVE = ".zip"


class AppMissing(Unavailable):
    """The repository no longer has the archive of an app that a workload needs."""


def archive_file(digest: str) -> Path:
    """The path of an archive."""
    return Path(settings.GALILEO_APPS_REPO_DIR) / f"{digest}{_ARCHIVE}"


def upload(data: bytes, creator: str) -> ClientAppVersion:
    """Adds an archive as the newest version of the app that its manifest names, unless it is the newest already.

    Raises:
        AppInvalid: with every error of the archive; nothing was stored.
        OSError: the repository's folder is not writable.
    """
    checked = archive.check(data)
    _check_name(checked.manifest.name)
    _store(checked.digest, data)
    for attempt in range(1, UPLOAD_ATTEMPTS + 1):
        try:
            with transaction.atomic():
                version = _add(checked, len(data), creator)
            break
        except IntegrityError:  # another upload has inserted the app's row
            if attempt == UPLOAD_ATTEMPTS:
                raise
    _remove_unneeded()
    return version


def _check_name(name: str) -> None:
    """Refuses a name that differs from another app's only in case: the keys of some databases are case-insensitive."""
    other = ClientApp.objects.filter(name__iexact=name).first()
    if other is not None and other.name != name:
        message = f"there is an app {other.name}, and names must differ in more than their case"
        raise AppInvalid.of(f"{MANIFEST}: name", Code.CONFLICT, message)


def _add(checked: CheckedArchive, archive_bytes: int, creator: str) -> ClientAppVersion:
    name, now = checked.manifest.name, timezone.now()
    app = ClientApp.objects.select_for_update().filter(name=name).first()
    if app is None:
        app = ClientApp.objects.create(name=name, created_at=now)
    newest = app.versions.order_by("-number").first()
    if newest is not None and newest.digest == checked.digest:
        return newest
    version = ClientAppVersion.objects.create(
        app=app,
        number=1 if newest is None else newest.number + 1,
        digest=checked.digest,
        manifest=checked.manifest.content,
        archive_bytes=archive_bytes,
        unpacked_bytes=checked.unpacked_bytes,
        creator=creator,
        created_at=now,
    )
    log.info("client app %s, version %d (%s), uploaded by %s", name, version.number, version.digest, creator)
    return version


def delete(name: str) -> bool:
    """Removes an app with all its versions; returns whether it existed.

    Existing experiments keep the version that they were created with.
    """
    app = selectors.client_app(name)
    if app is None:
        return False
    app.delete()
    log.info("client app %s deleted", name)
    _remove_unneeded()
    return True


def resolved(specs: Iterable[WorkloadSpec], place: str = "configuration.workloads[{index}].") -> list[WorkloadSpec]:
    """The specs, each with the digest of its client app's newest version, which the experiment keeps.

    A spec stays without a digest when the repository does not have its app; then the workers must have it.

    Args:
        place: the prefix of paths in errors, with `{index}` for the number of the spec.

    Raises:
        PlanInvalid: a spec's parameters do not match its app's manifest.
    """
    found, errors = [], []
    for index, spec in enumerate(specs):
        version = selectors.newest_version(spec.client_app) if spec.client_app is not None else None
        if version is None:
            found.append(spec)
            continue
        field = f"{place.format(index=index)}client_parameters"
        # A worker's local app takes precedence; then the worker checks the parameters against that app's manifest.
        is_local = selectors.has_local_app(version.app.name)
        if not is_local:
            errors += filled(declared_parameters(version.manifest), spec.client_parameters, field)[1]
        found.append(dataclasses.replace(spec, client_app_digest=version.digest))
    if errors:
        raise PlanInvalid(errors)
    return found


def provide(workloads: Iterable[Workload]) -> None:
    """Puts the archives that the workers will request into Redis, or renews their time to live.

    Raises:
        AppMissing: an archive's file does not exist.
        redis.RedisError
    """
    specs = [workload.spec for workload in workloads if workload.spec.get("client_app_digest")]
    client = redis_client()
    for digest, name in sorted({spec["client_app_digest"]: spec["client_app"] for spec in specs}.items()):
        try:
            # A value of another length was damaged, or set by another program.
            size = archive_file(digest).stat().st_size
            if client.strlen(app_key(digest)) == size and client.expire(app_key(digest), APP_TTL_S):
                continue
        except OSError as error:
            raise _missing(digest, name, error) from error
        client.set(app_key(digest), read_archive(digest, name), ex=APP_TTL_S)


def read_archive(digest: str, name: str) -> bytes:
    """The archive of a version of the app `name`. Raises AppMissing."""
    try:
        return archive_file(digest).read_bytes()
    except OSError as error:
        raise _missing(digest, name, error) from error


def _missing(digest: str, name: str, error: OSError) -> AppMissing:
    return AppMissing(
        f"client app {name}: its archive {digest}{_ARCHIVE} cannot be read from galileo_apps_repo_dir: {error.strerror}"
    )


def _store(digest: str, data: bytes) -> None:
    """Writes an archive's file atomically."""
    file = archive_file(digest)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(suffix=".tmp", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        Path(temporary).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _remove_unneeded() -> None:
    """Removes archives that no version and no unfinished workload needs, and temporary files of killed uploads."""
    folder = Path(settings.GALILEO_APPS_REPO_DIR)
    needed = {spec.get("client_app_digest") for spec in Workload.objects.not_ended().values_list("spec", flat=True)}
    needed |= set(ClientAppVersion.objects.values_list("digest", flat=True))
    for file in folder.glob("*"):
        if file.suffix in (_ARCHIVE, ".tmp") and file.stem not in needed:
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - UNNEEDED_S:
                    file.unlink()
