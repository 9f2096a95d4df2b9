"""The admin in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, sync_playwright

from experiments.summary import summarise
from tests.support import batches
from tests.support.needed import need

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --no-proxy-server"
).split()

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def chromium() -> Path:
    return need("/usr/bin/chromium", "chromium")


@pytest.fixture
def page(chromium: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser.new_page()
        browser.close()


@pytest.fixture
def finished_experiment(db: None) -> str:
    User.objects.create_superuser("admin", password="only for this test")
    experiment = batches.make_experiment(status="FINISHED")
    experiment.summary = summarise(experiment)
    experiment.save()
    return experiment.id


def test_an_administrator_logs_in_and_opens_an_experiment(
    finished_experiment: str, live_server: Any, page: Page
) -> None:
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("response", lambda answer: troubles.append(answer.url) if answer.status >= 400 else None)

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
