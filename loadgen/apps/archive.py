"""The zip archive of a client app: `manifest.yml` and `generator.py` at its top, and the app's other files.

An archive is not trusted. Sizes are counted while it is read, names outside the app's folder are refused, and only
plain files and folders are unpacked.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadgen.apps.errors import AppInvalid
from loadgen.apps.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, read_manifest
from routing.errors import Code, ErrorCollector, FieldError

MODULE: Final = "generator.py"
MAX_ARCHIVE_BYTES: Final = 50_000_000
MAX_UNPACKED_BYTES: Final = 50_000_000
MAX_MEMBERS: Final = 1000
_MAX_PATH: Final = 500  # in bytes, below the app's folder
_MAX_NAME: Final = 200
_MAX_DIRECTORY_BYTES: Final = 1 << 20  # of the list of members: zipfile reads it whole, and makes an object of each
_PIECE: Final = 64 << 10
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_MODE_SHIFT: Final = 16
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip archive
_NOT_PACKED: Final = ("__pycache__",)  # nor names that begin with a dot
# The exceptions of zipfile for archives that are damaged or forged.
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    OSError,
    OverflowError,
    RuntimeError,  # NotImplementedError, too
    ValueError,
)
_NO_SYMLINKS: Final = "is a symbolic link; only regular files are accepted"
_NOT_A_FILE: Final = "is not a regular file"


@dataclass(frozen=True)
class CheckedArchive:
    """An archive that has been read to its end."""

    digest: str
    manifest: Manifest
    unpacked_bytes: int


def digest_of(data: bytes) -> str:
    """Returns an archive's name: its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check(data: bytes) -> CheckedArchive:
    """Reads an archive whole without unpacking it.

    Raises:
        AppInvalid: with every error that was found.
    """
    with _opened(data) as archive:
        members = _members(archive)
        _require(members)
        unpacked = sum(_copy(archive, members, lambda _: _Discarded()))
        manifest = read_manifest(_read(archive, members[MANIFEST]))
    return CheckedArchive(digest_of(data), manifest, unpacked)


def unpack(data: bytes, folder: Path) -> Iterator[None]:
    """Unpacks an archive into an empty folder; yields after each member, whose file is on the disk then.

    Raises:
        AppInvalid: as `check` does; some files may have been written.
        OSError: from the file system.
    """
    with _opened(data) as archive:
        members = _members(archive)
        _require(members)
        for _ in _copy(archive, members, lambda path: _create(folder / path)):
            yield


def pack(folder: Path) -> bytes:
    """Returns the archive of an app's folder, without hidden files and `__pycache__`; equal files give equal bytes.

    Raises:
        AppInvalid: when the folder is not a client app.
        OSError: when a file cannot be read.
    """
    buffer = io.BytesIO()
    total = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files_of(folder):
            total += path.stat().st_size
            if total > MAX_UNPACKED_BYTES:
                raise _too_large()
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << _MODE_SHIFT
            archive.writestr(info, path.read_bytes())
    packed = buffer.getvalue()
    check(packed)
    return packed


def _files_of(folder: Path) -> list[Path]:
    found = []
    for parent, folders, all_names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        names = [name for name in all_names if not _is_left_out(name)]
        for name in folders + names:
            path = Path(parent) / name
            if path.is_symlink():
                raise _refused(str(path.relative_to(folder)), Code.TYPE, _NO_SYMLINKS)
            if not path.is_dir() and not path.is_file():
                raise _refused(str(path.relative_to(folder)), Code.TYPE, _NOT_A_FILE)
        found += [Path(parent) / name for name in names]
    return sorted(found)


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name in _NOT_PACKED


class _Discarded(io.BufferedIOBase):
    """Discards the bytes that are written to it."""

    def write(self, data: Any) -> int:
        return len(data)


