"""One Galileo with two workers, and targets, for all end-to-end tests of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.galileo import Galileo
from tests.support.http_target import HttpTarget
from tests.support.needed import need
from tests.support.nginx import Nginx
from tests.support.venv import make_venv

# What users of the original have.
ORIGINAL = ("edgerun-galileo==0.10.4", "telemc==0.3.0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def galileo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Galileo]:
    with Galileo(tmp_path_factory.mktemp("galileo"), {"worker-a": "A", "worker-b": "B"}, with_web=True) as running:
        yield running


@pytest.fixture
def target(tmp_path) -> Iterator[HttpTarget]:
    with HttpTarget(log=tmp_path / "target.log") as running:
        yield running


@pytest.fixture
def three_targets(tmp_path) -> Iterator[list[HttpTarget]]:
    targets = [HttpTarget(log=tmp_path / f"target-{number}.log") for number in range(3)]
    try:
        yield [target.start() for target in targets]
    finally:
        for target in targets:
            target.stop()


@pytest.fixture
def nginx(tmp_path) -> Iterator[Nginx]:
    need("/usr/sbin/nginx", "nginx-light")
    with Nginx(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment that has the original."""
    folder = tmp_path_factory.mktemp("original")
    make_venv(folder, *ORIGINAL)
    return folder / "bin"
