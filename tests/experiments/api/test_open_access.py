"""`galileo_api_auth=none`: the API is open to programs and to its own pages, and to no other web page."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core import checks
from django.test import Client
from rest_framework.authtoken.models import Token

from experiments.models import ClientApp, ClientAppVersion, Experiment
from experiments.throttling import broker_counter
from galileo_site.environment import PROJECT_ROOT, Rate, read_site
from loadgen.protocol.variables import labels_of
from routing.errors import InvalidInput
from routing.models import RoutingRevision
from tests.experiments.plans.bad_plans import GOOD
from tests.support.archives import app_archive
from tests.support.workers import register

pytestmark = pytest.mark.django_db

JSON = "application/json"
KEY = {"galileo_secret_key": "x" * 50}
ROUTE = {"service": "shop", "hosts": ["a:1"]}


@pytest.fixture
def open_api(settings: Any) -> None:
    settings.GALILEO_API_IS_OPEN = True


@pytest.fixture
def user(db: None) -> User:
    """May do nothing."""
    return User.objects.create_user("somebody", password="right")


@pytest.fixture
def fleet(broker: redis.Redis) -> None:
    register(broker, "pi-1")


# --- open to programs -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("open_api", "broker")
@pytest.mark.parametrize(
    "path", ["", "/experiments", "/worker", "/workers", "/services", "/apps", "/groups", "/routing", "/experiments/"]
)
def test_everything_is_read_without_a_token(client: Client, path: str) -> None:
    assert client.get(f"/api{path}").status_code == 200


@pytest.mark.usefixtures("open_api", "fleet")
@pytest.mark.parametrize(("plan", "creator"), [(GOOD, "alice"), ({"configuration": GOOD["configuration"]}, "api")])
def test_the_creator_is_api_or_that_of_the_body(client: Client, plan: dict[str, Any], creator: str) -> None:
    answer = client.post("/api/experiments", json.dumps(plan), content_type=JSON)
    assert answer.status_code == 201, answer.content
    assert Experiment.objects.get(id=answer.json()).creator == creator
    assert client.delete(f"/api/experiments/{answer.json()}").status_code == 200


@pytest.mark.usefixtures("open_api", "broker")
def test_apps_and_routes_are_changed_by_api(client: Client, settings: Any, tmp_path: Any) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path
    archive = app_archive()
    assert client.post("/api/apps", archive, content_type="application/zip").status_code == 201
    assert ClientAppVersion.objects.get().creator == "api"
    assert client.post("/api/routing", json.dumps(ROUTE), content_type=JSON).status_code == 201
    assert RoutingRevision.objects.get().changed_by == "api"


@pytest.mark.usefixtures("open_api", "fleet")
def test_a_group_is_spawned_by_api(client: Client) -> None:
    answer = client.post("/api/groups", json.dumps({"service": "shop", "num": 1}), content_type=JSON)
    assert (answer.status_code, answer.json()["creator"]) == (201, "api")


@pytest.mark.usefixtures("open_api", "broker")
def test_each_address_has_its_own_allowance(client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_counter, "retry_at_s", 0.0)  # another test may have had no broker
    settings.GALILEO_API_RATE = Rate(2, 3600)
    asked = [client.get("/api", REMOTE_ADDR=f"10.0.0.{number}").status_code for number in (1, 1, 2, 1, 2)]
    assert asked == [200, 200, 200, 429, 200]


@pytest.mark.usefixtures("open_api")
def test_open_access_makes_no_user(client: Client) -> None:
    client.get("/api")
    assert not User.objects.exists()
    assert not client.cookies


def test_it_is_closed_unless_it_is_opened(client: Client) -> None:
    answer = client.get("/api")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Token"


# --- who says who they are must be right ------------------------------------------------------------------------------


@pytest.mark.usefixtures("open_api", "user")
@pytest.mark.parametrize(
    "header", ["Token nonsense", "Token", "Basic c29tZWJvZHk6d3Jvbmc=", "Bearer x", "Basic !", "", "x"]
)
def test_a_wrong_token_or_password_is_refused(client: Client, header: str) -> None:
    answer = client.get("/api", headers={"Authorization": header})
    assert answer.status_code == 401
    assert "detail" in answer.json()


@pytest.mark.usefixtures("open_api")
def test_a_user_has_their_own_permissions(client: Client, user: User) -> None:
    token = Token.objects.create(user=user)
    assert client.get("/api/experiments", headers={"Authorization": f"Token {token.key}"}).status_code == 403
    client.force_login(user)
    assert client.get("/api/experiments").status_code == 403


# --- closed to web pages ----------------------------------------------------------------------------------------------

FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "https://testserver"},
    {"Origin": "http://testserver:3000"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
]


@pytest.mark.usefixtures("open_api")
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_requests_of_other_origins_are_refused(
    client: Client, headers: dict[str, str], settings: Any, tmp_path: Any
) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path
    archive = app_archive()
    for kind in ("text/plain", "application/zip", "multipart/form-data; boundary=x"):
        answer = client.post("/api/apps", archive, content_type=kind, headers=headers)
        assert answer.status_code == 403
    assert not ClientApp.objects.exists()
    assert client.post("/api/experiments", json.dumps(GOOD), content_type=JSON, headers=headers).status_code == 403
    for path in ("/api", "/api/experiments", "/api/routing", "/api/apps/evil/download"):
        assert client.get(path, headers=headers).status_code == 403
    assert client.delete("/api/routing/shop", headers=headers).status_code == 403
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.usefixtures("open_api")
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://testserver"},
        {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://galileo.example"},
    ],
    ids=str,
)
def test_own_pages_and_typed_urls_are_served(client: Client, headers: dict[str, str], settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://galileo.example"]
    assert client.get("/api/experiments", headers=headers).status_code == 200


@pytest.mark.usefixtures("open_api")
def test_a_name_that_is_led_to_our_address_is_refused(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    headers = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert client.get("/api/experiments", headers=headers).status_code == 400


@pytest.mark.usefixtures("open_api")
def test_other_origins_cannot_use_a_session(user: User) -> None:
    user.is_superuser = True
    user.save()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    answer = browser.post("/api/experiments", json.dumps(GOOD), content_type=JSON, headers={"Origin": "http://evil"})
    assert answer.status_code == 403


@pytest.mark.usefixtures("open_api")
def test_with_a_token_it_is_served_as_ever(client: Client, user: User) -> None:
    token = Token.objects.create(user=user)
    headers = {"Authorization": f"Token {token.key}", "Origin": "http://another.example"}
    assert client.get("/api", headers=headers).status_code == 200


# --- and it says so ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("open_api")
def test_the_admin_stays_closed_and_shows_a_warning(client: Client, user: User) -> None:
    client.get("/api")
    assert client.get("/admin/").status_code == 302
    assert "The API is open" in client.get("/admin/login/").content.decode()
    user.is_staff = user.is_superuser = True
    user.save()
    client.force_login(user)
    for path in ("", "experiments/experiment/", "password_change/", "routing/routingrecord/add/"):
        page = client.get(f"/admin/{path}")
        assert page.status_code == 200
        assert "The API is open" in page.content.decode()


def test_without_open_access_pages_show_no_warning(client: Client) -> None:
    assert "The API is open" not in client.get("/admin/login/").content.decode()


def test_the_check_before_a_deployment_warns(settings: Any) -> None:
    def warned() -> bool:
        return "galileo.W001" in {message.id for message in checks.run_checks(include_deployment_checks=True)}

    assert not warned()
    settings.GALILEO_API_IS_OPEN = True
    assert warned()
    assert "galileo.W001" not in {message.id for message in checks.run_checks()}


@pytest.mark.slow
@pytest.mark.parametrize(("auth", "count"), [("none", 1), ("required", 0)])
def test_the_web_server_logs_open_access_at_start(auth: str, count: int) -> None:
    environment = {**KEY, "galileo_api_auth": auth, "galileo_expdb_sqlite_path": ":memory:"}
    command = [sys.executable, "-c", "import galileo_site.wsgi"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING galileo_site.wsgi: galileo_api_auth=none") == count


# --- the setting ------------------------------------------------------------------------------------------------------


def test_authentication_is_required_by_default() -> None:
    assert read_site(KEY).api_auth == "required"
    assert read_site({**KEY, "galileo_api_auth": "none"}).api_auth == "none"
    assert labels_of({"galileo_api_auth": "none"}) == {}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"galileo_api_auth": "off"}, "galileo_api_auth: "),
        ({"galileo_api_auth": "none", "galileo_allowed_hosts": "*"}, "galileo_api_auth: "),
        ({"galileo_api_auth": "none", "galileo_allowed_hosts": "127.0.0.1,.lab"}, "galileo_api_auth: "),
    ],
)
def test_invalid_settings_of_open_access_are_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_site({**KEY, **variables})
