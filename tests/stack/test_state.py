"""The state directory: its access rights, contents and lock."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from galileo_site.stack import state as state_module
from galileo_site.stack.config import StackError
from galileo_site.stack.state import Lock, StateDir, is_locked


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "var")
    made.create()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_read_the_state(state: StateDir) -> None:
    state.secrets()
    state.write_state({"pid": 1})
    assert [mode(path) for path in (state.root, state.logs, state.redis)] == [0o700] * 3
    assert [mode(path) for path in (state.secrets_file, state.state_file)] == [0o600] * 2


def test_secrets_are_long_differ_from_each_other_and_are_kept(state: StateDir, tmp_path: Path) -> None:
    made = state.secrets()
    assert len(set(vars(made).values())) == 3
    assert all(len(secret) >= 16 for secret in vars(made).values())
    assert len(made.secret_key) >= 50
    assert state.secrets() == made
    elsewhere = StateDir(tmp_path / "elsewhere")
    elsewhere.create()
    assert elsewhere.secrets() != made


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"redis_password": "x"}', "\0"])
def test_damaged_secrets_are_an_error_with_a_remedy(state: StateDir, content: str) -> None:
    state.secrets_file.write_text(content)
    with pytest.raises(StackError, match=r"secrets\.json is damaged; delete it"):
        state.secrets()


def test_an_impossible_state_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="file/var cannot be used: Not a directory"):
        StateDir(tmp_path / "file" / "var").create()


def test_a_missing_or_incomplete_description_is_ignored(state: StateDir) -> None:
    assert state.read_state() == {}
    state.state_file.write_text('{"pid": ')
    assert state.read_state() == {}
    state.write_state({"pid": 7})
    assert state.read_state() == {"pid": 7}


def test_the_lock_is_held_by_one_and_free_after_its_release(state: StateDir) -> None:
    first, second = Lock(state.lock_file), Lock(state.lock_file)
    assert first.acquire()
    assert not second.acquire()
    assert is_locked(state.lock_file)
    first.release()
    assert not is_locked(state.lock_file)


def test_without_a_state_directory_nothing_is_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "var" / "lock")
    assert not (tmp_path / "var").exists()


def test_the_lock_of_a_killed_process_is_free(state: StateDir) -> None:
    code = f"""
from pathlib import Path
from galileo_site.stack.state import Lock
assert Lock(Path({str(state.lock_file)!r})).acquire() is True
print("held", flush=True)
import time; time.sleep(60)
"""
    # The lock object is unnamed there: what holds the lock is the process, not the object.
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_locked(state.lock_file)
    holder.kill()
    holder.communicate()
    assert not is_locked(state.lock_file)


def test_the_last_runs_logs_are_put_aside(state: StateDir) -> None:
    state.log("web").write_text("old")
    state.request_log("service-1").write_text("old")
    state.start_new_logs()
    assert sorted(path.name for path in state.logs.iterdir()) == ["service-1.requests.log.1", "web.log.1"]


def test_a_spool_is_a_private_directory_in_memory(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "_SHARED_MEMORY", tmp_path)
    spool = state.spool("worker-a")
    assert spool.parent.parent == tmp_path
    assert mode(spool) == mode(spool.parent) == 0o700
    assert state.spool("worker-a") == spool
    assert state.spool("worker-b") != spool


def test_only_spools_without_batches_are_removed(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "_SHARED_MEMORY", tmp_path)
    a, b = state.spool("worker-a"), state.spool("worker-b")
    (a / "agent.lock").touch()
    (b / "7.1.3.batch").touch()
    state.remove_empty_spools()
    assert not a.exists()
    assert (b / "7.1.3.batch").exists()
    (b / "7.1.3.batch").unlink()
    state.remove_empty_spools()
    assert not b.parent.exists()
    state.remove_empty_spools()


def test_a_spool_may_be_in_the_state_directory(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "_SHARED_MEMORY", tmp_path / "missing-file")
    (tmp_path / "missing-file").write_text("")
    assert state.spool("worker-a") == state.root / "spool" / "worker-a"


def test_a_link_in_place_of_the_spool_is_not_followed(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "_SHARED_MEMORY", tmp_path)
    ours = state.spool("worker-a").parent
    (ours / "worker-a").rmdir()
    ours.rmdir()
    (tmp_path / "trap").mkdir()
    ours.symlink_to(tmp_path / "trap")
    assert state.spool("worker-a").is_relative_to(state.root)
    assert list((tmp_path / "trap").iterdir()) == []
