"""The client app `squeezenet`, executed as a worker executes it: once per client, with a `context` in its globals."""

from __future__ import annotations

import pytest

from examples.apps.squeezenet.shapes import KINDS
from examples.service.classifier import train
from loadgen.engine import AppError
from tests.examples.client_apps import APPS, client, needs_nothing

SQUEEZENET = APPS / "squeezenet"


def test_a_request_posts_a_png_to_the_models_path() -> None:
    method, path, keywords = client(SQUEEZENET)()
    assert (method, path) == ("post", "/predictions/squeezenet")
    assert set(keywords) == {"data", "headers"}
    assert keywords["headers"] == {"Content-Type": "image/png"}
    assert keywords["data"].startswith(b"\x89PNG")


def test_the_pictures_are_sent_in_turn() -> None:
    next_request = client(SQUEEZENET, images=3)
    sent = [next_request()[2]["data"] for _ in range(6)]
    assert len(set(sent)) == 3
    assert sent[:3] == sent[3:]


def test_the_parameters_of_the_plan_are_applied() -> None:
    assert client(SQUEEZENET, model="mobilenet", size=16, images=1)()[1] == "/predictions/mobilenet"


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(AppError, match=r"client_parameters\.size: must be at least 16, got 4; .*did you mean 'images'"):
        client(SQUEEZENET, size=4, image=1)


def test_the_service_recognises_the_clients_shapes() -> None:
    next_request, classifier = client(SQUEEZENET, images=len(KINDS)), train()
    answers = [next(iter(classifier.predict(next_request()[2]["data"]))) for _ in KINDS]
    assert answers == list(KINDS)


def test_the_app_needs_nothing_but_the_standard_library() -> None:
    assert needs_nothing(SQUEEZENET)
