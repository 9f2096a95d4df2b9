"""`python -m galileo_site.stack`: the output of commands that have nothing to do or cannot do it."""

from __future__ import annotations

import fcntl
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from galileo_site.stack import ports
from galileo_site.stack.__main__ import main


@pytest.fixture
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("galileo_state_dir", str(tmp_path / "var"))
    monkeypatch.setenv("galileo_web_port", str(ports.pick_free()))
    return tmp_path / "var"


@contextmanager
def running(var: Path, **state: object) -> Iterator[None]:
    """The lock and the description that a running stack holds; the description stays when it ends."""
    var.mkdir()
    about = {"pid": 1, "kind": "up", "phase": "running", "web_url": "http://127.0.0.1:7/"}
    about |= {"admin_user": "ada", "api_auth": "required"}
    child = {"name": "web", "pid": 12, "state": "running", "restarts": 2}
    (var / "stack.json").write_text(json.dumps({**about, "children": [child], **state}))
    with (var / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_down_without_a_stack_creates_nothing(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "Galileo is not running.\n"
    assert not var.exists()


def test_status_without_a_stack_exits_with_3(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 3
    assert capsys.readouterr().out == "Galileo is not running.\n"


@pytest.mark.parametrize("command", ["down", "status"])
def test_what_a_killed_stack_has_left_confuses_nobody(
    var: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with running(var):
        pass
    main([command])
    assert capsys.readouterr().out == "Galileo is not running.\n"


def test_status_names_every_child(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(var):
        assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Galileo is running: http://127.0.0.1:7/ (supervisor: process 1)",
        "  web         running (process 12, started again 2 times)",
    ]


def test_a_second_up_prints_the_address_again(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(var):
        assert main(["up"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Galileo is running already.\n")
    assert "http://127.0.0.1:7/" in output and "ada" in output and "password" in output


def test_a_demo_beside_a_running_stack_is_refused(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(var):
        assert main(["demo"]) == 1
    assert capsys.readouterr().err == "Galileo is running already; stop it with 'make down' before a demo.\n"


def test_up_beside_a_running_demo_is_refused(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(var, kind="demo"):
        assert main(["up"]) == 1
    assert capsys.readouterr().err.startswith("A demo is running in ")


def test_down_signals_only_galileo(var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(var, pid=1):
        assert main(["down"]) == 1
    assert "is held by a process that is not Galileo's" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_busy_web_port_is_refused_before_the_start(
    var: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        monkeypatch.setenv("galileo_web_port", str(busy.getsockname()[1]))
        assert main([command]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "The web server's port" in captured.err and captured.err.count("\n") == 1
    assert not var.exists()


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_platform_without_the_server_cannot_start(
    var: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    assert main([command]) == 1
    captured = capsys.readouterr()
    assert "on armv7l" in captured.err and captured.err.count("\n") == 1
    assert not var.exists()


def test_wrong_settings_are_named(
    var: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("galileo_web_port", "99999")
    assert main(["up"]) == 1
    assert capsys.readouterr().err.startswith("galileo_web_port: ")
