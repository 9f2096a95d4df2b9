"""Arrival processes in plans: every distribution, and recordings that a plan holds or that lie beside it."""

from __future__ import annotations

import io
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from django.core.management import call_command
from django.test import Client

from experiments.models import Experiment
from experiments.plans import Plan, PlanInvalid, parse
from experiments.plans.recordings import read_file, read_lists, with_recordings
from loadgen.arrivals.pacer import PRERECORDED, build_pacer
from loadgen.arrivals.schedule import Schedule
from tests.experiments.plans.bad_plans import MISSING, WORKLOAD, plan_with
from tests.support.workers import register

S = 1_000_000_000
Pattern = tuple[str, list[float]]


def recorded(pattern: dict[str, Any]) -> dict[str, Any]:
    """A plan of 10 s in intervals of 4 s, with recorded arrivals."""
    return plan_with(
        {f"{WORKLOAD}.ticks": MISSING, f"{WORKLOAD}.arrival_pattern": {"process": "prerecorded", **pattern}}
    )


def with_file(data: dict[str, Any], folder: Path) -> Any:
    return with_recordings(data, {"file": partial(read_file, folder)})


@pytest.mark.parametrize(
    "times",
    [
        [1_764_000_000.5, 1_764_000_000.9, 1_764_000_003],
        [1_764_000_003, 1_764_000_000.5, 1_764_000_000.9],
        [0, 0.4, 2.5],
        [1e9, 1e9 + 0.4, 1e9 + 2.5],
    ],
)
def test_unix_times_count_from_the_first(times: list[float]) -> None:
    (workload,) = parse(recorded({"times": times})).workloads
    assert workload.arrival_pattern == (PRERECORDED, [0, 0.4, 2.5])


@pytest.mark.parametrize("times", [[5, 1_764_000_000.5], [1_764_000_000, "soon"], [True, 1e9]])
def test_other_times_are_read_as_they_are(times: list[Any]) -> None:
    with pytest.raises(PlanInvalid, match=r"arrival_pattern\.times\["):
        parse(recorded({"times": times}))


def test_a_file_of_unix_times_counts_from_the_first(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("time,path\n1764000000.5,/a\n1764000000.9,/b\n")
    (workload,) = parse(with_file(recorded({"file": "log.csv"}), tmp_path)).workloads
    assert workload.arrival_pattern == (PRERECORDED, [0, 0.4])


def test_a_recording_that_is_too_long_names_the_way_round() -> None:
    with pytest.raises(PlanInvalid, match="got 50,001; replay a longer recording in parts, an experiment each"):
        parse(recorded({"times": [0] * 50_001}))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("uniform", ("uniform", [])),
        ("lognormvariate", ("lognormvariate", [])),
        ({"process": "lognormvariate", "mu": 0, "sigma": 2}, ("lognormvariate", [0, 2])),
        ({"process": "lognormvariate", "sigma": 2}, ("lognormvariate", [0, 2])),
        ({"process": "lognormvariate", "sigma": None}, ("lognormvariate", [])),
        (["lognormvariate", 0, 2], ("lognormvariate", [0, 2])),
        ({"lognormvariate": [0, 2]}, ("lognormvariate", [0, 2])),
        (["triangular", 1, 5], ("triangular", [1, 5, 3])),
        ({"process": "normalvariate", "mu": 3}, ("normalvariate", [3, 1])),
        (["gauss", 1, 0.25], ("gauss", [1, 0.25])),
        ({"process": "vonmisesvariate", "mu": 0, "kappa": 4}, ("vonmisesvariate", [0, 4])),
        ({"process": "gammavariate", "alpha": 2}, ("gammavariate", [2, 1])),
        (["betavariate", 2, 3], ("betavariate", [2, 3])),
        ({"paretovariate": 2.5}, ("paretovariate", [2.5])),
        ({"process": "weibullvariate", "beta": 1.5}, ("weibullvariate", [1, 1.5])),
        ({"process": "poisson"}, ("expovariate", [])),
        ({"process": "expovariate", "lambd": 20}, ("expovariate", [20])),
        ({"process": "constant", "seconds": 3}, ("constant", [])),
    ],
)
def test_distributions_are_those_of_python_with_their_parameters(pattern: object, expected: Pattern) -> None:
    plan = parse(plan_with({f"{WORKLOAD}.arrival_pattern": pattern}))
    (spec,) = plan.workload_specs()
    assert (spec.arrival_process, spec.arrival_parameters) == expected
    assert parse(plan.to_dict()).workloads == plan.workloads


