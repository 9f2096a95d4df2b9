"""The web server behind nginx, as docs/settings.md describes it: below a path, and with the clients' own addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.ports import pick_free
from tests.support.galileo import Galileo
from tests.support.needed import need
from tests.support.nginx import FrontNginx
from tests.support.waiting import wait_for

HEADERS = (
    "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; "
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
)
LOCATIONS = {"outer": f"location /galileo/ {{ {HEADERS} proxy_pass http://127.0.0.1:PORT/; }}"}


@pytest.fixture(scope="module")
def front(galileo: Galileo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The outer address of a web server of its own, with the settings for the proxy."""
    need("/usr/sbin/nginx", "nginx-light")
    port = pick_free()
    galileo.start(
        "front-web", [str(PROJECT_ROOT / "bin" / "run"), "api"], galileo_web_port=str(port),
        galileo_web_prefix="/galileo", galileo_trusted_proxies="127.0.0.1", galileo_login_rate="3/hour",
    )  # fmt: skip
    folder: Path = tmp_path_factory.mktemp("front")
    try:
        with FrontNginx(folder, port, LOCATIONS) as nginx:
            url = f"http://127.0.0.1:{nginx.ports['outer']}/galileo/"
            wait_for(lambda: requests.get(f"{url}admin/login/", timeout=10).status_code == 200, "the web server")
            yield url
    finally:
        galileo.stop("front-web")
        del galileo.children["front-web"]


def test_admin_below_a_path_is_complete(galileo: Galileo, front: str) -> None:
    session = requests.Session()
    page = session.get(front, timeout=10)
    assert page.url == f"{front}admin/login/?next=/galileo/admin/"
    (style, *_) = re.findall(r'href="([^"]+\.css)"', page.text)
    assert requests.get(urljoin(page.url, style), timeout=10).headers["Content-Type"].startswith("text/css")
    user, password = galileo.administrator
    (token,) = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text))
    form = {"username": user, "password": password, "next": "/galileo/admin/", "csrfmiddlewaretoken": token}
    index = session.post(page.url, data=form, timeout=10)
    assert index.url == f"{front}admin/"
    assert "All times are in UTC." in index.text
    listed = session.get(f"{front}admin/experiments/experiment/", timeout=10)
    assert listed.status_code == 200
    docs = session.get(f"{front}api/docs", timeout=10)
    (schema,) = re.findall(r'url: "([^"]+schema[^"]*)"', docs.text)
    described = session.get(urljoin(docs.url, schema), timeout=20).text
    assert "/galileo" in described


def test_each_client_behind_the_proxy_has_its_own_limit(galileo: Galileo, front: str) -> None:
    user, password = galileo.administrator

    def status(given: str, address: str) -> int:
        # nginx adds the real address, 127.0.0.1, behind this one; both are trusted, so that this one counts.
        headers = {"X-Forwarded-For": address}
        return requests.get(f"{front}api", auth=(user, given), headers=headers, timeout=10).status_code

    assert [status("wrong", "203.0.113.7") for _ in range(5)] == [401, 401, 401, 429, 429]
    assert status(password, "203.0.113.7") == 429
    assert status(password, "203.0.113.8") == 200
