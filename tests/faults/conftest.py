"""The fault rig: `make faults`. Plain `pytest` does not look in here (norecursedirs in pyproject.toml)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence

import pytest

from galileo_site.environment import PROJECT_ROOT
from tests.faults import table
from tests.faults.faults import DATABASES, Fault
from tests.faults.row import Outcome
from tests.faults.rows import FAULTS
from tests.faults.stack import Stack

BOTH, SPLIT = "both", "split"
ALL, BY_COMMIT = "all", "commit"
OUTCOMES: pytest.StashKey[list[Outcome]] = pytest.StashKey()
NOTES: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--fault-seed", default="1", help="the moments of the faults are drawn from it (default 1)")
    group.addoption("--fault-retries", type=int, default=0, help="how often a red row is run again, on a new stack")
    group.addoption("--soak-minutes", type=float, default=30, help="how long the soak takes (default 30)")
    group.addoption(
        "--fault-database",
        default=BOTH,
        choices=(*DATABASES, BOTH, SPLIT),
        help="split: each fault on one of the two, in turn (default both)",
    )
    group.addoption(
        "--fault-half",
        default=ALL,
        choices=(ALL, "0", "1", BY_COMMIT),
        help="runs one half of the faults; commit: the half that the hash of the commit picks (default all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = []
    config.stash[NOTES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/faults/" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.faults)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        options = metafunc.config.option
        cases = list(_cases(options.fault_database, _half(options.fault_half)))
        metafunc.parametrize(
            ("database", "fault"), cases, ids=[f"{database}-{fault.slug}" for database, fault in cases]
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for note in config.stash[NOTES]:
        terminalreporter.write_line(note)
    if outcomes := config.stash[OUTCOMES]:
        terminalreporter.section(f"faults, seed {config.getoption('--fault-seed')}")
        for line in table.lines(outcomes):
            terminalreporter.write_line(line)
        for line in table.reruns(outcomes):
            terminalreporter.write_line(line)


def _cases(choice: str, half: int | None) -> Iterator[tuple[str, Fault]]:
    """Database by database, so that only one stack runs at a time."""
    for database in DATABASES:
        for number, fault in enumerate(FAULTS):
            # In pairs, so that each half has both databases when they are split.
            if half in (None, number // 2 % 2) and database in _databases_of(fault, number, choice):
                yield database, fault


def _half(choice: str) -> int | None:
    """0 or 1, or None for both halves."""
    if choice == ALL:
        return None
    if choice == BY_COMMIT:
        git = ["git", "rev-parse", "HEAD"]
        choice = subprocess.run(git, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True).stdout.strip()
    return int(choice, 16) % 2


def _databases_of(fault: Fault, number: int, choice: str) -> Sequence[str]:
    if choice == SPLIT:
        return [fault.databases[number % len(fault.databases)]]
    return [database for database in fault.databases if choice in (BOTH, database)]


class Stacks:
    """The one stack that runs; another one takes its place when another database is asked for, or it is spoilt."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._stack: Stack | None = None

    def on(self, database: str) -> Stack:
        if self._stack is None or self._stack.database != database:
            self.end()
            self._stack = Stack(self._factory.mktemp(f"faults-{database}"), database).__enter__()
        return self._stack

    def end(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.__exit__()


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    running = Stacks(tmp_path_factory)
    yield running
    running.end()
