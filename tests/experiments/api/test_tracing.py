"""Pausing and resuming an interactive experiment's tracing over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from experiments.models import Experiment
from experiments.services import interactive
from tests.support.messages import errors_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("broker")]


@pytest.fixture
def experiment(db: None, broker: Any) -> Experiment:
    return interactive.start("by hand", "tester", {})


def post(client: Client, experiment_id: str, data: Any) -> Any:
    return client.post(f"/api/experiments/{experiment_id}/tracing", json.dumps(data), content_type="application/json")


def test_tracing_is_paused_and_resumed(api: Client, experiment: Experiment) -> None:
    for tracing in (False, True):
        answer = post(api, experiment.id, {"tracing": tracing})
        assert (answer.status_code, answer.json()) == (200, {"tracing": tracing})
        assert api.get(f"/api/experiments/{experiment.id}").json()["tracing"] is tracing


@pytest.mark.parametrize(("data", "field"), [({}, "tracing"), ({"tracing": 1}, "tracing")])
def test_bad_input_is_refused_with_its_field_and_changes_nothing(
    api: Client, experiment: Experiment, data: Any, field: str
) -> None:
    answer = post(api, experiment.id, data)
    assert (answer.status_code, [path for path, _ in errors_of(answer)]) == (400, [field])
    experiment.refresh_from_db()
    assert experiment.tracing


def test_one_that_does_not_run_is_a_409_and_an_unknown_one_a_404(api: Client, experiment: Experiment) -> None:
    interactive.stop(experiment.id)
    answer = post(api, experiment.id, {"tracing": False})
    assert (answer.status_code, "is FINALIZING" in answer.json()["detail"]) == (409, True)
    assert post(api, "202611220000-none", {"tracing": False}).status_code == 404


def test_view_permission_cannot_change_tracing(client: Client, experiment: Experiment) -> None:
    user = User.objects.create_user("reader")
    user.user_permissions.add(Permission.objects.get(codename="view_experiment"))
    client.force_login(user)
    assert post(client, experiment.id, {"tracing": False}).status_code == 403
    experiment.refresh_from_db()
    assert experiment.tracing
