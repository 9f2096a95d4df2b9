"""Plans: what is accepted, and that everything wrong is named at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.plans import Plan, PlanInvalid, load_yaml, parse
from experiments.plans.fields import duration_of
from loadgen.arrivals.schedule import Schedule
from loadgen.protocol.codec import from_wire, to_wire
from loadgen.protocol.enums import OnWorkerLoss
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.request_ids import IDS_VERSION
from routing.errors import MAX_ERRORS, Code
from routing.table import RoutingRecord
from tests.experiments.plans.bad_plans import BAD, BAD_FILES, CLOSED_WORKLOAD, GOOD, QUEUED, WORKLOAD, plan_with
from tests.experiments.plans.messages import FILE, messages
from tests.support.examples import examples


def errors_of(data: object) -> list[tuple[str, Code]]:
    with pytest.raises(PlanInvalid) as caught:
        parse(data)
    return [(error.path, error.code) for error in caught.value.errors]


@pytest.mark.parametrize(("changes", "path", "code"), BAD, ids=range(len(BAD)))
def test_bad_plan_is_refused_with_its_path_and_code(changes: dict[str, Any], path: str, code: Code) -> None:
    assert errors_of(plan_with(changes)) == [(path, code)]


def test_wording_of_refusals_is_that_of_the_snapshot() -> None:
    assert messages() == FILE.read_text()


@pytest.mark.parametrize("data", [None, 5, "plan", [], [GOOD], True, 1.5], ids=repr)
def test_plan_must_be_a_mapping(data: object) -> None:
    assert errors_of(data) == [("plan", Code.TYPE)]


@pytest.mark.parametrize(("text", "code"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_bad_file_is_refused_with_a_code(text: bytes, code: Code) -> None:
    with pytest.raises(PlanInvalid) as caught:
        load_yaml(text)
    (error,) = caught.value.errors
    assert (error.path, error.code) == ("plan", code)


def test_misspelt_required_key_is_missing_and_unknown() -> None:
    errors = errors_of(plan_with({"events": [{"at": 1, "nam": "x"}]}))
    assert errors == [("events[0].name", Code.REQUIRED), ("events[0].nam", Code.UNKNOWN)]


def test_every_error_is_named_at_once() -> None:
    plan = plan_with(
        {
            "experiment.name": 3,
            "configuration.duration": "soon",
            f"{WORKLOAD}.ticks": [1, -1, "x"],
            f"{WORKLOAD}.clients_per_host": "many",
            "seed": "s",
            "extra": 1,
        }
    )
    assert [path for path, _ in errors_of(plan)] == [
        "experiment.name",
        "configuration.duration",
        f"{WORKLOAD}.ticks[1]",
        f"{WORKLOAD}.ticks[2]",
        f"{WORKLOAD}.clients_per_host",
        "seed",
        "extra",
    ]


def test_a_flood_of_errors_is_cut_off_and_counted() -> None:
    errors = errors_of(plan_with({f"{WORKLOAD}.ticks": ["x"] * 1000}))
    assert len(errors) == MAX_ERRORS + 1
    assert errors[-1] == ("plan", Code.RANGE)
    with pytest.raises(PlanInvalid, match=f"plan: {1001 - MAX_ERRORS} more errors were left out"):
        parse(plan_with({f"{WORKLOAD}.ticks": ["x"] * 1000}))


def test_the_defaults_are_those_of_the_original() -> None:
    plan = parse(GOOD)
    (workload,) = plan.workloads
    assert (plan.experiment.name, plan.experiment.creator, plan.seed) == ("good", "alice", None)
    assert (plan.routing, plan.metadata) == ([], {})
    assert (workload.clients, workload.arrival_pattern, workload.client) == (3, ("constant", []), None)
    assert (workload.method, workload.path, workload.kwargs, workload.router) == ("GET", "/", {}, "")


def test_the_experiment_section_is_optional() -> None:
    plan = parse({"configuration": GOOD["configuration"]})
    assert plan.experiment.name == "experiment"
    assert plan.experiment.creator is None


def test_a_key_without_a_value_counts_as_absent() -> None:
    plan = parse(plan_with({"seed": None, "metadata": None, f"{WORKLOAD}.client": None, "experiment": None}))
    assert plan.experiment.name == "experiment"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("2m", 120), ("1h30m", 5400), ("1.5s", 1.5), ("500ms", 0.5), ("1d", 86400), ("2m500ms", 120.5),
     (7, 7), (0.25, 0.25), (" 5s ", 5), ("1h1m1s1ms", 3661.001)],
)  # fmt: skip
def test_durations_are_texts_with_units_or_seconds(text: object, seconds: float) -> None:
    assert duration_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1", "1s1s", "1s1m", "1 s", "1S", "1e3s", "١s", "1m s", [], {}, None, True])
def test_anything_else_is_no_duration(text: object) -> None:
    assert duration_of(text) is None


@pytest.mark.parametrize(
    ("duration", "interval", "intervals"),
    [("10s", "4s", 3), ("10s", "5s", 2), (1.1, 0.1, 11), (0.7, 0.1, 7), ("3s", "10s", 1), ("1s", "300ms", 4)],
)
def test_a_last_partial_interval_needs_its_own_number(duration: object, interval: object, intervals: int) -> None:
    changes = {"configuration.duration": duration, "configuration.interval": interval}
    plan = parse(plan_with({**changes, f"{WORKLOAD}.ticks": [1] * intervals}))
    (spec,) = plan.workload_specs()
    assert len(spec.schedule) == intervals
    assert sum(step[0] for step in spec.schedule) == pytest.approx(plan.duration_s)
    assert errors_of(plan_with({**changes, f"{WORKLOAD}.ticks": [1] * (intervals + 1)}))


@pytest.mark.parametrize(
    ("pattern", "process"),
    [(None, "constant"), ("constant", "constant"), ("expovariate", "expovariate"), ("poisson", "expovariate"),
     ("exponential", "expovariate"), (["expovariate", 5], "expovariate"), ({"expovariate": 5}, "expovariate"),
     (["constant", 0.1], "constant")],
)  # fmt: skip
def test_arrival_patterns_have_the_names_of_the_original(pattern: object, process: str) -> None:
    (spec,) = parse(plan_with({f"{WORKLOAD}.arrival_pattern": pattern})).workload_specs()
    assert spec.arrival_process == process


def test_labels_lose_their_prefix_and_add_to_the_plans() -> None:
    plan = parse(
        plan_with(
            {
                "worker_labels": {"galileo_zone": "A", "galileo_rack": 7},
                f"{WORKLOAD}.worker_labels": {"galileo_zone": "B", "worker_name": "pi3"},
            }
        )
    )
    assert plan.workloads[0].worker_labels == {"zone": "B", "rack": "7", "worker_name": "pi3"}


def test_routing_is_a_list_or_a_mapping() -> None:
    record = RoutingRecord("web", ["a:1", "b:2"], [1, 2.5])
    listed = [{"service": "web", "hosts": ["a:1", "b:2"], "weights": [1, 2.5]}]
    assert parse(plan_with({"routing": listed})).routing == [record]
    mapped = {"web": {"hosts": ["a:1", "b:2"], "weights": [1, 2.5]}}
    assert parse(plan_with({"routing": mapped})).routing == [record]
    assert parse(plan_with({"routing": {"web": {"hosts": ["a"]}}})).routing == [RoutingRecord("web", ["a"], [1])]


def test_parameters_without_an_app_may_hold_the_request() -> None:
    parameters = {"method": "post", "path": "/p", "kwargs": {"json": {"a": 1}, "headers": {"X-A": "b"}}}
    (spec,) = parse(plan_with({f"{WORKLOAD}.client_parameters": parameters})).workload_specs()
    assert (spec.method, spec.path, spec.kwargs) == ("POST", "/p", parameters["kwargs"])
    assert spec.client_parameters == {}


def test_every_field_reaches_the_wire() -> None:
    fields: dict[str, Any] = {
        "service": "web",
        "ticks": [1, 2, 3],
        "clients_per_host": 7,
        "arrival_pattern": "poisson",
        "worker_labels": {"zone": "A"},
        "router": "StaticRouter",
        "static_host": "https://pi:8443/a",
        "balancer": "random",
        "scheme": "https",
        "connection": "new",
        "max_connections_per_host": 20,
        "method": "put",
        "path": "/x?y=1",
        "kwargs": {"params": {"a": [1, 2]}, "data": "text", "auth": ["u", "p"], "timeout": 2.5},
        "request_timeout": "2s",
        "connect_timeout": 0.5,
        "max_in_flight": 10,
        "max_lateness": "100ms",
        "request_id_header": "X-Id",
        "cookies": "keep",
        "capture": "errors",
        "capture_bytes": 100,
    }
    (spec,) = parse(plan_with({"configuration.workloads": [fields]})).workload_specs()
    assert spec == WorkloadSpec(
        index=0,
        service="web",
        schedule=[[4.0, 1], [4.0, 2], [2.0, 3]],
        arrival_process="expovariate",
        method="PUT",
        path="/x?y=1",
        kwargs=fields["kwargs"],
        router="static",
        static_host="https://pi:8443/a",
        balancer="random",
        scheme="https",
        connection="new",
        max_connections_per_host=20,
        request_timeout_s=2.0,
        connect_timeout_s=0.5,
        max_in_flight=10,
        max_lateness_s=0.1,
        request_id_header="X-Id",
        ids_version=IDS_VERSION,
        cookies="keep",
        capture="errors",
        capture_bytes=100,
    )
    assert from_wire(WorkloadSpec, json.loads(json.dumps(to_wire(spec)))) == spec


def test_a_closed_workload_asks_for_clients_interval_by_interval() -> None:
    plan = parse(plan_with({WORKLOAD: {**CLOSED_WORKLOAD, "requests_per_client": 5, "think_time": "20ms"}}))
    (workload,) = plan.workloads
    (spec,) = plan.workload_specs()
    assert (workload.ticks, workload.clients_by_interval, workload.clients) == ([], [1, 3, 0], 3)
    assert (spec.model, spec.schedule, spec.requests_per_client) == ("closed", [[4.0, 1], [4.0, 3], [2.0, 0]], 5)
    assert (spec.think_time, spec.think_time_parameters, spec.max_in_flight) == ("constant", [0.02], 3)
    assert from_wire(WorkloadSpec, json.loads(json.dumps(to_wire(spec)))) == spec


@pytest.mark.parametrize(
    ("think_time", "expected"),
    [(None, ("constant", [0.0])), (0, ("constant", [0.0])), (1.5, ("constant", [1.5])), ("2s", ("constant", [2.0])),
     ({"process": "uniform", "a": 1, "b": 3}, ("uniform", [1.0, 3.0]))],
)  # fmt: skip
def test_a_think_time_is_a_duration_or_a_distribution_of_seconds(think_time: object, expected: object) -> None:
    (spec,) = parse(plan_with({WORKLOAD: {**CLOSED_WORKLOAD, "think_time": think_time}})).workload_specs()
    assert (spec.think_time, spec.think_time_parameters) == expected


def test_shards_per_worker_is_not_in_the_wire_message() -> None:
    asked = [parse(plan_with({f"{WORKLOAD}.shards_per_worker": value})) for value in (None, "auto", 3)]
    assert [plan.workloads[0].shards_per_worker for plan in asked] == [None, None, 3]
    assert asked[0].workload_specs() == asked[2].workload_specs()


def test_placement_queue_takes_one_label_also_of_the_plan() -> None:
    workload = {"service": "web", "ticks": [1, 2.5, 0], "placement": "queue", "shards": 2}
    plan = parse(plan_with({WORKLOAD: workload, "worker_labels": {"galileo_zone": "A"}}))
    (placed,) = plan.workloads
    assert (placed.placement, placed.shards, placed.worker_labels) == ("queue", 2, {"zone": "A"})
    assert parse(plan.to_dict()) == plan


def test_traceparent_header_is_written_in_lower_case() -> None:
    (spec,) = parse(plan_with({f"{WORKLOAD}.request_id_header": "TraceParent"})).workload_specs()
    assert spec.request_id_header == "traceparent"


def test_without_a_request_id_header_the_wire_has_an_empty_name() -> None:
    (spec,) = parse(plan_with({f"{WORKLOAD}.request_id_header": "off"})).workload_specs()
    assert spec.request_id_header == ""


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.yml")), ids=lambda path: path.stem)
def test_the_examples_are_good_plans(path: Path) -> None:
    assert parse(load_yaml(path.read_bytes())).experiment.name == path.stem


def test_plain_scalars_are_those_of_yaml_1_2() -> None:
    data = load_yaml(b"a: on\nb: 010\nc: 1e3\nd: 2026-11-22\ne: 1:30\nf: ~\ng: '5'\nh: .inf\n1: true\ni: 0.5")
    assert data == {
        "a": "on", "b": 10, "c": 1000.0, "d": "2026-11-22", "e": "1:30", "f": None, "g": "5", "h": float("inf"),
        "1": True, "i": 0.5,
    }  # fmt: skip


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates()
    | st.sampled_from(["10s", "1h", "expovariate", "web", "a:1", "/", "galileo_zone"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = st.sampled_from(["experiment", "configuration", "events", "routing", "seed", "metadata", "worker_labels"])
WORKLOAD_KEYS = st.sampled_from(
    "service ticks clients_per_host arrival_pattern client client_parameters worker_labels router method path kwargs "
    "static_host balancer "
    "request_timeout connect_timeout max_in_flight max_lateness request_id_header model clients think_time "
    "requests_per_client scheme connection max_connections_per_host shards_per_worker "
    "placement shards".split()
)
NEARLY_WORKLOADS = st.lists(st.dictionaries(WORKLOAD_KEYS, JSON_LIKE, max_size=6), max_size=3)
NEARLY_PLANS = st.fixed_dictionaries(
    {
        "configuration": st.fixed_dictionaries(
            {"duration": st.just("3s") | JSON_LIKE, "interval": JSON_LIKE, "workloads": NEARLY_WORKLOADS}
        )
    }
)


def parse_or_refuse(data: object) -> Plan | None:
    try:
        return parse(data)
    except PlanInvalid as invalid:
        assert invalid.errors
        assert all(error.path and error.message for error in invalid.errors)
        json.dumps(str(invalid))
        return None


@settings(max_examples=examples(200), deadline=None)
@given(JSON_LIKE | st.dictionaries(KEYS, JSON_LIKE) | NEARLY_PLANS)
def test_arbitrary_data_is_a_plan_or_refused(data: object) -> None:
    parse_or_refuse(data)


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(WORKLOAD_KEYS, JSON_LIKE, max_size=4))
def test_arbitrary_workload_fields_are_accepted_or_refused(fields: dict[str, Any]) -> None:
    plan = parse_or_refuse(plan_with({WORKLOAD: {"service": "web", "ticks": [1, 2, 3], **fields}}))
    if plan is not None:
        json.dumps(plan.to_dict(), allow_nan=False).encode()


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(WORKLOAD_KEYS, JSON_LIKE, max_size=4))
def test_arbitrary_closed_fields_are_accepted_or_refused(fields: dict[str, Any]) -> None:
    plan = parse_or_refuse(plan_with({WORKLOAD: {**CLOSED_WORKLOAD, **fields}}))
    if plan is not None:
        json.dumps(plan.to_dict(), allow_nan=False).encode()


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_a_document_or_refused(text: bytes) -> None:
    try:
        data = load_yaml(text)
    except PlanInvalid:
        return
    assert isinstance(data, dict)


@st.composite
def good_plans(draw: st.DrawFn) -> dict[str, Any]:
    intervals = draw(st.integers(1, 5))
    rates = st.integers(1, 1000) | st.floats(0.001, 1000)
    shared = {
        "client": st.just("app"),
        "scheme": st.sampled_from(["http", "https"]),
        "connection": st.sampled_from(["keep-alive", "new"]),
        "max_connections_per_host": st.none() | st.integers(1, 100),
        "request_timeout": st.sampled_from(["5s", 2.5]),
        "request_id_header": st.sampled_from(["X-Id", "off", "traceparent"]),
        "cookies": st.sampled_from([None, "ignore", "keep"]),
        "capture": st.sampled_from(["none", "headers", "full", "errors"]),
        "capture_bytes": st.integers(64, 65_536),
    }
    closed_workload = st.fixed_dictionaries(
        {
            "service": st.just("web"),
            "model": st.just("closed"),
            "clients": st.lists(st.integers(1, 50), min_size=intervals, max_size=intervals),
        },
        optional={
            **shared,
            "requests_per_client": st.none() | st.integers(1, 100),
            "think_time": st.sampled_from([0, "1s", "expovariate"]),
        },
    )
    open_workload = st.fixed_dictionaries(
        {"service": st.just("web"), "ticks": st.lists(rates, min_size=intervals, max_size=intervals)},
        optional={
            "clients_per_host": st.integers(1, 100),
            "arrival_pattern": st.sampled_from(["constant", "poisson", "uniform", ["weibullvariate", 1, 1.5]]),
            **shared,
        },
    )
    labels: dict[str, Any] = {"worker_labels": {"galileo_zone": "A"}}
    placing = st.sampled_from([labels, {"shards_per_worker": "auto"}, {"shards_per_worker": 1}, QUEUED | {"shards": 1}])
    workloads = draw(st.lists(open_workload | closed_workload, min_size=1, max_size=3))
    workloads = [workload | draw(placing) for workload in workloads]
    policies = (
        [OnWorkerLoss.CONTINUE, OnWorkerLoss.FAIL]
        if any("requests_per_client" in workload for workload in workloads)
        else OnWorkerLoss
    )
    interval_ms = draw(st.integers(1, 10_000))
    cut_ms = draw(st.integers(0, interval_ms - 1))
    listed_ms = draw(st.none() | st.lists(st.integers(1, 10_000), min_size=intervals, max_size=intervals))
    duration_ms = sum(listed_ms) if listed_ms else interval_ms * intervals - cut_ms
    return {
        "configuration": {
            "duration": f"{duration_ms}ms",
            "interval": [each / 1000 for each in listed_ms] if listed_ms else interval_ms / 1000,
            "workloads": workloads,
            "on_worker_loss": draw(st.sampled_from(policies)),
            "tracing": any(each.get("capture", "none") != "none" for each in workloads) or draw(st.booleans()),
        },
        "seed": draw(st.none() | st.integers(0, 2**63 - 1)),
        "events": [{"at": draw(st.integers(0, duration_ms)) / 1000, "name": "x"}] * draw(st.integers(0, 2)),
        "metadata": draw(st.dictionaries(st.text("abc", min_size=1), st.text("xyz"), max_size=2)),
        "routing": draw(st.sampled_from([None, [{"service": "web", "hosts": ["a:1"], "weights": [2]}]])),
    }


@settings(max_examples=examples(100), deadline=None)
@given(good_plans())
def test_a_good_plan_survives_its_normal_form(data: dict[str, Any]) -> None:
    plan = parse(data)
    assert parse(json.loads(json.dumps(plan.to_dict()))) == plan
    for spec in plan.workload_specs():
        schedule = Schedule([(round(seconds * 1e9), rate) for seconds, rate in spec.schedule])
        assert schedule.duration_ns == plan.duration_ns


@pytest.mark.parametrize(
    ("name", "router"),
    [("CachingSymmetryServiceRouter", "service"), ("DebugRouter", "debug"), ("host", "host"), (None, "")],
)
def test_a_workload_names_its_router_or_leaves_it_to_the_worker(name: str | None, router: str) -> None:
    plan = parse(plan_with({f"{WORKLOAD}.router": name}))
    assert [spec.router for spec in plan.workload_specs()] == [router]
    assert parse(plan.to_dict()) == plan


def test_a_place_of_the_static_router_that_is_none_is_refused() -> None:
    errors = errors_of(plan_with({f"{WORKLOAD}.router": "static", f"{WORKLOAD}.static_host": "ftp://pi"}))
    assert errors == [(f"{WORKLOAD}.static_host", Code.FORMAT)]


def test_intervals_may_be_listed_one_by_one() -> None:
    plan = parse(plan_with({"configuration.duration": "9s", "configuration.interval": ["2s", 5, 2.0]}))
    (spec,) = plan.workload_specs()
    assert spec.schedule == [[2, 1], [5, 2.5], [2, 0]]
    assert plan.to_dict()["configuration"]["interval"] == [2, 5, 2]


def test_a_workload_may_be_silent_beside_one_that_is_not() -> None:
    silent = {"service": "idle", "ticks": [0, 0, 0]}
    plan = plan_with({})
    plan["configuration"]["workloads"].append(silent)
    assert [workload.ticks for workload in parse(plan).workloads] == [[1, 2.5, 0], [0, 0, 0]]
    plan["configuration"]["workloads"] = [silent, silent]
    assert [path for path, _ in errors_of(plan)] == [f"configuration.workloads[{index}].ticks" for index in (0, 1)]


def test_a_plan_may_have_events_of_its_own() -> None:
    events = [{"at": "2s", "name": "warm"}, {"at": 0, "name": "start", "value": "now"}, {"at": 10, "name": "end"}]
    plan = parse(plan_with({"events": events}))
    assert [(event.at_ns, event.name, event.value) for event in plan.events] == [
        (2_000_000_000, "warm", ""),
        (0, "start", "now"),
        (10_000_000_000, "end", ""),
    ]
    assert parse(json.loads(json.dumps(plan.to_dict()))) == plan


def test_each_wire_field_is_the_models_field_of_its_name() -> None:
    (workload,) = parse(GOOD).workloads
    values: dict[str, Any] = {name: object() for name in type(workload).model_fields}
    values |= {"arrival_pattern": (object(), object()), "think_time": (object(), object())}
    spec = workload.model_copy(update=values).spec(index=7, schedule=[[1.0, 2.0]])
    elsewhere = {
        "index": 7,
        "schedule": [[1.0, 2.0]],
        "client_app": values["client"],
        "client_app_digest": None,  # services.apps adds it
        "ids_version": IDS_VERSION,
        "arrival_process": values["arrival_pattern"][0],
        "arrival_parameters": values["arrival_pattern"][1],
        "think_time": values["think_time"][0],
        "think_time_parameters": values["think_time"][1],
    }
    for field in dataclasses.fields(WorkloadSpec):
        assert getattr(spec, field.name) == {**values, **elsewhere}[field.name], field.name
