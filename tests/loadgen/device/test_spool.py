"""The spool: files that appear whole, sorted by number, bounded."""

import os
from pathlib import Path

import pytest

from loadgen.device.spool import BROKEN, MAX_SET_ASIDE, REFUSED, BatchName, Spool
from routing.errors import InvalidInput


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", 100)
    spool.open()
    return spool


def test_batches_are_sorted_by_number_and_not_by_text(spool: Spool) -> None:
    for number in (10, 9, 100, 0):
        spool.write(BatchName("g", 1, 1, number), b"x")
    spool.write(BatchName("g", 1, 2, 0), b"x")

    assert [(name.attempt, name.number) for name in spool.scan()] == [(1, 0), (1, 9), (1, 10), (1, 100), (2, 0)]


def test_a_batch_is_read_as_it_was_written_and_gone_once_removed(spool: Spool) -> None:
    name = BatchName("202611220101-abcd.0", 3, 1, 7)
    spool.write(name, b"rows")

    assert (spool.directory / "202611220101-abcd.0.3.1.7.batch").read_bytes() == spool.read(name) == b"rows"
    assert spool.scan() == {name: 4}
    spool.remove(name)
    spool.remove(name)
    assert spool.scan() == {}


def test_a_shard_of_another_database_has_other_batches(spool: Spool) -> None:
    old, new = BatchName("202611220101-old1.0", 1, 1, 0), BatchName("202611220102-new1.0", 1, 1, 0)
    spool.write(old, b"old")
    spool.write(new, b"new")

    spool.remove(new)

    assert spool.read(old) == b"old"
    assert list(spool.scan()) == [old]


@pytest.mark.parametrize("group_id", ["g", "202611220101-abcd.0", "3.4.5", "a..b", "a-.", "1"])
def test_a_name_is_parsed_from_an_id_with_dots_in_its_group(group_id: str) -> None:
    name = BatchName(group_id, 12, 3, 0)

    assert BatchName.parse(name.id) == name


@pytest.mark.parametrize(
    "text",
    ["", "1.1.0", "g.1.1", "../g.1.1.0", "g/../h.1.1.0", ".1.1.1.0", "-g.1.1.0", "g.1.1.-1", "g.1.1.01", "g.1.1.0\n",
     "g.1.1.٣", "g\0.1.1.0", "g.1.1." + "9" * 20, "g" * 65 + ".1.1.0"],
)  # fmt: skip
def test_what_is_no_safe_name_of_a_batch_is_none(text: str) -> None:
    assert BatchName.parse(text) is None


def test_a_batch_that_is_set_aside_is_kept_and_does_not_count(spool: Spool) -> None:
    spool.write(BatchName("g", 1, 1, 0), b"rows")

    assert spool.set_aside(BatchName("g", 1, 1, 0), REFUSED) == spool.directory / "g.1.1.0.refused"
    assert spool.set_aside(BatchName("g", 1, 1, 0), REFUSED) is None, "it is not there any more"

    assert spool.scan() == {}
    assert (spool.directory / "g.1.1.0.refused").read_bytes() == b"rows"


def test_of_what_is_set_aside_the_oldest_goes(spool: Spool) -> None:
    numbers = range(MAX_SET_ASIDE + 3)
    for number in reversed(numbers):  # the age of the batches does not matter
        name = BatchName("g", 1, 1, number)
        spool.write(name, b"rows")
        spool.set_aside(name, BROKEN if number % 2 else REFUSED)
    spool.write(BatchName("g", 1, 2, 0), b"rows")

    kept = {int(path.suffixes[-2][1:]) for path in spool.directory.glob("g.1.1.*")}
    assert kept == set(numbers[:MAX_SET_ASIDE])
    assert list(spool.scan()) == [BatchName("g", 1, 2, 0)]


def test_only_sealed_batches_count(spool: Spool) -> None:
    for file in (
        "g.1.1.0.tmp",
        "g.1.1.0.refused",
        "1.1.running",
        "agent.lock",
        "x.1.2.batch",
        "1.1.0.batch",
        "g.1.1.00.batch",
        "g.1.1.٣.batch",
        ".g.1.1.0.batch",
        "g h.1.1.0.batch",
    ):
        (spool.directory / file).write_bytes(b"y" * 50)

    assert spool.scan() == {}
    assert spool.size_bytes() == 0


def test_a_full_spool_is_seen_by_each_of_its_writers(tmp_path: Path) -> None:
    clock = Clock()
    one, other = Spool(tmp_path, 100, clock), Spool(tmp_path, 100, clock)
    assert not one.is_full()
    assert not other.is_full()

    one.write(BatchName("g", 1, 1, 0), b"z" * 100)

    assert one.is_full()  # at once, of its own
    assert not other.is_full()
    clock.now_ns += 1_000_000_000
    assert other.is_full()
    other.remove(BatchName("g", 1, 1, 0))
    clock.now_ns += 1_000_000_000
    assert not one.is_full()


def test_a_write_that_fails_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        spool.write(BatchName("g", 1, 1, 0), b"rows")

    assert list(spool.directory.iterdir()) == []


def test_only_old_incomplete_files_are_removed(spool: Spool) -> None:
    old, young = spool.directory / "g.1.1.0.tmp", spool.directory / "g.1.1.1.tmp"
    old.write_bytes(b"")
    young.write_bytes(b"")
    os.utime(old, (0, 0))

    spool.remove_temporary(older_than_s=60)

    assert list(spool.directory.iterdir()) == [young]


def test_a_folder_that_cannot_be_made_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidInput, match=r"galileo_spool_dir: .*file/spool cannot be used"):
        Spool(tmp_path / "file" / "spool", 100).open()


def test_the_folder_is_for_our_user_only(spool: Spool) -> None:
    assert spool.directory.stat().st_mode & 0o777 == 0o700
