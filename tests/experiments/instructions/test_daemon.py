"""The daemon as a process: killed at any moment, two at once, without broker or database, and told to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon_process import DaemonSite
from tests.support.killed_daemon import MOMENTS
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SCRIPT = "spawn exphost squeezenet 1\nrps exphost squeezenet 1\nsleep 5\nclose exphost squeezenet"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, made once."""
    site = DaemonSite(tmp_path_factory.mktemp("database"))
    site.migrate()
    return site.database


@pytest.fixture
def site(tmp_path: Path, database: Path) -> Iterator[DaemonSite]:
    with DaemonSite(tmp_path) as made:
        made.database.write_bytes(database.read_bytes())
        made.join("exphost")
        yield made


def named(*names: str) -> list[dict[str, str]]:
    return [{"instructions": SCRIPT, "name": name} for name in names]


def test_killed_daemon_neither_loses_nor_repeats_instructions(site: DaemonSite) -> None:
    site.push(*named("first", "second", "third"))
    # In turn, at a later moment of the same instruction each time.
    left_behind = {}
    for moment in MOMENTS:
        assert site.start(killed_when=moment).wait(30) == -signal.SIGKILL
        left_behind[moment] = (*site.queued(), len(site.experiments()))
    assert left_behind == {
        "taken": (2, 1, 0),
        "ticketed": (2, 1, 0),
        "before the commit": (2, 1, 0),
        "after the commit": (2, 1, 1),
        "removed": (2, 0, 1),
    }
    site.start()
    site.wait_until_empty()
    assert site.experiments() == [("first", "QUEUED"), ("second", "QUEUED"), ("third", "QUEUED")]


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_daemon_after_a_kill_processes_each_instruction_once(site: DaemonSite, moment: str) -> None:
    site.push(*named("first"), {"instructions": "jump", "name": "second"}, *named("third"))
    assert site.start(killed_when=moment).wait(30) == -signal.SIGKILL
    site.start()
    site.wait_until_empty()
    assert site.experiments() == [("first", "QUEUED"), ("second", "FAILED"), ("third", "QUEUED")]


def test_two_daemons_create_each_experiment_once_in_order(site: DaemonSite) -> None:
    names = [f"number {number}" for number in range(40)]
    site.start()
    site.start()
    wait_for(lambda: site.log().count("instructions are taken from") == 2, "both daemons to run")
    site.push(*named(*names))
    site.wait_until_empty()
    assert site.experiments() == [(name, "QUEUED") for name in names]


def test_daemon_waits_for_redis_and_logs_it_once(site: DaemonSite) -> None:
    daemon = site.start()
    site.push(*named("before"))
    site.wait_until_empty()
    site.redis.stop()
    wait_for(lambda: "instructions wait: " in site.log(), "the daemon to notice that Redis is away")
    site.redis.start()
    site.join("exphost")
    site.push(*named("after"))
    site.wait_until_empty()
    assert [name for name, _ in site.experiments()] == ["before", "after"]
    assert site.log().count("instructions wait: ") == site.log().count("instructions are taken again") == 1
    assert daemon.poll() is None


def test_instruction_waits_for_a_missing_database(site: DaemonSite) -> None:
    whole = site.database.read_bytes()
    site.database.write_bytes(b"")
    site.start()
    site.push(*named("patient"))
    wait_for(lambda: "instructions wait: " in site.log(), "the daemon to notice the missing tables")
    assert site.queued() == (0, 1)
    site.database.unlink()
    for left in site.directory.glob("galileo.sqlite3-*"):
        left.unlink()
    site.database.write_bytes(whole)
    site.wait_until_empty()
    assert site.experiments() == [("patient", "QUEUED")]
    assert site.log().count("instructions wait: ") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_daemon_in_order(site: DaemonSite, number: signal.Signals) -> None:
    daemon = site.start(level="debug")
    site.push(*named("first"))
    site.wait_until_empty()
    daemon.send_signal(number)
    assert daemon.wait(20) == 0
    assert f"the experiment daemon stops on {number.name}" in site.log()
    assert "Traceback" not in site.log()


def test_unknown_logging_level_is_refused(site: DaemonSite) -> None:
    assert site.start(level="LOUD").wait(30) == 2
    assert "invalid choice: 'LOUD'" in site.log()