@pytest.mark.parametrize(
    "pattern", [{"times": [9.5, 0.25, 1, 1, 8, 4, 30]}, {"gaps": [0.25, 0.75, 0, 3, 4, 1.5, 20.5]}]
)
def test_a_recording_is_a_list_of_times_or_of_gaps(pattern: dict[str, Any]) -> None:
    plan = parse(recorded(pattern))
    (spec,) = plan.workload_specs()
    assert (spec.arrival_process, spec.arrival_parameters) == (PRERECORDED, [0.25, 1, 1, 4, 8, 9.5])
    # The rates are what it amounts to: three in the first 4 s, one in the next, two in the last 2 s.
    assert spec.schedule == [[4.0, 0.75], [4.0, 0.25], [2.0, 1.0]]
    assert parse(json.loads(json.dumps(plan.to_dict()))) == plan


def test_shards_of_a_recording_share_its_times() -> None:
    (spec,) = parse(recorded({"times": [0.1, 0.2, 0.3, 0.4, 9.999999999]})).workload_specs()
    schedule = Schedule([(round(duration_s * S), rate) for duration_s, rate in spec.schedule])
    parts = [
        list(build_pacer(spec.arrival_process, schedule, clients, 3, 1, 0, spec.arrival_parameters))
        for clients in ([0, 2], [1])
    ]
    assert parts == [
        [(S // 10, 0, 0), (3 * S // 10, 2, 0), (4 * S // 10, 0, 1)],
        [(2 * S // 10, 1, 0), (9_999_999_999, 1, 1)],
    ]
    assert schedule.total == pytest.approx(5)


def test_all_recordings_of_a_plan_together_are_bounded() -> None:
    plan = recorded({"times": [1.0] * 30_000})
    plan["configuration"]["workloads"] *= 2
    with pytest.raises(PlanInvalid, match="at most 50,000 recorded arrivals in total, got 60,000"):
        parse(plan)


@pytest.mark.parametrize(("key", "value"), [("file", "times.csv"), ("lists", ["client-1"])])
def test_a_plan_alone_has_its_recording_in_itself(key: str, value: object) -> None:
    with pytest.raises(PlanInvalid) as refused:
        parse(recorded({key: value}))
    ((path, message),) = [(error.path, error.message) for error in refused.value.errors]
    assert path == f"{WORKLOAD}.arrival_pattern.{key}"
    assert "cannot be read here; give the recorded `times` or `gaps` themselves" in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("times.csv", "time\n0.5\n1.25\n", {"times": [0.5, 1.25]}),
        ("gaps.CSV", "gap\r\n0.5\r\n\r\n1.25\r\n", {"gaps": [0.5, 1.25]}),
        ("log.csv", '\ufeffclient, Time ,path\n7,0.5,"/a,b"\n8,1e-3,/\n', {"times": [0.5, 0.001]}),
        ("none.csv", "time\n", {"times": []}),
        ("times.json", '{"times": [0.5, 1.25]}', {"times": [0.5, 1.25]}),
        ("gaps.json", '{"gaps": [1, 2]}', {"gaps": [1, 2]}),
    ],
)
def test_a_file_of_arrivals_takes_the_place_of_its_name(
    tmp_path: Path, name: str, content: str, expected: dict[str, Any]
) -> None:
    (tmp_path / name).write_text(content, newline="")
    assert with_file(recorded({"file": name}), tmp_path) == recorded(expected)
    assert with_file(recorded({"file": str(tmp_path / name)}), Path("elsewhere")) == recorded(expected)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "cannot be read: No such file"),
        (".", None, "cannot be read: Is a directory"),
        ("a\0b", None, "cannot be read: embedded null byte"),
        ("a.csv", b"", "the first line must name one column `time`"),
        ("a.csv", b"0.5\n1\n", "the first line must name one column `time`"),
        ("a.csv", b"time,gap\n1,2\n", "the first line must name one column `time`"),
        ("a.csv", b"time\n1\nx\n", "line 3: must be a number, got 'x'"),
        ("a.csv", b"client,time\n1,2\n3\n", "line 3: must be a number, got ''"),
        ("a.csv", b"\xff\xfe", "is not valid UTF-8"),
        ("a.csv", b'time\n"' + b"1" * 200_000, "not valid CSV"),
        ("a.csv", b"1" * ((8 << 20) + 1), "must have at most 8 MiB"),
        ("a.json", b"[1, 2]", 'must hold {"times": […]} or {"gaps": […]}'),
        ("a.json", b'{"times": [1], "gaps": [1]}', 'must hold {"times": […]} or {"gaps": […]}'),
        ("a.json", b"{", "is not valid JSON"),
        ("a.json", b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_invalid_recording_file_is_refused_with_its_path(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanInvalid) as refused:
        with_file(recorded({"file": name}), tmp_path)
    ((path, text),) = [(error.path, error.message) for error in refused.value.errors]
    assert path == f"{WORKLOAD}.arrival_pattern.file"
    assert message in text


@pytest.mark.parametrize("number", ["nan", "-1", "1e999"])
def test_numbers_of_a_file_are_checked_as_those_of_a_plan(tmp_path: Path, number: str) -> None:
    (tmp_path / "times.csv").write_text(f"time\n1\n{number}\n")
    with pytest.raises(PlanInvalid) as refused:
        parse(with_file(recorded({"file": "times.csv"}), tmp_path))
    assert [error.path for error in refused.value.errors] == [f"{WORKLOAD}.arrival_pattern.times[1]"]


@pytest.mark.parametrize(
    "data",
    [
        [],
        {},
        {"configuration": 3},
        {"configuration": {"workloads": {"arrival_pattern": 3}}},
        {"configuration": {"workloads": [3, {"arrival_pattern": {"process": "prerecorded", "times": 3}}]}},
        {"configuration": {"workloads": [{"arrival_pattern": {"process": "uniform", "file": "a.csv"}}]}},
    ],
)
def test_what_else_is_wrong_with_a_plan_is_left_as_it_is(data: Any, tmp_path: Path) -> None:
    assert with_file(data, tmp_path) == data


def test_a_file_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(PlanInvalid, match=r"arrival_pattern\.file: must be the name of a file, got 3"):
        with_file(recorded({"file": 3}), tmp_path)


def test_redis_lists_are_read_oldest_first_and_kept(broker: redis.Redis) -> None:
    for gap in ("0.5", "1", "2.5"):
        broker.lpush("client-1", gap)
    for gap in ("0.75", "1e0"):
        broker.lpush("client-2", gap)
    data = recorded({"lists": ["client-1", "client-2"]})
    for _ in range(2):
        assert with_recordings(data, {"lists": partial(read_lists, broker)}) == recorded(
            {"times": [0.5, 0.75, 1.5, 1.75, 4.0]}
        )
    assert broker.lrange("client-1", 0, -1) == [b"2.5", b"1", b"0.5"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("client-1", "must have from 1 to 1,000 keys of Redis lists"),
        ([], "must have from 1 to 1,000 keys of Redis lists"),
        ([3], "must be the key of a Redis list, got 3"),
        (["a b"], "must be the key of a Redis list, got 'a b'"),
        (["good", "missing"], "the list 'missing' is missing in Redis, or empty"),
        (["text"], "'text' is not a list in Redis"),
        (["words"], "the list 'words' has an item that is not a number"),
        (["negative"], "the list 'negative' has an item that is not a gap in seconds"),
        (["infinite"], "the list 'infinite' has an item that is not a gap in seconds"),
        (["long"], "the lists hold more than 50,000 gaps"),
        (["half", "half"], "the lists hold more than 50,000 gaps"),
    ],
)
def test_refused_list_does_not_show_its_values(broker: redis.Redis, keys: object, message: str) -> None:
    broker.set("text", "secret")
    lists: dict[str, list[str]] = {
        "good": ["1"], "words": ["1", "secret"], "negative": ["1", "-1"], "infinite": ["inf"],
        "long": ["1"] * 50_001, "half": ["1"] * 25_001,
    }  # fmt: skip
    for key in set(lists).intersection(keys if isinstance(keys, list) else ()):
        broker.lpush(key, *lists[key])
    with pytest.raises(PlanInvalid) as refused:
        with_recordings(recorded({"lists": keys}), {"lists": partial(read_lists, broker)})
    ((path, text),) = [(error.path, error.message) for error in refused.value.errors]
    assert path == f"{WORKLOAD}.arrival_pattern.lists"
    assert message in text
    assert "secret" not in text


@pytest.mark.django_db
def test_run_experiment_replays_redis_lists_again_and_again(tmp_path: Path, broker: redis.Redis) -> None:
    register(broker, "pi-1")
    broker.lpush("client-1", "0.5", "1")
    (tmp_path / "plan.yml").write_text(yaml.safe_dump(recorded({"lists": ["client-1"]})))
    for _ in range(2):
        call_command("run_experiment", str(tmp_path / "plan.yml"), stdout=io.StringIO())
    specs = [experiment.workloads.get().spec for experiment in Experiment.objects.all()]
    assert [spec["arrival_parameters"] for spec in specs] == [[0.5, 1.5], [0.5, 1.5]]


@pytest.mark.django_db
def test_the_api_takes_redis_lists_and_no_files(broker: redis.Redis, admin_client: Client) -> None:
    register(broker, "pi-1")
    broker.lpush("client-1", "0.5", "1")
    plan = recorded({"lists": ["client-1"]})
    assert admin_client.post("/api/experiments", plan, content_type="application/json").status_code == 201
    assert Experiment.objects.get().workloads.get().spec["arrival_parameters"] == [0.5, 1.5]
    refused = admin_client.post("/api/experiments", recorded({"file": "/etc/hosts"}), content_type="application/json")
    assert refused.status_code == 400
    assert "cannot be read here" in refused.content.decode()


@pytest.mark.django_db
def test_run_experiment_stores_the_recording_with_the_plan(tmp_path: Path, broker: redis.Redis) -> None:
    register(broker, "pi-1")
    folder = tmp_path / "plans"
    folder.mkdir()
    (tmp_path / "times.csv").write_text("time\n" + "".join(f"{number / 100}\n" for number in range(900)))
    (folder / "plan.yml").write_text(yaml.safe_dump(recorded({"file": "../times.csv"})))
    call_command("run_experiment", str(folder / "plan.yml"), stdout=io.StringIO())
    (experiment,) = Experiment.objects.all()
    (tmp_path / "times.csv").unlink()
    again: Plan = parse(experiment.plan)  # repeatable without the file
    (spec,) = again.workload_specs()
    assert spec.arrival_parameters == [number / 100 for number in range(900)]
    assert [math.floor(rate) for _, rate in spec.schedule] == [100, 100, 50]
    assert experiment.workloads.get().spec["arrival_parameters"] == spec.arrival_parameters
