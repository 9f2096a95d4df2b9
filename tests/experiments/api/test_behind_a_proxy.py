"""The links of the API behind nginx, however it is configured, and the address of a client behind proxies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import redis
import requests
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from rest_framework.authtoken.models import Token

from experiments.ingest.ingest import ingest
from experiments.models import Event, TelemetrySample
from experiments.throttling import address_bucket, client_address
from galileo_site.environment import Rate, read_site
from loadgen.protocol.settings import labels_of
from routing.errors import InvalidInput
from tests.experiments.plans.bad_plans import GOOD
from tests.support import batches
from tests.support.needed import need
from tests.support.nginx import FrontNginx
from tests.support.workers import register

HEADERS = (
    "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; "
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
)
LOCATIONS = {
    "proxy_pass alone": "location / { proxy_pass http://127.0.0.1:PORT; }",
    "documented": f"location / {{ {HEADERS} proxy_pass http://127.0.0.1:PORT; }}",
    "forwarded host": "location / { proxy_set_header X-Forwarded-Host $http_host; proxy_pass http://127.0.0.1:PORT; }",
    "below a path": f"location /galileo/ {{ {HEADERS} proxy_pass http://127.0.0.1:PORT/; }}",
}
PATHS = {"below a path": "/galileo"}
BASE = {"galileo_secret_key": "x"}


class Outside:
    """An administrator's view of the API from outside the proxies."""

    def __init__(self, front: FrontNginx) -> None:
        self._front = front
        token = Token.objects.create(user=User.objects.create_superuser("admin"))
        self._headers = {"Authorization": f"Token {token.key}"}

    def base(self, kind: str) -> str:
        return f"http://127.0.0.1:{self._front.ports[kind]}{PATHS.get(kind, '')}/api"

    def get(self, url: str) -> requests.Response:
        response = requests.get(url, headers=self._headers, timeout=20, allow_redirects=False)
        assert response.status_code == 200, (url, response.text)
        return response

    def post(self, url: str, data: Any) -> requests.Response:
        response = requests.post(url, json=data, headers=self._headers, timeout=20, allow_redirects=False)
        assert response.status_code == 201, (url, response.text)
        return response


@pytest.fixture
def outside(transactional_db: None, live_server: Any, tmp_path: Path) -> Iterator[Outside]:
    need("/usr/sbin/nginx", "nginx-light")
    with FrontNginx(tmp_path, urlsplit(live_server.url).port or 0, LOCATIONS) as front:
        yield Outside(front)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("kind", LOCATIONS)
def test_link_header_leads_to_the_outer_address(outside: Outside, broker: redis.Redis, kind: str, slash: str) -> None:
    made = sorted(batches.make_experiment().id for _ in range(3))
    url, found = f"{outside.base(kind)}/experiments{slash}?limit=1&name=test", []
    while url:
        assert url.startswith(f"{outside.base(kind)}/experiments{slash}?")
        response = outside.get(url)
        found += [each["id"] for each in response.json()]
        link = response.links.get("next")
        url = urljoin(response.url, link["url"]) if link else ""
    assert sorted(found) == made


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("part", ["traces", "telemetry", "events"])
@pytest.mark.parametrize("kind", LOCATIONS)
def test_next_page_leads_to_the_outer_address(outside: Outside, broker: redis.Redis, kind: str, part: str) -> None:
    experiment = batches.make_experiment(status="FINISHED")
    for payload in batches.run_payloads(*batches.shards_of(experiment)):
        ingest(payload)
    for number in range(3):
        Event.objects.create(experiment=experiment, timestamp=batches.START, name="mark", key=f"mark{number}")
        TelemetrySample.objects.create(
            experiment=experiment, node="pi", metric="cpu", subsystem="", timestamp_ns=number, value=1
        )
    url, pages = f"{outside.base(kind)}/experiments/{experiment.id}/{part}?limit=2", 0
    while url and pages < 2:
        response = outside.get(url)
        pages += 1
        url = urljoin(response.url, response.json()["next"] or "")
        assert url.startswith(f"{outside.base(kind)}/experiments/{experiment.id}/{part}?")
    if part != "traces":
        back = urljoin(response.url, response.json()["previous"])
        assert len(outside.get(back).json()["results"]) == 2


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("kind", LOCATIONS)
def test_location_leads_to_the_outer_address(outside: Outside, broker: redis.Redis, kind: str, slash: str) -> None:
    register(broker, "pi-1")
    for path, data in (("routing", {"service": "web:1", "hosts": ["a:1"]}), ("experiments", GOOD)):
        made = outside.post(f"{outside.base(kind)}/{path}{slash}", data)
        url = urljoin(made.url, made.headers["Location"])
        assert url.startswith(f"{outside.base(kind)}/{path}/")
        assert outside.get(url).json()


