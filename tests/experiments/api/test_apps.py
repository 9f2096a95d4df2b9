"""/api/apps: the original's routes and payloads, permissions and errors."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from experiments.models import ClientApp
from experiments.services import apps as services
from loadgen.apps.archive import digest_of
from routing.errors import Code
from tests.support.archives import app_archive

pytestmark = pytest.mark.django_db

APPS = "/api/apps"
MANIFEST = b"name: shop\nversion: '1.0'\nkind: [a, 1]\n"
SHOP = {"name": "shop", "manifest": {"name": "shop", "version": "1.0", "kind": ["a", 1]}}


@pytest.fixture(autouse=True)
def repository(settings, tmp_path: Path) -> Path:
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "apps"
    return tmp_path / "apps"


def post(api: Client, data: bytes, content_type: str = "application/zip") -> Any:
    return api.post(APPS, data, content_type=content_type)


@pytest.mark.parametrize("content_type", ["application/zip", "", "application/octet-stream", "text/plain"])
def test_an_upload_is_answered_as_the_original_does(api: Client, content_type: str) -> None:
    answer = post(api, app_archive(manifest=MANIFEST), content_type)
    assert (answer.status_code, answer.json()) == (201, SHOP)
    assert answer["Location"] == "apps/shop"  # relative to /api/apps
    assert ClientApp.objects.get().versions.get().creator == "admin"


def test_a_form_type_that_curl_sends_by_itself_does_not_matter(api: Client) -> None:
    assert post(api, app_archive(), "application/x-www-form-urlencoded").status_code == 201


def test_the_newest_version_is_listed_shown_and_downloaded(api: Client) -> None:
    post(api, app_archive())
    newest = app_archive(manifest=MANIFEST)
    post(api, newest)
    other = app_archive(manifest=b"name: other")
    post(api, other)
    assert api.get(APPS).json() == [{"name": "other", "manifest": {"name": "other"}}, SHOP]
    assert api.get(f"{APPS}/shop").json() == SHOP
    download = api.get(f"{APPS}/shop/download", headers={"Accept": "application/zip"})
    assert download["Content-Type"] == "application/zip"
    assert download["Content-Disposition"] == 'attachment; filename="shop.zip"'
    assert b"".join(download.streaming_content) == newest


def test_the_versions_of_an_app_are_listed(api: Client) -> None:
    archives = [app_archive(), app_archive(manifest=MANIFEST)]
    for data in archives:
        post(api, data)
    versions = api.get(f"{APPS}/shop/versions").json()
    assert [(version["version"], version["digest"]) for version in versions] == [
        (2, digest_of(archives[1])),
        (1, digest_of(archives[0])),
    ]


def test_a_delete_returns_whether_the_app_existed(api: Client) -> None:
    post(api, app_archive())
    answers = [api.delete(f"{APPS}/shop") for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, True), (200, False)]
    assert api.get(APPS).json() == []


@pytest.mark.parametrize("path", ["", "/download", "/versions"])
@pytest.mark.parametrize("name", ["shop", "Shop", "%00", "..", "a b"])
def test_an_unknown_app_is_not_found(api: Client, path: str, name: str) -> None:
    services.upload(app_archive(manifest=b"name: sh"), "ann")
    answer = api.get(f"{APPS}/{name}{path}")
    assert answer.status_code == 404
    assert "detail" in answer.json()


def test_an_archive_that_is_gone_is_not_found(api: Client) -> None:
    post(api, app_archive())
    services.archive_file(digest_of(app_archive())).unlink()
    assert api.get(f"{APPS}/shop/download").status_code == 404


# --- Refused ----------------------------------------------------------------------------------------------------------


def symlinked() -> bytes:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    return app_archive((info, b"/etc/passwd"))


@pytest.mark.parametrize(
    ("data", "field", "code"),
    [
        (b"", "archive", Code.REQUIRED),
        (b"no zip", "archive", Code.UNREADABLE),
        (app_archive(("../evil", b"")), "'../evil'", Code.FORMAT),
        (app_archive(("/evil", b"")), "'/evil'", Code.FORMAT),
        (symlinked(), "'link'", Code.TYPE),
        (app_archive(("generator.py", b"")), "generator.py", Code.DUPLICATE),
        (app_archive(("zeros", bytes(50_000_000))), "archive", Code.RANGE),
        (app_archive(manifest=b"version: 1"), "manifest.yml: name", Code.REQUIRED),
        (app_archive(manifest=b"name: a/b"), "manifest.yml: name", Code.FORMAT),
        (app_archive(manifest=b"["), "manifest.yml", Code.UNREADABLE),
    ],
    ids=range(10),
)
def test_an_invalid_archive_is_refused_and_not_stored(
    api: Client, data: bytes, field: str, code: Code, repository: Path
) -> None:
    answer = post(api, data)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 400
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [(field, code)]
    assert not ClientApp.objects.exists()
    assert not repository.exists()


def test_an_archive_without_a_manifest_is_refused(api: Client) -> None:
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("generator.py", "")
        answer = post(api, buffer.getvalue())
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "manifest.yml")


def test_a_body_that_is_too_large_is_a_413(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.api.apps.ArchiveParser.most", 100)
    assert post(api, b"x" * 101).status_code == 413


def test_an_unwritable_repository_is_a_503(api: Client, settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "file" / "apps"
    answer = post(api, app_archive())
    assert answer.status_code == 503
    assert "galileo_apps_repo_dir cannot be written: Not a directory" in answer.json()["detail"]


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_credentials_are_required(client: Client) -> None:
    for answer in (client.get(APPS), post(client, app_archive()), client.delete(f"{APPS}/shop")):
        assert answer.status_code == 401
    assert client.get(f"{APPS}/shop/download").status_code == 401


def test_to_upload_takes_a_permission_of_its_own(client: Client) -> None:
    user = User.objects.create_user("user")
    client.force_login(user)

    def grant(codename: str) -> None:
        user.user_permissions.add(Permission.objects.get(codename=codename))

    assert client.get(APPS).status_code == 403
    for codename in ("view_clientapp", "delete_clientapp", "add_experiment"):
        grant(codename)
    assert client.get(APPS).status_code == 200
    assert post(client, app_archive()).status_code == 403
    assert not ClientApp.objects.exists()
    grant("upload_clientapp")
    assert post(client, app_archive()).status_code == 201


def test_a_name_and_a_password_will_do_for_a_command(client: Client) -> None:
    User.objects.create_superuser("admin", password="secret")
    good, bad = "YWRtaW46c2VjcmV0", "YWRtaW46d3Jvbmc="
    assert client.get(APPS, headers={"Authorization": f"Basic {good}"}).status_code == 200
    assert client.get(APPS, headers={"Authorization": f"Basic {bad}"}).status_code == 401
