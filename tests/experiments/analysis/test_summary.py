"""The summary says what happened, where requests went, how the generator fared, and whether to trust it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from experiments.analysis import intervals, report, report_text, summary
from experiments.analysis.health import peak_share
from experiments.analysis.host_shares import max_deviation
from experiments.ingest.ingest import ingest
from experiments.models import Event, Experiment, Shard
from experiments.services import lifecycle
from loadgen.protocol.messages import Counters, Gauges
from loadgen.protocol.outcomes import MalformedReason, Outcome
from routing.models import RoutingRevision
from tests.support.batches import (
    NS,
    START,
    START_NS,
    Row,
    counters_of,
    make_experiment,
    payload,
    row,
    rows_of,
    run_payloads,
    shards_of,
)

pytestmark = [pytest.mark.costly, pytest.mark.django_db, pytest.mark.usefixtures("broker")]

HOSTS = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]


def deliver(experiment: Experiment, **changes: object) -> None:
    for shard in shards_of(experiment):
        for batch in run_payloads(shard, **changes):
            ingest(batch)


def route(version: int, *weights: float) -> None:
    RoutingRevision.objects.create(
        service="service0", version=version, hosts=HOSTS[: len(weights)], weights=list(weights)
    )


def test_clean_run_is_valid_and_its_summary_is_json():
    experiment = make_experiment(shards=2, workers=("pi1", "pi2"), status="FINALIZING")
    deliver(experiment)
    result = summary.summarise(experiment)
    assert json.loads(json.dumps(result)) == result
    assert result["verdict"] == {"status": "VALID", "reasons": []}
    assert (result["ended_as"], result["batches"]) == ("FINISHED", 6)
    assert result["account"]["closes"] is True
    assert (result["total"]["arrivals"], result["total"]["statuses"]) == (20, {"200": 20})
    assert result["total"]["outcomes"] == {"completed": 20}
    assert result["total"]["bytes_received"] == 2000
    times = result["total"]["times"]
    assert times["response_time"]["p99_s"] == pytest.approx(0.00515, rel=0.01)
    assert times["response_time"]["max_s"] == 0.00515
    assert times["service_time"]["mean_s"] == pytest.approx(0.005)
    assert times["lateness"]["p50_s"] == pytest.approx(0.00005, rel=0.01)
    assert times["connection_wait"]["count"] == 20


def test_workloads_are_summed_separately_and_together():
    experiment = make_experiment([[2.0, 10.0]], [[2.0, 5.0]], status="FINISHED")
    deliver(experiment)
    result = summary.summarise(experiment)
    assert [part["service"] for part in result["workloads"]] == ["service0", "service1"]
    assert [part["arrivals"] for part in result["workloads"]] == [20, 10]
    assert result["total"]["arrivals"] == 30
    assert [part["service"] for part in result["intervals"]] == ["service0", "service1"]


def test_intervals_of_different_lengths_are_counted(monkeypatch):
    lengths = [0.5, 1.0, 0.25, 1.0, 2.0]
    schedule = [[length, rate] for length, rate in zip(lengths, [8.0, 0.0, 16.0, 3.0, 1.0], strict=True)]
    experiment = make_experiment(schedule, interval_s=lengths, status="FINALIZING")
    deliver(experiment)

    def counted():
        (workload,) = summary.summarise(experiment)["intervals"]
        return [(row["start_s"], row["planned"], row["arrivals"], row["sent"]) for row in workload["intervals"]]

    expected = [(0.0, 4, 4, 4), (0.5, 0, 0, 0), (1.5, 4, 4, 4), (1.75, 3, 3, 3), (2.75, 2, 2, 2)]
    assert counted() == expected
    monkeypatch.setattr(intervals, "_PER_QUERY", 2)
    assert counted() == expected


def test_longer_last_interval_is_one_interval():
    experiment = make_experiment([[1.0, 4.0], [1.0, 4.0], [3.0, 4.0]], interval_s=[1.0, 1.0, 3.0], status="FINALIZING")
    deliver(experiment)
    (workload,) = summary.summarise(experiment)["intervals"]
    assert [row["arrivals"] for row in workload["intervals"]] == [4, 4, 12]


def test_workload_without_arrivals_is_valid():
    experiment = make_experiment([[2.0, 0.0]], [[2.0, 10.0]], status="FINALIZING")
    deliver(experiment)
    result = summary.summarise(experiment)
    assert (result["verdict"]["status"], result["account"]["closes"], result["account"]["planned"]) == (
        "VALID",
        True,
        20,
    )
    counted = [sum(row["arrivals"] for row in part["intervals"]) for part in result["intervals"]]
    assert counted == [0, 20]
    assert "service0" in report_text.render(report.build(experiment, []))


def test_intervals_have_planned_and_achieved_rates():
    experiment = make_experiment([[2.0, 10.0], [2.0, 20.0], [1.0, 4.0]], interval_s=2.0, status="FINISHED")
    deliver(experiment)
    (workload,) = summary.summarise(experiment)["intervals"]
    rows = workload["intervals"]
    assert [(row["start_s"], row["duration_s"]) for row in rows] == [(0, 2), (2, 2), (4, 1)]
    assert [row["planned"] for row in rows] == pytest.approx([20, 40, 4])
    assert [(row["arrivals"], row["sent"]) for row in rows] == [(20, 20), (40, 40), (4, 4)]
    assert [row["achieved_rps"] for row in rows] == pytest.approx([10, 20, 4])
    assert workload["sent_after"] == 0


@pytest.mark.parametrize("tracing", [True, False])
@pytest.mark.parametrize("interval_s", [1.0, [0.5, 1.5]])
def test_rows_before_the_start_are_in_no_interval(tracing, interval_s):
    """Those of a shard that was stopped before it knew the start are near the clock's zero."""
    experiment = make_experiment(interval_s=interval_s, status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(shard)
    ingest(payload(shard, rows, end="finished", counters=counters_of(rows), traced=tracing))
    Experiment.objects.update(start_broker_ns=START_NS + NS)
    experiment.refresh_from_db()
    (part,) = summary.summarise(experiment)["intervals"]
    assert [interval["arrivals"] for interval in part["intervals"]] == ([10, 0] if interval_s == 1.0 else [5, 5])


def test_request_that_waited_counts_in_its_sending_interval():
    experiment = make_experiment([[2.0, 1.0], [1.0, 1.0]], interval_s=2.0, status="FINISHED")
    (shard,) = shards_of(experiment)
    waits = {0: 2 * NS + 1, 2: 3 * NS + NS // 2}  # into the next interval; behind the end of a shorter last one
    rows = [replace(r, sent_ns=waits.get(n, r.sent_ns), done_ns=4 * NS) for n, r in enumerate(rows_of(shard))]
    for batch in run_payloads(shard, rows):
        ingest(batch)
    (workload,) = summary.summarise(experiment)["intervals"]
    assert [row["arrivals"] for row in workload["intervals"]] == [2, 1]
    assert [row["sent"] for row in workload["intervals"]] == [1, 1]
    assert workload["sent_after"] == 1


def routed(shard: Shard, *hosts: int, version: int = 1) -> list[Row]:
    rows = rows_of(shard)
    return [replace(r, host=hosts[n % len(hosts)], routing_version=version) for n, r in enumerate(rows)]


def test_shares_of_hosts_are_compared_with_weights():
    route(1, 1, 3)
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, routed(shard, 0, 1, 1, 1)):
        ingest(batch)
    (service,) = summary.summarise(experiment)["hosts"]
    assert service["routing_versions"] == [1]
    assert [(host["host"], host["sent"], host["share"], host["weight_share"]) for host in service["hosts"]] == [
        (HOSTS[0], 5, 0.25, 0.25),
        (HOSTS[1], 15, 0.75, 0.75),
    ]
    assert service["shards"] == [{"shard": str(shard), "routing_version": 1, "routed": 20, "max_deviation": 0.0}]


def test_deviations_are_per_routing_version():
    route(1, 1, 1)
    route(2, 1, 0)
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(shard)
    rows = [
        replace(r, host=n % 2, routing_version=1) if n < 9 else replace(r, host=0, routing_version=2)
        for n, r in enumerate(rows)
    ]
    for batch in run_payloads(shard, rows):
        ingest(batch)
    (service,) = summary.summarise(experiment)["hosts"]
    assert service["routing_versions"] == [1, 2]
    assert [host["weight_share"] for host in service["hosts"]] == [None, None]
    assert [(row["routing_version"], row["max_deviation"]) for row in service["shards"]] == [(1, 0.5), (2, 0.0)]


def test_requests_to_each_address_of_a_name_are_counted():
    experiment = make_experiment(shards=2, status="FINISHED")
    for shard in shards_of(experiment):
        rows = routed(shard, 0, 1, 1)
        fields = {"hosts": ["web:80", "web:80"], "addresses": ["10.1.0.1", "10.1.0.2"]}
        ingest(payload(shard, rows, end="finished", counters=counters_of(rows), **fields))
    (service,) = summary.summarise(experiment)["hosts"]
    (host,) = service["hosts"]
    assert (host["host"], host["sent"], host["addresses"]) == ("web:80", 20, {"10.1.0.1": 8, "10.1.0.2": 12})


def test_host_without_requests_is_shown_with_its_weight():
    route(1, 1, 1, 2)
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, routed(shard, 0, 1)):
        ingest(batch)
    (service,) = summary.summarise(experiment)["hosts"]
    assert (service["hosts"][2]["host"], service["hosts"][2]["sent"], service["hosts"][2]["weight_share"]) == (
        HOSTS[2], 0, 0.5,
    )  # fmt: skip
    assert service["shards"][0]["max_deviation"] == 10


