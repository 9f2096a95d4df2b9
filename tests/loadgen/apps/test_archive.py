"""An archive comes from somebody else: what is not an app's, or could do harm, is refused with the reason."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.apps import archive
from loadgen.apps.archive import MAX_MEMBERS, MAX_UNPACKED_BYTES, check, digest_of, pack, unpack
from loadgen.apps.errors import AppInvalid
from tests.support.archives import GENERATOR, MANIFEST, app_archive, member, zipped
from tests.support.examples import examples


def refusal(data: bytes) -> str:
    with pytest.raises(AppInvalid) as caught:
        check(data)
    return str(caught.value)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_is_checked_and_named_by_its_digest() -> None:
    data = app_archive(("data/", b""), ("data/a.bin", b"a" * 1000))
    checked = check(data)
    assert (checked.digest, checked.manifest.name) == (hashlib.sha256(data).hexdigest(), "shop")
    assert checked.unpacked_bytes == len(MANIFEST) + len(GENERATOR) + 1000


def test_an_archive_is_unpacked_member_after_member(tmp_path: Path) -> None:
    steps = list(unpack(app_archive(("data/", b""), ("data/a.bin", b"a")), tmp_path))
    assert len(steps) == 3
    assert files_of(tmp_path) == {"manifest.yml": MANIFEST, "generator.py": GENERATOR, "data/a.bin": b"a"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.py", "leads out of the app's folder"),
        ("data/../../evil.py", "leads out of the app's folder"),
        ("/etc/evil", "an absolute path"),
        ("C:/evil", "must not contain control characters, backslashes or colons"),
        ("..\\evil", "must not contain control characters, backslashes or colons"),
        ("a\nb", "must not contain control characters"),
        ("a//b", "an empty part"),
        ("./a", "an empty part or a `.`"),
        ("d" * 201, "at most 200 bytes"),
        ("/".join(["directory"] * 60), "a path at most 500"),
    ],
)
def test_a_name_outside_the_apps_folder_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    data = app_archive((name, b"x"))
    assert reason in refusal(data)
    with pytest.raises(AppInvalid):
        list(unpack(data, tmp_path))
    assert files_of(tmp_path) == {}


def test_a_name_with_a_nul_is_refused() -> None:
    data = app_archive(("evil.py/x", b"x")).replace(b"evil.py/x", b"evil.py\0x")
    assert "has two names" in refusal(data)


def test_a_second_name_in_an_extra_field_leads_nowhere(tmp_path: Path) -> None:
    # Some versions of zipfile take the name from there: a member that is called `a` would be written elsewhere.
    other = b"../evil"
    info = member("a")
    info.extra = struct.pack("<HHBL", 0x7075, 5 + len(other), 1, zlib.crc32(b"a")) + other
    try:
        list(unpack(app_archive((info, b"x")), tmp_path / "app"))
    except AppInvalid as invalid:
        assert "has two names" in str(invalid)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (stat.S_IFLNK | 0o777, "a symbolic link"),
        (stat.S_IFIFO, "is not a regular file"),
        (stat.S_IFCHR, "is not a regular file"),
    ],
)
def test_what_is_no_plain_file_is_refused(mode: int, reason: str) -> None:
    assert reason in refusal(app_archive((member("link", mode=mode), b"/etc/passwd")))


def test_a_member_that_is_there_twice_is_refused() -> None:
    assert "generator.py: is in the archive twice" in refusal(app_archive(("generator.py", b"other")))


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/", "a")])
def test_a_file_that_is_a_folder_too_is_refused(names: tuple[str, str]) -> None:
    assert "a: is both a file and a folder" in refusal(
        app_archive(*((name, b"x" if name[-1] != "/" else b"") for name in names))
    )


def test_every_wrong_member_is_named() -> None:
    said = refusal(app_archive(("../a", b""), ("/b", b"")))
    assert "'../a'" in said
    assert "'/b'" in said


@pytest.mark.parametrize(("left_out", "file"), [(0, "manifest.yml"), (1, "generator.py")])
def test_what_every_app_needs_must_be_there(left_out: int, file: str) -> None:
    members = [("manifest.yml", MANIFEST), ("generator.py", GENERATOR)]
    del members[left_out]
    assert f"{file}: is missing at the top of the archive" in refusal(zipped(*members))


def test_an_archive_of_the_folder_itself_gets_a_hint() -> None:
    said = refusal(zipped(("shop/manifest.yml", MANIFEST), ("shop/generator.py", GENERATOR)))
    assert "pack the contents of the folder shop, not the folder itself" in said


def test_an_invalid_manifest_is_refused() -> None:
    assert "manifest.yml: name: is missing" in refusal(app_archive(manifest=b"version: 1"))
    assert "manifest.yml: the file has" in refusal(app_archive(manifest=b"#" * 100_000))


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all", b"PK\x05\x06" + b"\0" * 10])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    assert refusal(data).startswith("archive: is ")


def bomb(size: int = MAX_UNPACKED_BYTES) -> bytes:
    return app_archive(("zeros", bytes(size)))


@pytest.mark.slow
def test_a_bomb_is_refused() -> None:
    data = bomb()
    assert len(data) < 100_000
    assert "must unpack to at most 50,000,000 bytes" in refusal(data)


@pytest.mark.slow
def test_a_bomb_that_lies_about_its_size_is_refused() -> None:
    # Its headers claim ten bytes: what is counted is what comes.
    data = bomb().replace(struct.pack("<I", MAX_UNPACKED_BYTES), struct.pack("<I", 10))
    assert "zeros: cannot be unpacked" in refusal(data) or "must unpack to at most" in refusal(data)


def test_overlapping_members_are_counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 100_000)
    assert "must unpack to at most" in refusal(app_archive(*((f"part{n}", bytes(20_000)) for n in range(6))))


def test_an_archive_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", 1000)
    assert "must have at most 1,000 bytes, got 1,001" in refusal(b"x" * 1001)


def test_too_many_members_are_refused() -> None:
    data = app_archive(*((f"f{number}", b"") for number in range(MAX_MEMBERS)))
    assert f"at most {MAX_MEMBERS} members, got {MAX_MEMBERS + 2}" in refusal(data)


@pytest.mark.slow
def test_a_list_of_members_of_any_length_is_not_even_read() -> None:
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as made:
            for number in range(21_000):
                made.writestr(f"{number:06}", b"")
        assert "must have at most" in refusal(buffer.getvalue())


def test_another_compression_is_refused() -> None:
    assert "another method than deflate" in refusal(app_archive((member("a", method=zipfile.ZIP_LZMA), b"a" * 100)))


def test_encrypted_members_are_refused() -> None:
    data = bytearray(app_archive())
    entry = data.find(b"PK\x01\x02")
    data[entry + 8] |= 1
    assert "is encrypted" in refusal(bytes(data))


def test_a_damaged_member_is_refused() -> None:
    data = bytearray(app_archive((member("a", method=zipfile.ZIP_STORED), b"right")))
    at = data.find(b"right")
    data[at : at + 5] = b"wrong"
    assert "a: cannot be unpacked: Bad CRC-32" in refusal(bytes(data))


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mutated_archive_is_valid_or_refused(data: st.DataObject) -> None:
    content = bytearray(app_archive(("data/a.bin", b"abc" * 50)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    try:
        check(bytes(content))
    except AppInvalid as invalid:
        assert invalid.errors


# --- Packing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "data").mkdir(parents=True)
    (folder / "manifest.yml").write_bytes(MANIFEST)
    (folder / "generator.py").write_bytes(GENERATOR)
    (folder / "data" / "a.bin").write_bytes(b"a")
    return folder


def test_the_same_files_give_the_same_archive(app: Path, tmp_path: Path) -> None:
    first = pack(app)
    os.utime(app / "generator.py", (1, 1))
    (app / "manifest.yml").chmod(0o600)
    assert digest_of(pack(app)) == digest_of(first)
    list(unpack(first, tmp_path / "unpacked"))
    assert files_of(tmp_path / "unpacked") == files_of(app)


def test_hidden_files_and_caches_stay_behind(app: Path, tmp_path: Path) -> None:
    before = pack(app)
    for name in (".git/config", "__pycache__/generator.pyc", "data/.DS_Store"):
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).write_bytes(b"x")
    assert pack(app) == before


def test_a_folder_that_is_no_apps_is_refused(app: Path) -> None:
    (app / "generator.py").unlink()
    with pytest.raises(AppInvalid, match=r"generator.py: is missing"):
        pack(app)


@pytest.mark.parametrize("target", ["generator.py", "data", "nowhere"])
def test_a_symbolic_link_is_not_packed(app: Path, target: str) -> None:
    (app / "data" / "link").symlink_to(app / target)
    with pytest.raises(AppInvalid, match=r"data/link: is a symbolic link"):
        pack(app)


def test_a_pipe_is_not_packed(app: Path) -> None:
    os.mkfifo(app / "pipe")
    with pytest.raises(AppInvalid, match="pipe: is not a regular file"):
        pack(app)
