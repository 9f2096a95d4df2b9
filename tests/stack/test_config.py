"""The settings of the stack."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack import embedded_redis, ports
from galileo_site.stack.config import StackError, read_config
from galileo_site.stack.stack import check_machine
from routing.errors import InvalidInput


def test_without_settings_there_are_defaults() -> None:
    config = read_config({})
    assert config.state_dir == PROJECT_ROOT / "var"
    assert (config.web_port, config.redis_port, config.admin_user) == (5001, 0, "admin")
    assert config.web_url == "http://127.0.0.1:5001/"


def test_a_relative_state_directory_is_one_of_the_project() -> None:
    assert read_config({"galileo_state_dir": "other"}).state_dir == PROJECT_ROOT / "other"
    assert read_config({"galileo_state_dir": "/srv/galileo"}).state_dir == Path("/srv/galileo")


def test_all_wrong_settings_are_named_at_once() -> None:
    wrong = {"galileo_web_port": "http", "galileo_redis_port": "70000", "galileo_logging_level": "LOUD"}
    wrong |= {"galileo_api_auth": "off"}
    with pytest.raises(InvalidInput) as caught:
        read_config(wrong)
    assert {error.path for error in caught.value.errors} == set(wrong)


@pytest.mark.parametrize(("variable", "what"), [("web_port", "web server"), ("redis_port", "Redis server")])
def test_a_busy_port_is_refused_with_its_variable(variable: str, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        environ = {"galileo_web_port": str(ports.pick_free()), f"galileo_{variable}": str(port)}
        with pytest.raises(StackError) as caught:
            check_machine(read_config(environ))
    sentence = str(caught.value)
    assert sentence.startswith(f"The {what}'s port {port} on 127.0.0.1 is in use")
    assert f"galileo_{variable}" in sentence
    assert sentence.count(".") == "127.0.0.1".count(".") + 1


def test_a_port_that_was_just_closed_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first stays in TIME_WAIT
        client.close()
    assert ports.is_free(port)


def test_a_picked_port_is_free_and_not_taken() -> None:
    first = ports.pick_free()
    assert ports.is_free(first)
    assert all(ports.pick_free({first}) != first for _ in range(5))


def test_a_platform_without_the_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(
        StackError, match=r"No embedded .* server is installed for Linux on riscv64.*x86_64 and aarch64"
    ):
        embedded_redis.find_binary()
