"""Zip archives for tests: good ones, and whatever a zip archive can hold."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile

MANIFEST = b"name: shop\nversion: '1.0'\n"
GENERATOR = b"def next_request():\n    return 'get', '/'\n"


def member(name: str, *, mode: int = stat.S_IFREG | 0o644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = method
    return info


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """An archive with just these members; the same ones give the same bytes, whatever the time is."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for each, content in members:
            archive.writestr(member(each) if isinstance(each, str) else each, content)
    return buffer.getvalue()


def app_archive(
    *more: tuple[str | zipfile.ZipInfo, bytes], manifest: bytes = MANIFEST, generator: bytes = GENERATOR
) -> bytes:
    """The archive of the app `shop`, with further members."""
    return zipped(("manifest.yml", manifest), ("generator.py", generator), *more)
