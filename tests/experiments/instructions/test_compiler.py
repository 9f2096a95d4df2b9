"""A script becomes the plan that does the same: rates, silences, respawns and events, to the nanosecond."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.instructions.compiler import MAX_TICKS, compile_script
from experiments.instructions.script import parse
from experiments.plans import Plan, PlanInvalid
from experiments.plans import parse as parse_plan
from experiments.services.placement import NoMatchingWorkers
from loadgen.arrivals.pacer import build_pacer
from loadgen.arrivals.schedule import Schedule

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
    """What the script compiles to must be a valid plan, whatever else a test asks of it."""
    return parse_plan(compiled(script, apps))


def ticks_of(script: str) -> tuple[list[float], list[list[float]]]:
    plan = plan_of(script)
    return [interval / 1e9 for interval in plan.intervals_ns], [workload.ticks for workload in plan.workloads]


def errors_of(script: str) -> list[str]:
    with pytest.raises(PlanInvalid) as caught:
        compiled(script)
    return [str(error) for error in caught.value.errors]


def test_the_script_of_the_original_is_one_workload_on_its_worker_with_silence_around_its_load() -> None:
    plan = plan_of(ISSUE)
    (workload,) = plan.workloads
    assert [interval / 1e9 for interval in plan.intervals_ns] == [2, 5, 2]
    assert workload.ticks == [0, 1, 0]
    assert (workload.service, workload.clients, workload.worker_labels) == ("squeezenet", 1, {"worker_name": "exphost"})
    assert (workload.client, workload.method, workload.path) == (None, "GET", "/")


def test_its_five_requests_lie_in_its_five_seconds() -> None:
    (spec,) = plan_of(ISSUE).workload_specs()
    schedule = Schedule([(round(seconds * 1e9), rate) for seconds, rate in spec.schedule])
    assert schedule.duration_ns == 9_000_000_000
    arrivals = list(build_pacer(spec.arrival_process, schedule, [0], 1, seed=1, workload=0))
    assert [at_ns / 1e9 for at_ns, _, _ in arrivals] == [2.5, 3.5, 4.5, 5.5, 6.5]


def test_a_rate_is_that_of_each_client() -> None:
    assert ticks_of("spawn exphost web 3\nrps exphost web 2.5\nsleep 4") == ([4], [[7.5]])


def test_clients_that_are_spawned_later_are_silent_until_then_and_have_no_rate_before_they_get_one() -> None:
    script = "spawn pico1 web 1\nrps pico1 web 1\nsleep 3\nspawn pico2 web 2\nsleep 1\nrps pico2 web 4\nsleep 2"
    assert ticks_of(script) == ([4, 2], [[1, 1], [0, 8]])


def test_more_clients_of_a_service_are_a_workload_of_their_own_and_obey_the_next_rate_together() -> None:
    script = "spawn pico1 web 1\nrps pico1 web 5\nsleep 1\nspawn pico1 web 2\nsleep 1\nrps pico1 web 3\nsleep 1"
    assert ticks_of(script) == ([2, 1], [[5, 3], [0, 6]])


def test_a_respawn_after_a_close_is_a_further_workload_and_the_closed_one_is_silent_for_good() -> None:
    script = (
        "spawn pico1 web 1\nrps pico1 web 5\nsleep 1\nclose pico1 web\nsleep 1\n"
        "spawn pico1 web 1\nrps pico1 web 7\nsleep 1"
    )
    assert ticks_of(script) == ([1, 1, 1], [[5, 0, 0], [0, 0, 7]])


def test_sleeps_without_a_change_of_rate_between_them_are_one_interval() -> None:
    script = "spawn pico1 web 1\nrps pico1 web 5\nsleep 1\nevent x\nsleep 0\nrps pico1 web 5\nsleep 2.5"
    assert ticks_of(script) == ([3.5], [[5]])


def test_equal_intervals_are_written_as_one_number_and_others_as_a_list() -> None:
    def interval_of(*seconds: float) -> object:
        steps = "".join(f"rps pico1 web {rate}\nsleep {sleep}\n" for rate, sleep in enumerate(seconds, start=1))
        return compiled(f"spawn pico1 web 1\n{steps}")["configuration"]["interval"]

    assert interval_of(2, 2, 2) == 2
    assert interval_of(2, 2, 1) == 2
    assert interval_of(2, 2, 3) == [2, 2, 3]
    assert interval_of(0.1, 0.2, 0.1) == [0.1, 0.2, 0.1]


def test_a_rate_that_no_sleep_follows_never_holds() -> None:
    assert ticks_of("spawn pico1 web 1\nrps pico1 web 9\nrps pico1 web 1\nsleep 1\nrps pico1 web 4") == ([1], [[1]])


def test_clients_that_never_get_a_rate_stand_by() -> None:
    assert ticks_of("spawn pico1 web 1\nspawn pico2 web 1\nrps pico2 web 1\nsleep 1") == ([1], [[0], [1]])


def test_a_pattern_means_every_worker_that_it_fits_each_with_its_own_clients() -> None:
    plan = plan_of("spawn pico* web 2\nrps pico* web 1\nsleep 1\nclose pico2 web\nsleep 1")
    assert [workload.worker_labels["worker_name"] for workload in plan.workloads] == ["pico1", "pico2"]
    assert [workload.ticks for workload in plan.workloads] == [[2, 2], [2, 0]]


def test_an_event_is_at_the_time_of_its_line() -> None:
    plan = plan_of(
        "event first\nspawn pico1 web 1\nrps pico1 web 1\nsleep 1.5\nevent second of two\nsleep 1\nevent end"
    )
    assert [(event.at_ns / 1e9, event.name, event.value) for event in plan.events] == [
        (0, "first", ""),
        (1.5, "second", "of two"),
        (2.5, "end", ""),
    ]


def test_an_app_of_the_services_name_plays_its_clients_unless_the_script_names_another() -> None:
    script = (
        "spawn pico1 web 1\nspawn pico1 web 1 other '{\"size\": 3}'\nspawn pico1 api 1\n"
        "rps pico1 web 1\nrps pico1 web 2 other\nsleep 1"
    )
    first, other, api = plan_of(script, apps=("web",)).workloads
    assert (first.client, other.client, other.client_parameters, api.client) == ("web", "other", {"size": 3}, None)
    assert (first.ticks, other.ticks, api.ticks) == ([1], [2], [0])


def test_parameters_without_an_app_are_those_of_the_default_client() -> None:
    (workload,) = plan_of(
        'spawn pico1 web 1 "" \'{"method": "post", "path": "/x"}\'\nrps pico1 web 1\nsleep 1'
    ).workloads
    assert (workload.client, workload.method, workload.path) == (None, "POST", "/x")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("rps pico1 web 1\nspawn pico1 web 1\nrps pico1 web 1\nsleep 1",
         "line 1: there are no clients of web on pico1 here: spawn them first, in the same words"),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\nclose pico1 web\nrps pico1 web 1",
         "line 5: there are no clients of web on pico1 here: spawn them first, in the same words"),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\nclose pico2 web",
         "line 4: there are no clients of web on pico2 here: spawn them first, in the same words"),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\nclose pico1 web x",
         "line 4: there are no clients of the client app x for web on pico1 here: spawn them first, in the same words"),
        ("spawn nobody web 1\nrps nobody web 1\nsleep 1", "line 1: nobody is called nobody"),
        ("sleep 1", "script: nobody is spawned: begin with `spawn HOST SERVICE NUM`"),
        ("", "script: nobody is spawned: begin with `spawn HOST SERVICE NUM`"),
        ("spawn pico1 web 1\nrps pico1 web 1",
         "script: it takes no time: say with `sleep SECONDS` how long each rate holds"),
        ("spawn pico1 web 1\nsleep 3",
         "script: nothing is sent: `rps HOST SERVICE RATE`, above 0, belongs before a `sleep`"),
        ("spawn pico1 web 2\nrps pico1 web 600000\nsleep 1",
         "line 2: 2 clients at 600000 requests/s each are more than 1,000,000 requests/s: lower RATE"),
        ("spawn pico1 web 1\nrps pico1 web 1\n" + "sleep 302400\n" * 4,
         "line 5: the sleeps up to here are more than 7 days together; that is the most"),
        ("spawn pico1 web 1\n" * 101 + "rps pico1 web 1\nsleep 1",
         "line 101: at most 100 spawns are accepted, one for each worker that HOST means"),
        ("spawn exphost web 1\nclose exphost web\n" * 3 + "spawn pico1 web 1\nrps pico1 web 1\nsleep 1",
         "line 5: each spawn takes a slot of its worker for the whole experiment, and exphost has 2: spawn fewer "
         "times, on other workers, or raise its galileo_slots"),
        ("spawn pico1 web 60000\nspawn pico2 web 60000\nrps pico1 web 1\nsleep 1",
         "line 2: at most 100,000 clients in total are accepted"),
        ("spawn pico1 web 1\nrps pico1 web 1\nsleep 1\n" + "event x\n" * 10_002,
         "line 10004: at most 10,000 events are accepted"),
        ("spawn pico1 web 1\n" + "".join(f"rps pico1 web {n % 7 + 1}\nsleep {n % 2 + 1}\n" for n in range(10_001)),
         "script: its rates change more than 10,000 times, after sleeps of different lengths: make these equal, or "
         "make several scripts of it"),
        ("spawn pico1 web 1\n" * 100 + "rps pico1 web 1\nsleep 1\nrps pico1 web 2\nsleep 1\n" * (MAX_TICKS // 200 + 1),
         "script: the rates of so many clients change too often: make several scripts of it"),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_script_that_makes_no_sense_is_refused_with_the_line_and_the_fix(script: str, error: str) -> None:
    assert errors_of(script) == [error]


def test_every_error_is_named_at_once() -> None:
    assert errors_of("spawn nobody web 1\nrps nobody web 1\nrps pico1 api 1\nsleep 1\nclose pico1 web") == [
        "line 1: nobody is called nobody",
        "line 3: there are no clients of api on pico1 here: spawn them first, in the same words",
        "line 5: there are no clients of web on pico1 here: spawn them first, in the same words",
    ]
