"""The page of the API's documentation in a real browser, which reaches nothing but the server."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page

from experiments.api.index import document

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def session(db: None, client: Client) -> str:
    """The cookie of an administrator."""
    client.force_login(User.objects.create_superuser("admin"))
    return client.cookies["sessionid"].value


def test_the_docs_show_every_operation_without_the_internet(
    session: str, live_server: Any, page: Page, troubles: list[str]
) -> None:
    page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"{live_server.url}/api/docs")
    page.wait_for_selector("text=Queues an experiment from its plan")
    assert page.locator(".opblock").count() == sum(map(len, document()["paths"].values()))
    page.click("text=Queues an experiment from its plan")
    assert "arrival_pattern" in page.inner_text(".opblock.is-open")
    assert all(url.startswith((live_server.url, "data:")) for url in asked)
    assert troubles == []


def test_the_docs_are_for_whoever_may_use_the_api(client: Client) -> None:
    for path in ("/api/docs", "/api/schema"):
        assert client.get(path).status_code == 401
    client.force_login(User.objects.create_user("anybody"))
    assert client.get("/api/docs").headers["Content-Type"].startswith("text/html")
    assert client.get("/api/schema", headers={"Accept": "application/json"}).json()["openapi"] == "3.1.0"
    assert client.get("/api/schema?format=yaml").content.startswith(b"openapi: 3.1.0")
