"""`bin/galileo app …` against a real server: what it prints, what it exits with, and how it says who asks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token

from experiments.models import ClientApp, ClientAppVersion
from loadgen.apps.archive import digest_of, pack
from tests.support.archives import GENERATOR, MANIFEST, app_archive

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "bin" / "galileo"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def repository(settings, tmp_path: Path) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "apps"


@pytest.fixture
def token(db: None) -> str:
    return Token.objects.create(user=User.objects.create_superuser("admin", password="secret")).key


@pytest.fixture
def galileo(live_server: Any, token: str, tmp_path: Path) -> Command:
    """Runs the command in the test's folder, as the administrator unless the keywords say otherwise."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("galileo_")}
    plain |= {"galileo_venv": sys.prefix, "HOME": str(tmp_path)}

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        ours = {"galileo_api_url": f"{live_server.url}/api", "galileo_api_token": token} | variables
        command = [str(SCRIPT), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=plain | ours, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "manifest.yml").write_bytes(MANIFEST + b"description: buys\n")
    (folder / "generator.py").write_bytes(GENERATOR)
    return folder


def test_a_folder_is_deployed_listed_and_removed(galileo: Command, app: Path) -> None:
    deployed = galileo("app", "deploy", "--path", "shop")
    digest = digest_of(pack(app))
    assert (deployed.returncode, deployed.stdout, deployed.stderr) == (0, f"deployed shop (SHA-256 {digest})\n", "")
    assert ClientAppVersion.objects.get().digest == digest
    assert galileo("app", "deploy", "--path", str(app)).returncode == 0
    assert ClientAppVersion.objects.count() == 1
    assert galileo("app", "ls").stdout == "shop  1.0 buys\n"
    removed = [galileo("app", "rm", "shop") for _ in range(2)]
    assert [(ran.returncode, ran.stdout, ran.stderr) for ran in removed] == [
        (0, "removed shop\n", ""),
        (1, "", "galileo: there is no client app shop\n"),
    ]
    assert not ClientApp.objects.exists()


def test_an_archive_is_deployed_as_it_is(galileo: Command, tmp_path: Path) -> None:
    (tmp_path / "shop.zip").write_bytes(app_archive())
    assert galileo("app", "deploy", "--path", "shop.zip").returncode == 0
    assert ClientAppVersion.objects.get().digest == digest_of(app_archive())


def test_what_is_no_app_is_refused_before_anything_is_sent(galileo: Command, tmp_path: Path, app: Path) -> None:
    (app / "generator.py").unlink()
    (app / "manifest.yml").write_text("shared: 5")
    (tmp_path / "bad.zip").write_bytes(app_archive(("../evil", b"")))
    nowhere = {"galileo_api_url": "http://127.0.0.1:1/api"}
    folder, archive, missing = (
        galileo("app", "deploy", "--path", path, **nowhere) for path in ("shop", "bad.zip", "nothing")
    )
    assert (folder.returncode, archive.returncode, missing.returncode) == (2, 2, 2)
    assert folder.stderr == "galileo: shop is no client app:\n  generator.py: is missing at the top of the archive\n"
    assert "'../evil': a path that leads out of the app's folder" in archive.stderr
    assert missing.stderr == "galileo: nothing cannot be read: No such file or directory\n"


def test_a_refusal_of_the_server_is_shown(galileo: Command, app: Path) -> None:
    assert galileo("app", "deploy", "--path", "shop").returncode == 0
    (app / "manifest.yml").write_text("name: Shop")
    ran = galileo("app", "deploy", "--path", "shop")
    assert ran.returncode == 1
    assert ran.stderr.startswith("galileo: The client app is refused.\n  manifest.yml: name: there is an app shop")


def test_a_name_and_a_password_say_who_asks_too(galileo: Command) -> None:
    good = {"galileo_api_token": "", "galileo_api_user": "admin", "galileo_api_password": "secret"}
    assert galileo("app", "ls", **good).returncode == 0
    wrong = galileo("app", "ls", **{**good, "galileo_api_password": "wrong"})
    assert (wrong.returncode, "Invalid username/password" in wrong.stderr) == (1, True)


def test_a_netrc_file_does_not_take_the_tokens_place(galileo: Command, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login nobody password wrong\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert galileo("app", "ls").returncode == 0


def test_who_does_not_say_who_asks_is_told_how(galileo: Command) -> None:
    ran = galileo("app", "ls", galileo_api_token="")
    assert ran.returncode == 1
    assert "galileo_api_token" in ran.stderr
    assert "drf_create_token" in ran.stderr


def test_who_may_not_is_told_the_permissions(galileo: Command, app: Path) -> None:
    token = Token.objects.create(user=User.objects.create_user("user")).key
    ran = galileo("app", "deploy", "--path", "shop", galileo_api_token=token)
    assert (ran.returncode, "upload_clientapp" in ran.stderr) == (1, True)
    assert not ClientApp.objects.exists()


def test_a_server_that_is_not_there_is_named(galileo: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ran = galileo("app", "ls", galileo_api_url=f"http://127.0.0.1:{port}/api")
    assert ran.returncode == 1
    assert f"the controller at http://127.0.0.1:{port}/api (galileo_api_url) cannot be reached" in ran.stderr


def test_an_address_of_something_else_is_named(galileo: Command, live_server: Any) -> None:
    elsewhere = galileo("app", "ls", galileo_api_url=f"{live_server.url}/admin")
    assert elsewhere.returncode == 1
    assert "correct galileo_api_url" in elsewhere.stderr
    none = galileo("app", "ls", galileo_api_url="controller:5001")
    assert none.returncode == 2
    assert "galileo_api_url: a URL like http://localhost:5001/api is needed, not 'controller:5001'" in none.stderr


@pytest.mark.parametrize("arguments", [[], ["app"], ["app", "deploy"], ["app", "rm"], ["app", "fly"]])
def test_wrong_arguments_are_explained(galileo: Command, arguments: list[str]) -> None:
    ran = galileo(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("usage: galileo")
