"""Scripts compile to equivalent plans: rates, pauses, repeated spawns and events, to the nanosecond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.instructions.compiler import MAX_TICKS, compile_script
from experiments.instructions.script import parse
from experiments.plans import Plan
from experiments.plans import parse as parse_plan
from experiments.services.workers import NoMatchingWorkers
from loadgen.arrivals.pacer import build_pacer
from loadgen.arrivals.schedule import Schedule
from routing.errors import Code, InvalidInput

# With their slots.
WORKERS = {"exphost": 2, "pico1": 1000, "pico2": 1000}
ISSUE = (
    "spawn exphost squeezenet 1\nsleep 2\nrps exphost squeezenet 1\nsleep 5\nrps exphost squeezenet 0\nsleep 2\n"
    "close exphost squeezenet"
)


def hosts(host: str) -> dict[str, int]:
    names = [name for name in WORKERS if name == host or (host == "pico*" and name.startswith("pico"))]
    found = {name: WORKERS[name] for name in names}
    if not found:
        raise NoMatchingWorkers(f"nobody is called {host}")
    return found


def compiled(script: str, apps: tuple[str, ...] = ()) -> dict[str, Any]:
    return compile_script(parse(script), hosts, lambda service: service if service in apps else None)


def plan_of(script: str, apps: tuple[str, ...] = ()) -> Plan:
    """The plan of a script. It must be valid."""
    return parse_plan(compiled(script, apps))


def ticks_of(script: str) -> tuple[list[float], list[list[float]]]:
    plan = plan_of(script)
    return [interval / 1e9 for interval in plan.intervals_ns], [workload.ticks for workload in plan.workloads]


def errors_of(script: str) -> list[tuple[str, Code]]:
    with pytest.raises(InvalidInput) as caught:
        compiled(script)
    return [(error.path, error.code) for error in caught.value.errors]


def test_script_of_the_original_is_one_workload_with_pauses() -> None:
    plan = plan_of(ISSUE)
    (workload,) = plan.workloads
    assert [interval / 1e9 for interval in plan.intervals_ns] == [2, 5, 2]
    assert workload.ticks == [0, 1, 0]
    assert (workload.service, workload.clients, workload.worker_labels) == ("squeezenet", 1, {"worker_name": "exphost"})
    assert (workload.client, workload.method, workload.path) == (None, "GET", "/")


def test_requests_lie_in_the_seconds_with_a_rate() -> None:
    (spec,) = plan_of(ISSUE).workload_specs()
    schedule = Schedule([(round(seconds * 1e9), rate) for seconds, rate in spec.schedule])
    assert schedule.duration_ns == 9_000_000_000
    arrivals = list(build_pacer(spec.arrival_process, schedule, [0], 1, seed=1, workload=0))
    assert [at_ns / 1e9 for at_ns, _, _ in arrivals] == [2.5, 3.5, 4.5, 5.5, 6.5]


def test_rate_is_per_client() -> None:
    assert ticks_of("spawn exphost web 3\nrps exphost web 2.5\nsleep 4") == ([4], [[7.5]])


def test_clients_spawned_later_send_nothing_before_their_rate() -> None:
    script = "spawn pico1 web 1\nrps pico1 web 1\nsleep 3\nspawn pico2 web 2\nsleep 1\nrps pico2 web 4\nsleep 2"
    assert ticks_of(script) == ([4, 2], [[1, 1], [0, 8]])


def test_second_spawn_is_a_workload_and_shares_later_rates() -> None:
    script = "spawn pico1 web 1\nrps pico1 web 5\nsleep 1\nspawn pico1 web 2\nsleep 1\nrps pico1 web 3\nsleep 1"
    assert ticks_of(script) == ([2, 1], [[5, 3], [0, 6]])


def test_spawn_after_close_is_a_new_workload() -> None:
    script = (
        "spawn pico1 web 1\nrps pico1 web 5\nsleep 1\nclose pico1 web\nsleep 1\n"
        "spawn pico1 web 1\nrps pico1 web 7\nsleep 1"
    )
    assert ticks_of(script) == ([1, 1, 1], [[5, 0, 0], [0, 0, 7]])


def test_sleeps_without_a_change_of_rate_are_one_interval() -> None:
    script = "spawn pico1 web 1\nrps pico1 web 5\nsleep 1\nevent x\nsleep 0\nrps pico1 web 5\nsleep 2.5"
    assert ticks_of(script) == ([3.5], [[5]])


def test_equal_intervals_are_one_number_others_a_list() -> None:
    def interval_of(*seconds: float) -> object:
        steps = "".join(f"rps pico1 web {rate}\nsleep {sleep}\n" for rate, sleep in enumerate(seconds, start=1))
        return compiled(f"spawn pico1 web 1\n{steps}")["configuration"]["interval"]

    assert interval_of(2, 2, 2) == 2
    assert interval_of(2, 2, 1) == 2
    assert interval_of(2, 2, 3) == [2, 2, 3]
    assert interval_of(0.1, 0.2, 0.1) == [0.1, 0.2, 0.1]


def test_rate_without_a_following_sleep_has_no_effect() -> None:
    assert ticks_of("spawn pico1 web 1\nrps pico1 web 9\nrps pico1 web 1\nsleep 1\nrps pico1 web 4") == ([1], [[1]])


def test_clients_without_a_rate_send_nothing() -> None:
    assert ticks_of("spawn pico1 web 1\nspawn pico2 web 1\nrps pico2 web 1\nsleep 1") == ([1], [[0], [1]])


def test_pattern_spawns_clients_on_each_matching_worker() -> None:
    plan = plan_of("spawn pico* web 2\nrps pico* web 1\nsleep 1\nclose pico2 web\nsleep 1")
    assert [workload.worker_labels["worker_name"] for workload in plan.workloads] == ["pico1", "pico2"]
    assert [workload.ticks for workload in plan.workloads] == [[2, 2], [2, 0]]


def test_event_has_the_time_of_its_line() -> None:
    plan = plan_of(
        "event first\nspawn pico1 web 1\nrps pico1 web 1\nsleep 1.5\nevent second of two\nsleep 1\nevent end"
    )
    assert [(event.at_ns / 1e9, event.name, event.value) for event in plan.events] == [
        (0, "first", ""),
        (1.5, "second", "of two"),
        (2.5, "end", ""),
    ]


def test_app_of_the_service_is_used_unless_another_is_named() -> None:
    script = (
        "spawn pico1 web 1\nspawn pico1 web 1 other '{\"size\": 3}'\nspawn pico1 api 1\n"
        "rps pico1 web 1\nrps pico1 web 2 other\nsleep 1"
    )
    first, other, api = plan_of(script, apps=("web",)).workloads
    assert (first.client, other.client, other.client_parameters, api.client) == ("web", "other", {"size": 3}, None)
    assert (first.ticks, other.ticks, api.ticks) == ([1], [2], [0])


def test_parameters_without_an_app_are_for_the_default_client() -> None:
    (workload,) = plan_of(
        'spawn pico1 web 1 "" \'{"method": "post", "path": "/x"}\'\nrps pico1 web 1\nsleep 1'
    ).workloads
    assert (workload.client, workload.method, workload.path) == (None, "POST", "/x")


WRONG_SCRIPTS = [
        ("rps pico1 web 1\nspawn pico1 web 1\nrps pico1 web 1\nsleep 1",
         "line 1", Code.MISSING),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\nclose pico1 web\nrps pico1 web 1",
         "line 5", Code.MISSING),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\nclose pico2 web",
         "line 4", Code.MISSING),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\nclose pico1 web x",
         "line 4", Code.MISSING),
        ("spawn nobody web 1\nrps nobody web 1\nsleep 1", "line 1", Code.MISSING),
        ("sleep 1", "script", Code.REQUIRED),
        ("", "script", Code.REQUIRED),
        ("spawn pico1 web 1\nrps pico1 web 1",
         "script", Code.REQUIRED),
        ("spawn pico1 web 1\nsleep 3",
         "script", Code.REQUIRED),
        ("spawn pico1 web 2\nrps pico1 web 600000\nsleep 1",
         "line 2", Code.RANGE),
        ("spawn pico1 web 1\nrps pico1 web 1\n" + "sleep 302400\n" * 4,
         "line 5", Code.RANGE),
        ("spawn pico1 web 1\n" * 101 + "rps pico1 web 1\nsleep 1",
         "line 101", Code.RANGE),
        ("spawn exphost web 1\nclose exphost web\n" * 3 + "spawn pico1 web 1\nrps pico1 web 1\nsleep 1",
         "line 5", Code.RANGE),
        ("spawn pico1 web 60000\nspawn pico2 web 60000\nrps pico1 web 1\nsleep 1",
         "line 2", Code.RANGE),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\n" + "event x\n" * 10_002,
         "line 10004", Code.RANGE),
        ("spawn pico1 web 1\n" + "".join(f"rps pico1 web {n % 7 + 1}\nsleep {n % 2 + 1}\n" for n in range(10_001)),
         "script", Code.RANGE),
        ("spawn pico1 web 1\n" * 100 + "rps pico1 web 1\nsleep 1\nrps pico1 web 2\nsleep 1\n" * (MAX_TICKS // 200 + 1),
         "script", Code.RANGE),
]  # fmt: skip


@pytest.mark.parametrize(("script", "path", "code"), WRONG_SCRIPTS, ids=range(len(WRONG_SCRIPTS)))
def test_wrong_script_is_refused_with_the_line(script: str, path: str, code: Code) -> None:
    assert errors_of(script) == [(path, code)]


def test_messages_name_the_value_and_the_remedy() -> None:
    found = []
    for script, _, _ in WRONG_SCRIPTS:
        with pytest.raises(InvalidInput) as caught:
            compiled(script)
        found.append("".join(f"{error}\n" for error in caught.value.errors))
    assert "".join(found) == (Path(__file__).parent / "compiler_messages.txt").read_text()


def test_all_errors_are_reported_at_once() -> None:
    script = "spawn nobody web 1\nrps nobody web 1\nrps pico1 api 1\nsleep 1\nclose pico1 web"
    assert errors_of(script) == [("line 1", Code.MISSING), ("line 3", Code.MISSING), ("line 5", Code.MISSING)]