class _Bounded(io.BytesIO):
    """An archive's bytes; refuses to return a directory of unlimited length."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise _refused("archive", Code.RANGE, f"must have at most {MAX_MEMBERS} members")
        return super().read(size)


@contextmanager
def _opened(data: bytes) -> Iterator[zipfile.ZipFile]:
    if len(data) > MAX_ARCHIVE_BYTES:
        message = f"must have at most {MAX_ARCHIVE_BYTES:,} bytes, got {len(data):,}"
        raise _refused("archive", Code.RANGE, message)
    if not data:
        raise _refused("archive", Code.REQUIRED, "is empty; send the bytes of a zip archive")
    try:
        archive = zipfile.ZipFile(_Bounded(data))
    except AppInvalid:
        raise
    except _DAMAGED as error:
        raise _refused("archive", Code.UNREADABLE, f"is not a zip archive, or is damaged: {error}") from error
    with archive:
        yield archive


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the archive's files by their path; folders are checked and left out.

    Raises:
        AppInvalid: with an error for each refused member.
    """
    listed = archive.infolist()
    if len(listed) > MAX_MEMBERS:
        raise _refused("archive", Code.RANGE, f"must have at most {MAX_MEMBERS} members, got {len(listed)}")
    files: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    errors = ErrorCollector()
    for info in listed:
        if reason := _reason_against(info):
            errors.add(repr(info.orig_filename[:_MAX_NAME]), *reason)
            continue
        path = info.filename.rstrip("/")
        if path in files or (path in folders and info.is_dir()):
            errors.add(path, Code.DUPLICATE, "is in the archive twice")
        elif info.is_dir():
            folders.add(path)
        else:
            files[path] = info
    parents = [str(parent) for path in files for parent in Path(path).parents if str(parent) in files]
    for path in [*parents, *sorted(folders & files.keys())]:
        errors.add(path, Code.CONFLICT, "is both a file and a folder")
    errors.raise_if_any(AppInvalid)
    return files


def _reason_against(info: zipfile.ZipInfo) -> tuple[Code, str] | None:
    """Returns why a member is refused, regardless of its content; None if it is accepted."""
    name = info.orig_filename  # `filename` ends before a NUL, or comes from an extra field
    parts = name.removesuffix("/").split("/")
    if name != info.filename:
        return Code.CONFLICT, "has two names"
    if not name.isprintable() or "\\" in name or ":" in name:
        return Code.FORMAT, "a name must not contain control characters, backslashes or colons"
    if name.startswith("/"):
        return Code.FORMAT, "is an absolute path; paths must be relative to the app's folder"
    if ".." in parts:
        return Code.FORMAT, "is a path that leads out of the app's folder"
    if "" in parts or "." in parts:
        return Code.FORMAT, "is a path with an empty part or a `.`"
    if len(name.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts):
        return Code.RANGE, f"a name must have at most {_MAX_NAME} bytes, and a path at most {_MAX_PATH}"
    kind = stat.S_IFMT(info.external_attr >> _MODE_SHIFT)
    if kind == stat.S_IFLNK:
        return Code.TYPE, _NO_SYMLINKS
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return Code.TYPE, _NOT_A_FILE
    if info.flag_bits & _ENCRYPTED:
        return Code.FORMAT, "is encrypted"
    if info.compress_type not in _METHODS:
        return Code.FORMAT, "is compressed by another method than deflate"
    return None


def _require(members: dict[str, zipfile.ZipInfo]) -> None:
    missing = [name for name in (MANIFEST, MODULE) if name not in members]
    if not missing:
        return
    tops = {path.partition("/")[0] for path in members}
    hint = ""
    if len(tops) == 1 and f"{next(iter(tops))}/{MANIFEST}" in members:
        hint = f"; pack the contents of the folder {next(iter(tops))}, not the folder itself"
    message = f"is missing at the top of the archive{hint}"
    raise AppInvalid([FieldError(name, Code.REQUIRED, message) for name in missing])


def _copy(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], target: Callable[[str], io.BufferedIOBase]
) -> Iterator[int]:
    """Reads all members, each into its target; yields the bytes of each."""
    total = 0
    for path, info in members.items():
        size = 0
        with target(path) as file:
            for piece in _pieces(archive, info):
                size += len(piece)
                if total + size > MAX_UNPACKED_BYTES:
                    raise _too_large()
                file.write(piece)
            if isinstance(file, io.BufferedWriter):
                file.flush()
                os.fsync(file.fileno())
        total += size
        yield size


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as source:
            while piece := source.read(_PIECE):
                yield piece
    except AppInvalid:
        raise
    except _DAMAGED as error:
        raise _refused(info.filename, Code.UNREADABLE, f"cannot be unpacked: {error}") from error


def _create(path: Path) -> io.BufferedWriter:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("xb")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    content = b""
    for piece in _pieces(archive, info):
        content += piece
        if len(content) > MAX_MANIFEST_BYTES:
            break  # read_manifest refuses it
    return content


def _too_large() -> AppInvalid:
    return _refused("archive", Code.RANGE, f"must unpack to at most {MAX_UNPACKED_BYTES:,} bytes")


def _refused(path: str, code: Code, message: str) -> AppInvalid:
    return AppInvalid([FieldError(path, code, message)])
