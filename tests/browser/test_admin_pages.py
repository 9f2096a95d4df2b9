"""The admin in a real browser."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page

from experiments.analysis.summary import summarise
from tests.support import batches

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def finished_experiment(db: None) -> str:
    User.objects.create_superuser("admin", password="only for this test")
    experiment = batches.make_experiment(status="FINISHED")
    experiment.summary = summarise(experiment)
    experiment.save()
    return experiment.id


def test_an_administrator_logs_in_and_opens_an_experiment(
    finished_experiment: str, live_server: Any, page: Page, troubles: list[str]
) -> None:
    page.goto(f"{live_server.url}/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "only for this test")
    page.click("input[type=submit]")
    assert page.inner_text("#site-name") == "Galileo"

    page.click("#content-main >> text=Experiments >> nth=-1")
    page.click(f"#result_list >> text={finished_experiment}")
    content = page.inner_text("#content")
    assert finished_experiment in content
    assert "response time" in content
    assert "INVALID" in content, "nothing was sent"
    assert troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_open_api_is_announced_on_each_page(
    finished_experiment: str, live_server: Any, page: Page, settings: Any, scheme: Any
) -> None:
    settings.GALILEO_API_IS_OPEN = True
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{live_server.url}/admin/")
    assert page.locator("text=The API is open").is_visible()
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "only for this test")
    page.click("input[type=submit]")
    for path in ("", "experiments/experiment/", f"experiments/experiment/{finished_experiment}/change/"):
        page.goto(f"{live_server.url}/admin/{path}")
        banner = page.locator("li.warning", has_text="The API is open").bounding_box()
        assert banner is not None
        assert banner["y"] < 150, "it is at the top"


def test_a_page_of_another_origin_cannot_use_an_open_api(live_server: Any, page: Page, settings: Any) -> None:
    settings.GALILEO_API_IS_OPEN = True
    answers: list[tuple[str, int]] = []
    page.on("response", lambda answer: answers.append((answer.request.method, answer.status)))
    address = urlsplit(live_server.url)
    api = f"http://127.0.0.1:{address.port}/api"
    page.goto(f"http://localhost:{address.port}/admin/login/")  # to a browser another site than 127.0.0.1
    for method, path in (("GET", ""), ("POST", "/apps"), ("POST", "/experiments")):
        page.evaluate(
            "([url, method]) => fetch(url, {method, mode: 'no-cors', body: method == 'GET' ? undefined : '{}'})",
            [api + path, method],
        )
    assert answers[-3:] == [("GET", 403), ("POST", 403), ("POST", 403)]
    page.goto(f"http://127.0.0.1:{address.port}/admin/login/")
    assert page.evaluate("url => fetch(url).then(answer => answer.status)", api) == 200
