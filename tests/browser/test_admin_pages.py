"""The admin in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page

from experiments.summary import summarise
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