# --- the address of a client ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("10.0.0.9", "", "10.0.0.9"),
        ("10.0.0.9", "1.2.3.4", "10.0.0.9"),  # not a proxy: any client can send the header
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("127.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"),  # the client has sent the first
        ("127.0.0.1", "9.9.9.9, 1.2.3.4, 192.168.3.7", "1.2.3.4"),  # two proxies
        ("127.0.0.1", "192.168.3.7", "192.168.3.7"),
        ("::ffff:127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "1.2.3.4:51234", "1.2.3.4"),
        ("127.0.0.1", "9.9.9.9:1, 1.2.3.4:51234, 192.168.3.7:80", "1.2.3.4"),
        ("127.0.0.1", "[2001:db8::1]:51234", "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("127.0.0.1", "2001:db8::1:5123", "2001:db8::1:5123"),  # no port, as it has no brackets
        # Nothing before something else than an address counts, as it may be the client's own.
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "9.9.9.9, unknown", "127.0.0.1"),
        ("127.0.0.1", "9.9.9.9, unknown, 192.168.3.7", "192.168.3.7"),
        ("127.0.0.1", "1.2.3.4:", "127.0.0.1"),
        ("127.0.0.1", "1.2.3.4:x51", "127.0.0.1"),
        ("127.0.0.1", "1.2.3.4.5:51", "127.0.0.1"),
        ("127.0.0.1", "[2001:db8::1", "127.0.0.1"),
        ("127.0.0.1", "[]:5", "127.0.0.1"),
        ("127.0.0.1", "9.9.9.9,", "127.0.0.1"),
    ],
)
def test_client_is_the_last_that_is_not_a_trusted_proxy(
    settings: Any, remote: str, forwarded: str, client: str
) -> None:
    variables = {**BASE, "galileo_trusted_proxies": "127.0.0.1, 192.168.0.0/16"}
    settings.GALILEO_TRUSTED_PROXIES = read_site(variables).trusted_proxies
    header = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR=remote, **header)) == client


@pytest.mark.django_db
def test_ports_do_not_evade_the_limit_of_passwords(client: Client, broker: redis.Redis, settings: Any) -> None:
    settings.GALILEO_LOGIN_RATE = Rate(3, 3600)
    settings.GALILEO_TRUSTED_PROXIES = read_site({**BASE, "galileo_trusted_proxies": "127.0.0.1"}).trusted_proxies
    wrong = {"username": "admin", "password": "wrong"}
    found = [
        client.post("/admin/login/", wrong, headers={"X-Forwarded-For": f"203.0.113.7:{port}"}).status_code
        for port in range(51_234, 51_239)
    ]
    assert found == [200, 200, 200, 429, 429]


def test_addresses_of_one_ipv6_network_share_a_bucket() -> None:
    assert address_bucket("2001:db8::1") == address_bucket("2001:db8::ffff:1")
    assert address_bucket("2001:db8::1") != address_bucket("2001:db8:0:1::1")
    assert address_bucket("::ffff:1.2.3.4") == address_bucket("1.2.3.4") != address_bucket("1.2.3.5")


def test_any_number_of_addresses_has_65536_buckets() -> None:
    buckets = {address_bucket(f"10.{a}.{b}.{c}") for a in range(20) for b in range(64) for c in range(64)}
    # Of 81,920 addresses, 65,536 (1 - exp(-1.25)) = 46,760 different ones are to be expected.
    assert 46_000 < len(buckets) < 47_500


# --- the settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "prefix"), [("", ""), ("/", ""), ("/galileo", "/galileo"), ("/a/b-c/", "/a/b-c")])
def test_web_prefix_is_a_path_without_its_last_slash(text: str, prefix: str) -> None:
    assert read_site({**BASE, "galileo_web_prefix": text}).web_prefix == prefix


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("web_prefix", "galileo"),
        ("web_prefix", "//evil.example"),
        ("web_prefix", "/a/../b"),
        ("web_prefix", "/a?b"),
        ("trusted_proxies", "localhost"),
        ("trusted_proxies", "127.0.0.1,10.0.0.0/40"),
        ("login_rate", "5"),
    ],
)
def test_invalid_setting_of_a_proxy_is_named(name: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=f"^galileo_{name}: must be"):
        read_site({**BASE, f"galileo_{name}": text})


def test_settings_of_a_proxy_are_not_labels_of_a_worker() -> None:
    names = ("web_prefix", "trusted_proxies", "login_rate")
    assert labels_of({f"galileo_{name}": "x" for name in names}) == {}
