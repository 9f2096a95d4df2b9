"""`bin/galileo app …` against a real server: its output, exit status and authentication."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token

from experiments.models import ClientApp, ClientAppVersion
from galileo_site.cli import main
from loadgen.apps.archive import digest_of, pack
from tests.support.archives import GENERATOR, MANIFEST, app_archive

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "bin" / "galileo"


class Ran(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ran]


@pytest.fixture(autouse=True)
def repository(settings, tmp_path: Path) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "apps"


@pytest.fixture
def token(db: None) -> str:
    return Token.objects.create(user=User.objects.create_superuser("admin", password="secret")).key


@pytest.fixture
def variables(live_server: Any, token: str, tmp_path: Path) -> dict[str, str]:
    """The administrator's environment; the home folder is the test's."""
    return {"galileo_api_url": f"{live_server.url}/api", "galileo_api_token": token, "HOME": str(tmp_path)}


@pytest.fixture
def galileo(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command in this process, in the test's folder, as the administrator unless keywords say otherwise."""

    def run(*arguments: str, **others: str) -> Ran:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name in [name for name in os.environ if name.startswith("galileo_")]:
                patch.delenv(name)
            for name, value in (variables | others).items():
                patch.setenv(name, value)
            try:
                status = main(arguments)
            except SystemExit as ended:  # argparse's
                status = int(ended.code or 0)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def script(variables: dict[str, str], tmp_path: Path) -> Command:
    """As `galileo`, by the script that users run."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("galileo_")}
    environment = plain | {"galileo_venv": sys.prefix} | variables

    def run(*arguments: str) -> Ran:
        done = subprocess.run(
            [str(SCRIPT), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "manifest.yml").write_bytes(MANIFEST + b"description: buys\n")
    (folder / "generator.py").write_bytes(GENERATOR)
    return folder


def test_a_folder_is_deployed_listed_and_removed(galileo: Command, script: Command, app: Path) -> None:
    deployed = script("app", "deploy", "--path", "shop")
    digest = digest_of(pack(app))
    assert (deployed.returncode, deployed.stdout, deployed.stderr) == (0, f"deployed shop (SHA-256 {digest})\n", "")
    assert ClientAppVersion.objects.get().digest == digest
    assert galileo("app", "deploy", "--path", str(app)).returncode == 0
    assert ClientAppVersion.objects.count() == 1
    assert galileo("app", "ls").stdout == "shop  1.0 buys\n"
    removed = [run("app", "rm", "shop") for run in (galileo, script)]
    assert [(ran.returncode, ran.stdout, ran.stderr) for ran in removed] == [
        (0, "removed shop\n", ""),
        (1, "", "galileo: the client app shop does not exist\n"),
    ]
    assert not ClientApp.objects.exists()


def test_an_archive_is_deployed_unchanged(galileo: Command, tmp_path: Path) -> None:
    (tmp_path / "shop.zip").write_bytes(app_archive())
    assert galileo("app", "deploy", "--path", "shop.zip").returncode == 0
    assert ClientAppVersion.objects.get().digest == digest_of(app_archive())


def test_an_invalid_app_is_refused_before_it_is_sent(galileo: Command, tmp_path: Path, app: Path) -> None:
    (app / "generator.py").unlink()
    (app / "manifest.yml").write_text("shared: 5")
    (tmp_path / "bad.zip").write_bytes(app_archive(("../evil", b"")))
    nowhere = {"galileo_api_url": "http://127.0.0.1:1/api"}
    folder, archive, missing = (
        galileo("app", "deploy", "--path", path, **nowhere) for path in ("shop", "bad.zip", "nothing")
    )
    assert (folder.returncode, archive.returncode, missing.returncode) == (2, 2, 2)
    assert folder.stderr == "galileo: generator.py: is missing at the top of the archive\n"
    assert "'../evil': is a path that leads out of the app's folder" in archive.stderr
    assert missing.stderr == "galileo: --path: nothing cannot be read: No such file or directory\n"


def test_an_error_of_the_server_is_shown(galileo: Command, app: Path) -> None:
    assert galileo("app", "deploy", "--path", "shop").returncode == 0
    (app / "manifest.yml").write_text("name: Shop")
    ran = galileo("app", "deploy", "--path", "shop")
    assert ran.returncode == 1
    assert ran.stderr.startswith("galileo: manifest.yml: name: there is an app shop")


def test_a_user_name_and_a_password_authenticate(galileo: Command) -> None:
    good = {"galileo_api_token": "", "galileo_api_user": "admin", "galileo_api_password": "secret"}
    assert galileo("app", "ls", **good).returncode == 0
    wrong = galileo("app", "ls", **{**good, "galileo_api_password": "wrong"})
    assert (wrong.returncode, "Invalid username/password" in wrong.stderr) == (1, True)


def test_a_netrc_file_does_not_replace_the_token(galileo: Command, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login nobody password wrong\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert galileo("app", "ls").returncode == 0


def test_missing_credentials_name_the_settings(galileo: Command) -> None:
    ran = galileo("app", "ls", galileo_api_token="")
    assert ran.returncode == 1
    assert "galileo_api_token" in ran.stderr
    assert "drf_create_token" in ran.stderr


def test_a_missing_permission_is_named(galileo: Command, app: Path) -> None:
    token = Token.objects.create(user=User.objects.create_user("user")).key
    ran = galileo("app", "deploy", "--path", "shop", galileo_api_token=token)
    assert (ran.returncode, "upload_clientapp" in ran.stderr) == (1, True)
    assert not ClientApp.objects.exists()


def test_an_unreachable_server_is_named(galileo: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ran = galileo("app", "ls", galileo_api_url=f"http://127.0.0.1:{port}/api")
    assert ran.returncode == 1
    assert f"the controller at http://127.0.0.1:{port}/api (galileo_api_url) cannot be reached" in ran.stderr


def test_a_url_of_another_server_is_named(galileo: Command, live_server: Any) -> None:
    elsewhere = galileo("app", "ls", galileo_api_url=f"{live_server.url}/admin")
    assert elsewhere.returncode == 1
    assert "correct galileo_api_url" in elsewhere.stderr
    none = galileo("app", "ls", galileo_api_url="controller:5001")
    assert none.returncode == 2
    assert "galileo_api_url: must be a URL such as http://localhost:5001/api, got 'controller:5001'" in none.stderr


@pytest.mark.parametrize("arguments", [[], ["app"], ["app", "deploy"], ["app", "rm"], ["app", "fly"]])
def test_wrong_arguments_are_explained(galileo: Command, arguments: list[str]) -> None:
    ran = galileo(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("usage: galileo")


def test_an_address_with_credentials_is_refused_without_them(galileo: Command) -> None:
    for url in ("http://user:s3cret@controller/api", "ftp://user:s3cret@controller"):
        ran = galileo("app", "ls", galileo_api_url=url)
        assert (ran.returncode, ran.stderr.partition(": must not")[0]) == (2, "galileo: galileo_api_url")
        assert "s3cret" not in ran.stderr