def test_routing_version_of_another_tool_has_no_weights():
    assert max_deviation({"a": 3}, None) is None
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, routed(shard, 0, version=0)):
        ingest(batch)
    (service,) = summary.summarise(experiment)["hosts"]
    assert (service["hosts"][0]["weight_share"], service["shards"][0]["max_deviation"]) == (None, None)


def test_workers_have_the_worst_figures_of_their_shards():
    experiment = make_experiment(shards=3, workers=("pi1", "pi2"), status="FINISHED")
    for shard in shards_of(experiment):
        gauges = Gauges(wall_ns=10 * NS, cpu_ns=shard.index * NS, wait_ns=NS // 10, max_stall_ns=7_000_000)
        ingest(payload(shard, rows := rows_of(shard), end="finished", counters=counters_of(rows), gauges=gauges))
    result = summary.summarise(experiment)
    pi1, pi2 = result["workers"]
    assert (pi1["worker"], pi1["shards"], pi1["cpu_peak_share"]) == ("pi1", 2, 0.2)
    assert (pi2["worker"], pi2["shards"], pi2["cpu_peak_share"]) == ("pi2", 1, 0.1)
    assert (pi1["wait_share"], pi1["max_stall_s"], pi1["descriptor_limit"]) == (0.01, 0.007, 65_536)
    assert pi1["clock_uncertainty_s"] == 0.00005
    assert pi1["wait_peak_share"] == 0.01
    assert [shard["clients"] for shard in result["shards"]] == [2, 1, 1]


@pytest.mark.parametrize(
    ("gauges", "words"),
    [
        (Gauges(wall_ns=10 * NS, cpu_ns=99 * NS // 10), "CPU of a shard"),
        (Gauges(wall_ns=10 * NS, wait_ns=4 * NS), "waiting for the CPU"),
        (Gauges(wall_ns=10 * NS, max_stall_ns=2 * NS), "event loop stall"),
        (Gauges(wall_ns=10 * NS, others_ns=9 * NS), "others on the core"),
        (Gauges(wall_ns=10 * NS, stolen_ns=2 * NS), "stolen by the hypervisor"),
        (Gauges(wall_ns=10 * NS, clock_offset_ns=NS, clock_uncertainty_ns=1000), "clock drift"),
    ],
)
def test_overloaded_generator_is_degraded(gauges, words):
    experiment = make_experiment(status="FINISHED")
    deliver(experiment, gauges=gauges)
    verdict = summary.summarise(experiment)["verdict"]
    assert verdict["status"] == "DEGRADED"
    assert [reason["sentence"].split(":")[0] for reason in verdict["reasons"]] == [words]


def set_spec(experiment: Experiment, **fields: object) -> None:
    workload = experiment.workloads.get()
    workload.spec = {**workload.spec, **fields}
    workload.save()


def test_slow_client_app_is_named_with_its_figures():
    experiment = make_experiment(status="FINISHED")
    set_spec(experiment, client_app="dawdler")
    gauges = {"wall_ns": 10 * NS, "cpu_ns": 2 * NS, "max_stall_ns": NS, "stall_app_ns": 3 * NS // 4}
    deliver(experiment, gauges=Gauges(**gauges, app_ns=NS, slow_app_ns=NS // 2, longest_app_ns=NS // 4))
    result = summary.summarise(experiment)
    stall, slow = (reason["sentence"] for reason in result["verdict"]["reasons"])
    assert (
        "750 ms in next_request() or on_response() of client app 'dawdler', 250 ms in which the process was stopped"
        in stall
    )
    assert slow.startswith(f"slow client app: shard {experiment.id}.0/0 on ")
    assert "client app 'dawdler', 5 %, above 1 %" in slow and "the longest took 250 ms" in slow
    (shard,) = result["shards"]
    assert (shard["app_share"], shard["slow_app_share"], shard["longest_app_s"]) == (0.5, 0.05, 0.25)
    assert shard["stall"] == pytest.approx(
        {"waited_s": 0, "app_s": 0.75, "collecting_s": 0, "sealing_s": 0, "own_s": 0, "stopped_s": 0.25}
    )


def test_waits_for_max_connections_are_degraded():
    experiment = make_experiment(status="FINISHED")
    deliver(experiment, gauges=Gauges(wall_ns=10 * NS, pool_waits=5))
    assert summary.summarise(experiment)["shards"][0]["pool_wait_share"] is None, "there is no limit"
    set_spec(experiment, max_connections_per_host=2)
    result = summary.summarise(experiment)
    assert result["shards"][0]["pool_wait_share"] == 0.25
    (reason,) = result["verdict"]["reasons"]
    assert (reason["level"], "max_connections_per_host = 2, 25 %" in reason["sentence"]) == ("DEGRADED", True)


def test_running_out_of_ports_is_invalid_with_advice():
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(shard, lambda n, r: replace(r, outcome=Outcome.CONNECT_NO_PORT, sent_ns=-1, done_ns=-1))
    for batch in run_payloads(shard, rows):
        ingest(batch)
    verdict = summary.summarise(experiment)["verdict"]
    assert verdict["status"] == "INVALID"
    assert "20 connections could not be opened" in verdict["reasons"][0]["sentence"]
    assert "net.ipv4.ip_local_port_range" in verdict["reasons"][0]["sentence"]


def test_descriptor_limit_that_is_too_low_is_degraded():
    experiment = make_experiment(status="FINISHED")
    Shard.objects.update(descriptor_limit=256)
    deliver(experiment)
    assert summary.summarise(experiment)["verdict"]["status"] == "DEGRADED"


def test_running_out_of_descriptors_is_invalid():
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(shard, lambda n, r: replace(r, outcome=Outcome.CONNECT_NO_DESCRIPTOR, sent_ns=-1, done_ns=-1))
    for batch in run_payloads(shard, rows):
        ingest(batch)
    assert summary.summarise(experiment)["verdict"]["status"] == "INVALID"


def test_faults_of_the_target_do_not_affect_the_verdict():
    experiment = make_experiment([[1.0, 8.0]], status="FINISHED")
    (shard,) = shards_of(experiment)
    kinds = [Outcome.TIMEOUT, Outcome.RESET, Outcome.CLOSED, Outcome.MALFORMED]
    refused = [Outcome.CONNECT_REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.CONNECT_DNS, Outcome.CONNECT_OTHER]
    rows = rows_of(
        shard,
        lambda n, r: replace(r, outcome=(kinds + refused)[n], sent_ns=r.sent_ns if n < 4 else -1, done_ns=-1, status=0),
    )
    for batch in run_payloads(shard, rows):
        ingest(batch)
    assert summary.summarise(experiment)["verdict"] == {"status": "VALID", "reasons": []}


def test_resent_and_malformed_responses_are_counted():
    experiment = make_experiment([[1.0, 8.0]], [[1.0, 4.0]], status="FINISHED")
    reasons = [MalformedReason.CHUNK, MalformedReason.CHUNK, MalformedReason.VERSION]
    for shard in shards_of(experiment):
        rows = rows_of(
            shard,
            lambda n, r: (
                replace(r, outcome=Outcome.MALFORMED, done_ns=-1, status=0, reason=reasons[n])
                if n < 3
                else replace(r, resent=int(n == 3))
            ),
        )
        for batch in run_payloads(shard, rows):
            ingest(batch)
    result = summary.summarise(experiment)
    assert [part["malformed"] for part in result["workloads"]] == [{"version": 1, "chunk": 2}] * 2
    assert (result["total"]["malformed"], result["total"]["resent"]) == ({"version": 2, "chunk": 4}, 2)
    remarks = [reason["sentence"] for reason in result["verdict"]["reasons"]]
    assert [sentence.split(" (")[0] for sentence in remarks] == ["2 of 12 requests", "6 of 12 responses"]


def test_five_seconds_of_waiting_for_the_cpu_are_judged():
    experiment = make_experiment([[60.0, 1.0]], status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(shard)
    for number in range(12):
        waited_ns = 2 * NS if number >= 6 else 0  # in the seventh batch of 5 s alone
        gauges = Gauges(wall_ns=5 * (number + 1) * NS, wait_ns=waited_ns)
        part = rows[5 * number : 5 * number + 5]
        is_last = number == 11
        counters = counters_of(rows[: 5 * number + 5])
        end = "finished" if is_last else ""
        ingest(payload(shard, part, number=number, first_row=5 * number, end=end, counters=counters, gauges=gauges))
    result = summary.summarise(experiment)
    (reason,) = result["verdict"]["reasons"]
    assert "waiting for the CPU: shard" in reason["sentence"] and "40 %, above 10 %" in reason["sentence"]


def test_lateness_of_the_latest_workload_is_judged():
    experiment = make_experiment([[100.0, 150.0]], [[100.0, 1.0]], status="FINISHED")
    for shard in shards_of(experiment):
        late_ns = NS // 20 if shard.group.workload.index == 1 else 0
        rows = [
            replace(
                r, dispatched_ns=r.dispatched_ns + late_ns, sent_ns=r.sent_ns + late_ns, done_ns=r.done_ns + late_ns
            )
            for r in rows_of(shard)
        ]
        for batch in run_payloads(shard, rows):
            ingest(batch)
    result = summary.summarise(experiment)
    # 100 of 15,100 arrivals are 50 ms late.
    assert result["total"]["times"]["lateness"]["p99_s"] < 0.001
    (reason,) = result["verdict"]["reasons"]
    assert reason["sentence"].startswith("lateness p99: workload 1 (service1), 50")


def test_time_outs_count_as_their_limit_in_a_row_of_its_own():
    experiment = make_experiment([[1.0, 8.0]], [[1.0, 8.0]], status="FINISHED", request_timeout_s=2.0)
    second = experiment.workloads.get(index=1)
    second.spec = {**second.spec, "kwargs": {"timeout": [1, 5]}}
    second.save()
    for shard in shards_of(experiment):
        rows = rows_of(shard, lambda n, r: replace(r, outcome=Outcome.TIMEOUT, done_ns=-1, status=0) if n % 2 else r)
        for batch in run_payloads(shard, rows):
            ingest(batch)
    result = summary.summarise(experiment)
    parts = [part["times"]["response_time_with_timeouts"] for part in (*result["workloads"], result["total"])]
    assert [(part["count"], part["max_s"]) for part in parts] == [(8, 2.0), (8, 5.0), (16, 5.0)]
    assert [part["p90_s"] for part in parts] == pytest.approx([2.0, 5.0, 5.0], rel=0.01)
    assert result["total"]["times"]["response_time"]["count"] == 8


def test_arrivals_are_compared_with_the_schedules():
    experiment = make_experiment([[1.0, 8.0]], [[1.0, 8.0]], [[1.0, 8.0]], process="expovariate", status="FINISHED")
    deliver(experiment)
    for number, part in enumerate(summary.summarise(experiment)["intervals"]):
        assert (part["schedule_total"], part["explained_deviation"]) == (8.0, pytest.approx(3 * 8**0.5 + 1))
        assert part["arrivals_total"] == len(rows_of(shards_of(experiment)[number]))


def deliver_outcomes(experiment: Experiment, *outcomes: Outcome) -> None:
    """Delivers the plan's rows of each shard; the last ones have these outcomes."""
    for shard in shards_of(experiment):
        rows = rows_of(shard)
        first = len(rows) - len(outcomes)
        changed = [row(r.client, r.sequence, r.intended_ns, o) for r, o in zip(rows[first:], outcomes, strict=True)]
        for batch in run_payloads(shard, rows[:first] + changed):
            ingest(batch)


@pytest.mark.parametrize(
    ("timeout", "limits_s"),
    [
        (None, (3.0, 4.0)),
        (0.5, (0.5, 0.5)),
        ([0.25, 7], (0.25, 7.0)),
        # A wait for a free connection has the response's limit: the row does not tell it from a connect.
        ([9, 7], (7.0, 7.0)),
        ([None, 1], (1.0, 1.0)),
        ([1, None], (1.0, 4.0)),
    ],
)
def test_connect_time_outs_count_as_the_smaller_limit(timeout, limits_s):
    kwargs = {} if timeout is None else {"timeout": timeout}
    experiment = make_experiment(
        [[1.0, 8.0]], status="FINISHED", kwargs=kwargs, request_timeout_s=4.0, connect_timeout_s=3.0
    )
    deliver_outcomes(experiment, *[Outcome.CONNECT_TIMEOUT] * 2, Outcome.TIMEOUT)
    result = summary.summarise(experiment)
    connect_s, read_s = limits_s
    for part in (*result["workloads"], result["total"]):
        times = part["times"]["response_time_with_timeouts"]
        assert (times["count"], times["max_s"]) == (8, max(limits_s))
        assert times["mean_s"] == pytest.approx((5 * 0.00515 + 2 * connect_s + read_s) / 8, rel=0.001)
        assert part["times"]["response_time"]["count"] == 5
    assert "time-outs as their limit" in report_text.render(report.build(experiment, [], fresh=True))


def test_connect_time_outs_alone_have_the_row_too():
    experiment = make_experiment([[1.0, 8.0]], status="FINISHED")
    deliver_outcomes(experiment, Outcome.CONNECT_TIMEOUT, Outcome.CONNECT_REFUSED)
    (line,) = [
        line
        for line in report_text.render(report.build(experiment, [], fresh=True)).splitlines()
        if "time-outs as their limit" in line
    ]
    assert line.split()[4:] == ["7", "718.7", "5.145", "5,000", "5,000", "5,000", "5,000"]


def test_time_outs_of_an_app_have_no_known_limit():
    experiment = make_experiment([[1.0, 8.0]], [[1.0, 8.0]], status="FINISHED")
    with_app = experiment.workloads.get(index=1)
    with_app.spec = {**with_app.spec, "client_app": "basket"}
    with_app.save()
    deliver_outcomes(experiment, Outcome.TIMEOUT)
    result = summary.summarise(experiment)
    plain, app = (part["times"]["response_time_with_timeouts"] for part in result["workloads"])
    assert (plain["count"], plain["max_s"], app) == (8, 30.0, None)
    assert result["total"]["times"]["response_time_with_timeouts"] is None
    text = " ".join(report_text.render(report.build(experiment, [], fresh=True)).split())
    assert "time-outs as their limit service0" in text
    assert "No times with time-outs as their limit (the total, service1): requests of a client app timed out" in text


def test_app_without_time_outs_has_times_with_time_outs():
    experiment = make_experiment([[1.0, 8.0]], status="FINISHED", client_app="basket")
    deliver(experiment)
    times = summary.summarise(experiment)["total"]["times"]
    assert times["response_time_with_timeouts"] == times["response_time"]


def deviation_of(experiment: Experiment) -> str:
    """The report's sentence about the number of arrivals; "" if there is none."""
    text = " ".join(report_text.render(report.build(experiment, [], fresh=True)).split())
    found = re.search(r"[\d,]+ arrivals[^.]*, [\d.,]+ by the schedule.*?(explain, |explain up to )[\d.,]+\d", text)
    return found[0] if found else ""


def add_rows(shard: Shard, number: int) -> list[Row]:
    """The plan's rows of a shard and some more, at the time of its first."""
    rows = rows_of(shard)
    return rows + [replace(rows[0], sequence=1000 + n) for n in range(number)]


def test_arrivals_as_by_the_schedule_are_not_remarked_on():
    experiment = make_experiment([[1.0, 8.0]], status="FINISHED")
    deliver(experiment)
    assert deviation_of(experiment) == ""


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (2, "10 arrivals, 8.0 by the schedule (+2.0): a LARGER deviation than constant arrivals explain, 1.0"),
        (-3, "5 arrivals, 8.0 by the schedule (-3.0): a LARGER deviation than constant arrivals explain, 1.0"),
    ],
)
def test_too_many_or_too_few_arrivals_are_remarked_on(more, sentence):
    experiment = make_experiment([[1.0, 8.0]], status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, add_rows(shard, more) if more > 0 else rows_of(shard)[:more]):
        ingest(batch)
    assert deviation_of(experiment) == sentence


def test_deviation_that_the_process_explains_says_so():
    experiment = make_experiment([[1.0, 8.0]], process="expovariate", status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, rows_of(shard)[:4]):
        ingest(batch)
    assert deviation_of(experiment) == "4 arrivals, 8.0 by the schedule (-4.0); expovariate arrivals explain up to 9.5"


def test_arrivals_cut_without_a_row_are_no_deviation():
    experiment = make_experiment([[2.0, 20.0]], status="CANCELLED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, rows_of(shard)[:25]):
        ingest(batch)
    Shard.objects.update(totals={**Shard.objects.get().totals, "planned": 25, "cut_short": True})
    (part,) = summary.summarise(experiment)["intervals"]
    assert (part["schedule_total"], part["arrivals_total"], part["uncounted_total"]) == (40.0, 25, 15)
    assert deviation_of(experiment) == ""


@pytest.mark.parametrize("status", ["LOST", "FAILED"])
def test_arrivals_of_a_lost_shard_are_no_deviation(status):
    experiment = make_experiment([[1.0, 8.0]], [[1.0, 8.0]], status="FINISHED")
    lost, whole = shards_of(experiment)
    ingest(payload(lost, rows_of(lost)[:3]))
    for batch in run_payloads(whole):
        ingest(batch)
    Shard.objects.filter(id=lost.id).update(status=status)
    parts = summary.summarise(experiment)["intervals"]
    assert [(part["arrivals_total"], part["uncounted_total"]) for part in parts] == [(3, 5), (8, 0)]
    assert deviation_of(experiment) == ""


def test_rows_missing_from_the_database_are_no_deviation():
    experiment = make_experiment([[1.0, 8.0]], status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard)[1:]:  # the first batch of three rows is missing
        ingest(batch)
    (part,) = summary.summarise(experiment)["intervals"]
    assert (part["arrivals_total"], part["uncounted_total"]) == (5, 3)
    assert deviation_of(experiment) == ""


def test_deviation_counts_arrivals_that_are_in_no_interval():
    experiment = make_experiment([[1.0, 8.0]], status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, add_rows(shard, 4))[1:]:
        ingest(batch)
    assert deviation_of(experiment) == (
        "8 arrivals and 4 in no interval (lost, missing or cut), 8.0 by the schedule (+4.0): a LARGER deviation than "
        "constant arrivals explain, 1.0"
    )


@pytest.mark.parametrize(("status", "broke"), [("LOST", "was lost: it is gone"), ("FAILED", "failed: it is gone")])
def test_failed_or_lost_shard_makes_the_run_invalid(status, broke):
    experiment = make_experiment(status="FINISHED")
    deliver(experiment)
    Shard.objects.update(status=status, reason="it is gone")
    verdict = summary.summarise(experiment)["verdict"]
    assert verdict["status"] == "INVALID"
    assert broke in verdict["reasons"][0]["sentence"]


def test_shard_restarted_during_the_run_makes_it_invalid():
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(shard)
    ingest(payload(shard, rows[:5]))
    Shard.objects.update(attempt=2)
    (shard,) = shards_of(experiment)
    ingest(
        payload(shard, rows[5:], first_row=1 << 28, end="finished", counters=replace(counters_of(rows[5:]), skipped=5))
    )
    verdict = summary.summarise(experiment)["verdict"]
    assert [reason["level"] for reason in verdict["reasons"]] == ["INVALID"]
    assert "was restarted during the run" in verdict["reasons"][0]["sentence"]


def test_experiment_that_never_started_has_a_summary():
    experiment = make_experiment(status="CANCELLED")
    experiment.groups.all().delete()
    Experiment.objects.update(started_at=None, start_broker_ns=None, reason="cancelled by tester")
    experiment.refresh_from_db()
    result = summary.summarise(experiment)
    assert (result["intervals"], result["hosts"], result["workers"]) == ([], [], [])
    assert result["verdict"]["status"] == "INVALID"
    assert "CANCELLED: cancelled by tester" in result["verdict"]["reasons"][0]["sentence"]


def test_experiment_that_failed_before_the_start_has_a_summary():
    experiment = make_experiment(status="FAILED")
    Shard.objects.update(status="FAILED", reason="no such app")
    (shard,) = shards_of(experiment)
    ingest(payload(shard, end="finished", counters=Counters()))
    account = summary.summarise(experiment)["account"]
    assert (account["planned"], account["rows"], account["lost"], account["contradictions"]) == (20, 0, 20, [])


def test_events_have_offsets_from_the_start():
    experiment = make_experiment(status="FINISHED")
    Event.objects.create(experiment=experiment, timestamp=START, name="running", key="running")
    (event,) = summary.summarise(experiment)["events"]
    assert (event["offset_s"], event["name"]) == (0.0, "running")


def test_late_batch_makes_the_summary_stale_until_revised():
    experiment = make_experiment(status="FINALIZING")
    first, *rest = run_payloads(shards_of(experiment)[0])
    ingest(first)
    assert lifecycle.is_summary_stale(experiment)
    Experiment.objects.update(summary=summary.summarise(experiment))
    experiment.refresh_from_db()
    assert not lifecycle.is_summary_stale(experiment)
    for batch in rest:
        ingest(batch)
    assert lifecycle.is_summary_stale(experiment)
    lifecycle.revise_summary(experiment)
    experiment.refresh_from_db()
    assert lifecycle.is_summary_stale(experiment), "one that has not ended is not revised"
    Experiment.objects.update(status="FINISHED")
    experiment.refresh_from_db()
    lifecycle.revise_summary(experiment)
    experiment.refresh_from_db()
    assert not lifecycle.is_summary_stale(experiment)
    assert experiment.summary["account"]["closes"] is True


@pytest.mark.parametrize(
    ("walls_s", "used_s", "peak"),
    [
        ([], [], None),
        ([2], [1], 0.5),
        ([5], [1], 0.2),
        ([5, 10, 15], [1, 6, 7], 1.0),
        ([3, 6, 9, 12], [0, 0, 3, 3], 0.5),
        (list(range(1, 61)), list(range(1, 61)), 1.0),
    ],
)
def test_peak_is_the_worst_five_seconds(walls_s, used_s, peak):
    assert peak_share([wall * NS for wall in walls_s], [used * NS for used in used_s]) == peak
