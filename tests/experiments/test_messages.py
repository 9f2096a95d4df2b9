"""The wording of the messages of the API, routing, the shell, commands and settings; those of plans are with the plans.

GALILEO_REWRITE_MESSAGES=1 writes the snapshot beside this file again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.authtoken.models import Token

from experiments.models import Experiment
from experiments.shell import exp, g, rtbl, telemd
from galileo_site.environment import read_site
from routing import services
from routing.errors import InvalidInput, RequestRefused
from routing.table import find_errors
from tests.support import batches
from tests.support.messages import check_snapshot

pytestmark = pytest.mark.django_db(transaction=True)

SNAPSHOT = Path(__file__).with_name("messages.json")
JSON = "application/json"
UNKNOWN = "202611220000-none"

RECORDS: dict[str, tuple[object, object, object]] = {
    "nothing": (None, None, None),
    "empty": ("", [], []),
    "types": (3, [None, "a"], [True, "x"]),
    "formats": ("a b", ["http://a", "::1", "[a]:1", "[::1]x", "-a", "a:0", ""], [1] * 7),
    "ranges": ("s" * 192, ["h" * 192, "a", "b"], [-1, float("nan"), 2**60]),
    "lists": ("s", ["a", "A"], [0]),
    "weights": ("s", ["a", "b"], [0, 0]),
}
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "no JSON": ("post", "/api/experiments", "{"),
    "NaN": ("post", "/api/experiments", '{"a": NaN}'),
    "key twice": ("post", "/api/experiments", '{"a": 1, "a": 1}'),
    "too deep": ("post", "/api/experiments", "[" * 100_000),
    "too large": ("post", "/api/experiments", " " * 1_100_000),
    "parameters": ("get", "/api/experiments?limit=0&offset=x&page=2&status=RUNNING&creator=", None),
    "parameter twice": ("get", "/api/experiments?limit=1&limit=2", None),
    "label": ("get", "/api/workers?label=zone", None),
    "reason": ("post", f"/api/experiments/{UNKNOWN}/cancel", {"reason": 5, "why": ""}),
    "mark": ("post", "/api/experiments/{id}/events", {"name": "\0", "timestamp": "now"}),
    "mark's time": ("post", "/api/experiments/{id}/events", {"name": "x", "timestamp": -1}),
    "ping": ("post", "/api/worker/ping", {"timeout_s": 11}),
    "series": ("get", "/api/experiments/{id}/series?from=inf&step=0", None),
    "record's keys": ("post", "/api/routing", {"host": ["a"]}),
    "record's type": ("post", "/api/routing", [1]),
    "record exists": ("post", "/api/routing", {"service": "web", "hosts": ["a"]}),
    "case": ("put", "/api/routing/WEB", {"hosts": ["a"]}),
    "no change": ("patch", "/api/routing/web", {}),
    "no record": ("get", "/api/routing/none", None),
    "no experiment": ("get", f"/api/experiments/{UNKNOWN}", None),
    "no summary": ("get", "/api/experiments/{id}/summary", None),
    "no group": ("get", "/api/groups/g-none", None),
    "no worker": ("get", "/api/worker/none", None),
    "no app": ("get", "/api/apps/none", None),
    "no resource": ("get", "/api/nothing", None),
    "no method": ("put", "/api/experiments", {}),
    "not interactive": ("post", "/api/experiments/{id}/tracing", {"tracing": False}),
}
CALLS: dict[str, Callable[[], Any]] = {
    "timeout's type": lambda: g.ping("soon"),  # type: ignore[arg-type]
    "timeout's range": lambda: g.ping(float("nan")),
    "clients": lambda: g.clients("g-none"),
    "kwargs": lambda: g.request("web", kwargs={"dato": 1}),
    "kwargs' type": lambda: g.request("web", kwargs=[1]),
    "no host": lambda: g.request("none"),
    "tracing": g.stop_tracing,
    "stop": exp.stop,
    "hosts": lambda: telemd.stop_telemd([3]),  # type: ignore[list-item]
    "node": lambda: telemd.stop_telemd(["none"]),
    "weights": lambda: rtbl.update_weights("none", [1]),
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "password": ("ensure_admin",),
    "report": ("report", UNKNOWN),
    "record": ("set_route", "a b", "a:0@-1", "b"),
    "source": ("shell", "--source", "/nowhere.py"),
}
SETTINGS: dict[str, dict[str, str]] = {
    "none": {},
    "site": {
        "galileo_api_auth": "none",
        "galileo_allowed_hosts": "*",
        "galileo_api_rate": "5/day",
        "galileo_apps_dir": "/nowhere",
        "galileo_ingest_queues": "2",
    },
}


def message_of(do: Callable[[], Any]) -> Any:
    """The message of the error that a call raises."""
    with pytest.raises((InvalidInput, RequestRefused, CommandError)) as refused:
        do()
    error = refused.value
    return (error.text if isinstance(error, InvalidInput) else str(error)).splitlines()


def problem_of(api: Client, method: str, path: str, body: Any, experiment: Experiment) -> Any:
    path = path.replace("{id}", experiment.id)
    data = body if isinstance(body, str) else json.dumps(body)
    answer = api.get(path) if method == "get" else getattr(api, method)(path, data, content_type=JSON)
    problem = answer.json()
    errors = [f"{error['field']} ({error['code']}): {error['message']}" for error in problem["errors"]]
    return [f"{answer.status_code}: {problem['detail']}".replace(experiment.id, "<id>"), *errors]


def test_public_messages_are_those_of_the_snapshot(broker: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("galileo_admin_password", raising=False)
    token = Token.objects.create(user=User.objects.create_superuser("admin"))
    api = Client(headers={"Authorization": f"Token {token.key}"})
    experiment = batches.make_experiment(status="RUNNING")
    services.set_record("web", ["127.0.0.1:9"])
    messages = {
        "API": {name: problem_of(api, *request, experiment) for name, request in REQUESTS.items()},
        "routing": {name: list(map(str, find_errors(*record))) for name, record in RECORDS.items()},
        "shell": {name: message_of(call) for name, call in CALLS.items()},
        "commands": {name: message_of(lambda line=line: call_command(*line)) for name, line in COMMANDS.items()},
        "settings": {name: message_of(lambda values=values: read_site(values)) for name, values in SETTINGS.items()},
    }
    check_snapshot(SNAPSHOT, messages)
