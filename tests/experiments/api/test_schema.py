"""The schema against the API that it describes: Schemathesis sends what it allows and what it does not.

GALILEO_API_EXAMPLES=500 sends that many random requests for each operation, beside those that cover the schema.
"""

from __future__ import annotations

import os
import re
import zlib
from typing import Any

import pytest
import redis
import schemathesis
from django.contrib.auth.models import User
from hypothesis import HealthCheck, Phase, settings
from rest_framework.authtoken.models import Token
from schemathesis.checks import load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData, ServerError
from schemathesis.generation import GenerationMode
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.python._constants.orchestrator import make_constants_value_source

from experiments.api.index import document as described
from experiments.ingest.ingest import ingest
from experiments.models import Event, TelemetrySample
from experiments.plans import parse_group
from experiments.services import apps, groups, workers
from experiments.services import experiments as services
from galileo_site.wsgi import application
from loadgen.protocol.keys import worker_key
from routing import services as routing
from tests.support import batches
from tests.support.archives import app_archive
from tests.support.plans import plan, plan_data
from tests.support.workers import register

EXAMPLES = int(os.environ.get("GALILEO_API_EXAMPLES", "12"))
pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(60 + 5 * EXAMPLES),
]
CONFIG = SchemathesisConfig.from_dict({"seed": 1, "generation": {"with-security-parameters": False}})
# Operations whose bodies have rules between their fields, which no schema says, and those that take a worker or a slot.
RULED = {
    "experiments_create",
    "groups_create",
    "groups_command",
    "groups_clients",
    "apps_create",
    "experiments_events_create",
    "experiments_series_retrieve",
} | {f"routing_{name}" for name in ("create", "update", "partial_update")}
PLACED = {"experiments_create", "groups_create", "groups_clients"}


def whole(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application, whose answers are closed, as a web server does."""
    answer: Any = application(environ, start_response)
    try:
        return [b"".join(answer)]
    finally:
        answer.close()


schemathesis.serializer.alias("application/zip", "application/octet-stream")
api = schemathesis.openapi.from_dict(described(), config=CONFIG)
api.app = whole
OPERATIONS = {operation.label: operation for operation in (result.ok() for result in api.get_all_operations())}


@api.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether it is one: NUL is refused in each text, and some bodies for what no schema says; some may be left out."""
    described = case.operation.definition.raw
    operation = described["operationId"]
    if isinstance(failure, AcceptedNegativeData) and not response.request.body:
        return bool(described.get("requestBody", {}).get("required"))
    if isinstance(failure, RejectedPositiveData):
        sent = f"{response.request.url} {case.body}"
        return not (
            any(nul in sent for nul in ("%00", "\0", r"\x00")) or (operation in RULED and response.status_code == 400)
        )
    if isinstance(failure, ServerError):
        return not (operation in PLACED and response.status_code == 503)
    return True


def made_real(case: Any) -> Any:
    """Ids of what there is, in place of most that are only well-formed, and bodies that hold together."""
    in_coverage = case.meta.phase.name == TestPhase.COVERAGE
    for name, value in (case.path_parameters or {}).items():
        number = zlib.crc32(str(value).encode(errors="replace"))
        if name in REAL and re.fullmatch(PATTERNS[name], str(value)) and (in_coverage or number % 4):
            case.path_parameters[name] = REAL[name][number % len(REAL[name])]
    if case.operation.path == "/api/worker/ping" and isinstance(case.body, dict):
        wait_s = case.body.get("timeout_s", 1.0)
        if type(wait_s) in (int, float) and 0.05 < wait_s <= 10:
            case.body = {**case.body, "timeout_s": 0.05}  # nobody is there to answer
    if case.meta.generation.mode == GenerationMode.POSITIVE and not in_coverage:
        case.body = sound(case.operation.definition.raw["operationId"], case.body)
    return case


def sound(operation: str, body: Any) -> Any:
    """The body, with what makes those accepted that are only well-formed."""
    if not isinstance(body, dict):
        return body
    if operation == "experiments_create" and body.get("configuration"):
        # Durations as numbers: Schemathesis checks the body again, and its format of durations is that of ISO 8601.
        configuration = {**plan_data()["configuration"], "duration": 2, "interval": 1}
        return {**body, "configuration": configuration, "routing": plan_data()["routing"], "events": None}
    if operation in ("routing_create", "routing_update", "routing_partial_update") and body.get("hosts"):
        return {**body, "hosts": body["hosts"][:1], "weights": [1]}
    if operation == "groups_create":
        return {name: value for name, value in body.items() if name in ("service", "num", "max_in_flight", "capture")}
    return body


PATTERNS = {
    "experiment_id": "[0-9A-Za-z-]{1,24}",
    "group_id": "[0-9A-Za-z-]{1,40}",
    "name": "[^/]{1,200}",
    "service": "[^/]+",
}
REAL: dict[str, list[str]] = {"name": ["shop"], "service": ["web"]}


@pytest.fixture
def headers(broker: redis.Redis, settings: Any, tmp_path: Any) -> dict[str, str]:
    """Of an administrator, in a world that has one of everything, and a worker that never goes."""
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "apps"
    settings.GALILEO_LOGIN_RATE = None  # it sends wrong passwords by the dozen
    register(broker, "pi-1", slots=1000)
    broker.persist(worker_key("pi-1"))
    workers.sync_workers()
    apps.upload(app_archive(), "admin")
    routing.set_record("web", ["127.0.0.1:9"])
    queued = services.create(plan(), "admin")
    experiment = batches.make_experiment(status="FINISHED")
    for shard in batches.shards_of(experiment):
        for payload in batches.run_payloads(shard):
            ingest(payload)
    TelemetrySample.objects.create(
        experiment=experiment, node="pi-1", metric="cpu", subsystem="", timestamp_ns=batches.START_NS, value=0.5
    )
    Event.objects.create(experiment=experiment, timestamp=batches.START, name="mark", key="mark")
    REAL["experiment_id"] = [experiment.id, queued.id]
    REAL["group_id"] = [groups.spawn(parse_group({"service": "web", "num": 3}), "admin").id]
    return {"Authorization": f"Token {Token.objects.create(user=User.objects.create_superuser('admin')).key}"}


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def assert_answer_is_described(case: Any, headers: dict[str, str]) -> None:
    made_real(case).call_and_validate(headers=headers)


# api.parametrize() would do the same, but it makes all requests at collection: ten seconds of CPU in each process, even
# where these tests are deselected. Seen with Schemathesis 4.
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_a_described_one(label: str, headers: dict[str, str]) -> None:
    load_all_checks()
    test = build_operation_test(
        config=api.config,
        operation=OPERATIONS[label],
        test_func=assert_answer_is_described,
        given_kwargs={},
        feedback=FeedbackSources(constants_value_source=make_constants_value_source(api)),
    )
    test(headers=headers)
