"""The environment of each child has its settings, and no secret that it does not use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from galileo_site.environment import read_site
from galileo_site.stack.child_environment import Environments
from galileo_site.stack.config import read_config
from galileo_site.stack.state import StateDir
from loadgen.protocol.settings import read_worker
from routing.errors import InvalidInput

USER = {
    "PATH": "/usr/bin",
    "galileo_rack": "r7",
    "galileo_api_token": "of the user",
    "galileo_expdb_driver": "postgres",
    "galileo_expdb_postgres_password": "of the user's database",
}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.setattr("galileo_site.stack.state._SHARED_MEMORY", tmp_path)
    made = StateDir(tmp_path / "var")
    made.create()
    return made


@pytest.fixture
def environments(state: StateDir) -> Environments:
    return Environments(read_config({"galileo_web_port": "5999"}), state, 6400, USER)


def test_the_controllers_settings_are_valid_and_of_this_stack(environments: Environments, state: StateDir) -> None:
    site = read_site(environments.controller())
    assert site.database["NAME"] == str(state.database)
    assert site.apps_repo_dir == state.apps
    assert (site.redis.host, site.redis.port) == ("127.0.0.1", 6400)
    assert site.redis.password == state.secrets().redis_password
    assert site.secret_key == state.secrets().secret_key
    assert site.allowed_hosts == ["127.0.0.1", "localhost"]
    assert environments.controller()["galileo_web_port"] == "5999"


def test_the_users_database_does_not_leak_into_the_stack(environments: Environments) -> None:
    variables = environments.controller()
    assert variables["galileo_expdb_driver"] == "sqlite"
    assert "galileo_expdb_postgres_password" not in variables


def test_a_worker_has_its_zone_its_spool_and_the_users_labels(environments: Environments) -> None:
    a, b = (read_worker(environments.worker(name)) for name in ("worker-a", "worker-b"))
    assert a.labels == {"worker_name": "worker-a", "zone": "A", "rack": "r7"}
    assert b.labels == {"worker_name": "worker-b", "zone": "B", "rack": "r7"}
    assert a.spool_dir != b.spool_dir
    assert a.apps_dir is not None and (a.apps_dir / "squeezenet").is_dir()


def test_a_worker_knows_no_secret_but_the_brokers_password(environments: Environments, state: StateDir) -> None:
    values = set(environments.worker("worker-a").values())
    secrets = state.secrets()
    assert secrets.redis_password in values
    assert not values & {secrets.secret_key, secrets.admin_password, "of the user", "of the user's database"}


def test_a_service_knows_nothing_of_galileo(environments: Environments) -> None:
    assert not [name for name in environments.service() if name.startswith("galileo_")]
    assert environments.service()["PATH"] == "/usr/bin"


def test_children_run_in_the_stacks_virtual_environment(environments: Environments) -> None:
    assert environments.controller()["galileo_venv"] == sys.prefix


def test_commands_find_the_running_stack_by_its_environment_file(environments: Environments, state: StateDir) -> None:
    state.write_env_file(environments.controller())
    assert state.env_file.stat().st_mode & 0o777 == 0o600
    variables = dict(line.split("=", 1) for line in state.env_file.read_text().splitlines())
    assert read_site(variables) == read_site(environments.controller())
    state.clear_state()
    assert not state.env_file.exists()


def test_the_users_redis_user_is_not_that_of_the_embedded_server(state: StateDir) -> None:
    environments = Environments(read_config({}), state, 6400, {**USER, "galileo_redis_username": "gal"})
    assert read_site(environments.controller()).redis.username == ""
    assert read_worker(environments.worker("worker-a")).redis.username == ""


def test_labels_that_the_user_declares_reach_the_workers(state: StateDir) -> None:
    user = {**USER, "galileo_labels": "key_ring", "galileo_key_ring": "east"}
    environments = Environments(read_config(user), state, 6400, user)
    assert read_worker(environments.worker("worker-a")).labels["key_ring"] == "east"


def test_misspelt_settings_are_refused_before_the_start(state: StateDir) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_config({**USER, "galileo_web_prot": "5002", "galileo_rack_key": "s3cret"})
    assert {error.path for error in caught.value.errors} == {"galileo_web_prot", "galileo_rack_key"}


def test_hosts_that_the_user_allows_are_added(state: StateDir) -> None:
    user = {**USER, "galileo_allowed_hosts": "galileo.example", "galileo_trusted_proxies": "127.0.0.1"}
    site = read_site(Environments(read_config({}), state, 6400, user).controller())
    assert site.allowed_hosts == ["127.0.0.1", "localhost", "galileo.example"]
    assert [str(network) for network in site.trusted_proxies] == ["127.0.0.1/32"]
