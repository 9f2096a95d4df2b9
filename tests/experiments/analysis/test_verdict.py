"""The verdict names each thing that spoils a result, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.analysis.limits import LIMITS, RULES
from experiments.analysis.verdict import LatenessFacts, QuotaFacts, ShardFacts, StallFacts, VerdictFacts, judge

SHARD = ShardFacts(
    name="e.0/0",
    worker="pi1",
    max_in_flight=1000,
    descriptor_limit=65_536,
    cpu_share=0.4,
    wait_share=0.01,
    others_share=0.1,
    stolen_share=0.01,
    stall=StallFacts(0.02),
    app="squeezenet",
    app_share=0.3,
    slow_app_share=0.001,
    longest_app_s=0.03,
    max_connections=8,
    pool_wait_share=0.001,
    clock_uncertainty_s=0.0001,
    clock_drift_s=0.0,
)
OTHER = replace(SHARD, name="e.0/1", worker="pi2")
CLEAN = VerdictFacts(
    ended_as="FINISHED", planned=10_000, lateness_p99_s=0.001, lateness_max_s=0.01, shards=(SHARD, OTHER)
)


def test_clean_run_is_valid_without_a_reason():
    verdict = judge(CLEAN)
    assert (verdict.status, verdict.reasons) == ("VALID", [])


def run(**changes: object) -> VerdictFacts:
    return replace(CLEAN, **changes)


def shard(**changes: object) -> VerdictFacts:
    return replace(CLEAN, shards=(OTHER, replace(SHARD, **changes)))


CASES = [
    (run(ended_as="CANCELLED", reason="Ctrl-C"), "INVALID", "it ended as CANCELLED: Ctrl-C"),
    (run(ended_as="FAILED"), "INVALID", "it ended as FAILED"),
    (run(ended_as=""), "INVALID", "still running"),
    (run(planned=0), "INVALID", "nothing was planned"),
    (run(contradictions=("5 rows are odd",)), "INVALID", "does not close: 5 rows are odd"),
    (run(not_made=3), "DEGRADED", "3 requests of requests_per_client were not made"),
    (run(late=1), "DEGRADED", "late arrivals: 1 of 10,000, 0.01 %, above 0 %"),
    (run(late=100), "DEGRADED", "late arrivals: 100 of 10,000, 1 %"),
    (run(late=101), "INVALID", "late arrivals: 101 of 10,000, 1.01 %, above 1 %"),
    (run(dropped=1), "DEGRADED", "dropped arrivals: 1 of 10,000"),
    (run(dropped=500), "DEGRADED", "raise max_in_flight"),
    (run(dropped=501), "INVALID", "dropped arrivals: 501 of 10,000, 5.01 %, above 5 %"),
    (run(cut=11), "DEGRADED", "not achieved: 11 of 10,000"),
    (run(cut=501), "INVALID", "not achieved: 501 of 10,000"),
    (run(lost=501), "INVALID", "not achieved: 501 of 10,000"),
    (run(missing=1), "DEGRADED", "missing rows: 1 of 10,000, 0.01 %, above 0 %"),
    (run(missing=11), "INVALID", "missing rows: 11 of 10,000, 0.11 %, above 0.1 %"),
    (run(no_descriptor=1), "INVALID", "out of file descriptors"),
    (run(no_port=1), "INVALID", "1 connections could not be opened because the worker ran out of ephemeral ports"),
    (run(no_port=1), "INVALID", "widen net.ipv4.ip_local_port_range, or use more workers, or more addresses"),
    (run(lateness_p99_s=0.021), "DEGRADED", "lateness p99: 21 ms, above 20 ms"),
    (run(lateness_p99_s=0.201), "INVALID", "lateness p99: 201 ms, above 200 ms"),
    (run(lateness_max_s=0.6), "DEGRADED", "lateness max: 600 ms, above 500 ms"),
    (shard(stall=StallFacts(2.0)), "DEGRADED", "event loop stall: shard e.0/0 on pi1, 2000 ms, above 500 ms"),
    (shard(slow_app_share=0.02), "DEGRADED", "slow client app: shard e.0/0 on pi1, client app 'squeezenet', 2 %"),
    (shard(slow_app_share=0.02), "DEGRADED", "the longest took 30 ms): nothing is sent or received meanwhile"),
    (shard(cpu_share=0.95), "DEGRADED", "CPU of a shard: shard e.0/0 on pi1, 95 %, above 90 %"),
    (shard(cpu_share=0.95), "DEGRADED", "30 % of it in client app 'squeezenet'): the generator was at its limit"),
    (shard(pool_wait_share=0.5), "DEGRADED", "waits at max_connections_per_host: shard e.0/0 on pi1, max_con"),
    (shard(pool_wait_share=0.5), "DEGRADED", "= 8, 50 %, above 1 %"),
    (shard(pool_wait_share=0.5), "DEGRADED", "not the target: raise max_connections_per_host"),
    (shard(stolen_share=0.2), "DEGRADED", "stolen by the hypervisor: shard e.0/0 on pi1, 20 %, above 10 %"),
    (shard(wait_share=0.3), "DEGRADED", "waiting for the CPU: shard e.0/0 on pi1, 30 %, above 10 %"),
    (replace(CLEAN, no_route=CLEAN.planned // 50), "DEGRADED", "not achieved"),
    (shard(others_share=0.95), "DEGRADED", "others on the core: shard e.0/0 on pi1, 95 %, above 80 %"),
    (shard(descriptor_limit=1063), "DEGRADED", "may open 1,063 file descriptors, below the 1,064"),
    (shard(clock_uncertainty_s=0.011), "DEGRADED", "clock uncertainty: shard e.0/0 on pi1, 11 ms"),
    (shard(clock_drift_s=0.051), "DEGRADED", "clock drift: shard e.0/0 on pi1, 51 ms"),
    (shard(failure="was lost: worker pi1 was lost"), "INVALID", "shard e.0/0 on pi1 was lost: worker pi1 was lost"),
]


@pytest.mark.parametrize(("facts", "status", "words"), CASES, ids=[words for _, _, words in CASES])
def test_each_fault_has_its_level_figure_limit_and_advice(facts, status, words):
    verdict = judge(facts)
    assert verdict.status == status
    matching = [reason for reason in verdict.reasons if words in reason.sentence]
    assert [reason.level for reason in matching] == [status]


@pytest.mark.parametrize(
    "facts",
    [
        run(lateness_p99_s=0.020, lateness_max_s=0.5),
        run(lateness_p99_s=None, lateness_max_s=None),
        run(cut=10),
        shard(stall=StallFacts(0.5), cpu_share=0.9, wait_share=0.1, clock_uncertainty_s=0.01, clock_drift_s=0.05),
        shard(slow_app_share=0.01, pool_wait_share=0.01, stolen_share=0.1, others_share=0.8),
        shard(app="", app_share=None, slow_app_share=None, pool_wait_share=None, stolen_share=None),
        shard(descriptor_limit=1064),
        shard(descriptor_limit=None, cpu_share=None, wait_share=None, stall=None, clock_drift_s=None),
        replace(CLEAN, shards=(replace(SHARD, clock_uncertainty_s=1.0),)),
    ],
)
def test_figure_at_its_limit_or_unknown_is_valid(facts):
    assert judge(facts) == judge(CLEAN)


def test_the_latest_part_is_judged_if_it_is_worse():
    parts = (LatenessFacts("workload 0 (a)", 0.001), LatenessFacts("shard e.0/0 on pi1", 0.3), LatenessFacts("x", None))
    verdict = judge(run(lateness_p99_s=0.03, lateness=parts))
    assert [(reason.level, reason.sentence.split(", above")[0]) for reason in verdict.reasons] == [
        ("INVALID", "lateness p99: shard e.0/0 on pi1, 300 ms"),
        ("DEGRADED", "lateness p99: 30 ms"),
    ]
    assert len(judge(run(lateness_p99_s=0.03, lateness=(LatenessFacts("x", 0.04),))).reasons) == 1


REMARKS = [
    (run(sent=10_000, resent=101), "101 of 10,000 requests (1 %) were sent a second time"),
    (run(sent=500, resent=400), "400 of 500 requests (80 %) were sent a second time"),
    (run(sent=10_000, malformed={"chunk": 100, "status_line": 1}), "101 of 10,000 responses (1 %) were malformed"),
    (run(sent=10, malformed={"status_line": 10}), "(100 %) were malformed (status line: 10): look at some of them"),
]


@pytest.mark.parametrize(("facts", "words"), REMARKS, ids=[words for _, words in REMARKS])
def test_habits_of_the_target_are_a_remark(facts, words):
    verdict = judge(facts)
    assert verdict.status == "VALID"
    (remark,) = verdict.reasons
    assert (remark.level, words in remark.sentence) == ("VALID", True)


def test_few_odd_responses_are_not_remarked_on():
    assert judge(run(sent=10_000, resent=100, malformed={"chunk": 100})) == judge(CLEAN)


def test_worst_reason_decides_and_comes_first():
    verdict = judge(run(late=1, no_port=3, missing=1))
    assert verdict.status == "INVALID"
    assert [reason.level for reason in verdict.reasons] == ["INVALID", "DEGRADED", "DEGRADED"]


def test_arrivals_that_the_generator_did_not_send_add_up():
    verdict = judge(run(late=99, dropped=400, cut=2))
    assert "not achieved: 501 of 10,000, 5.01 %, above 5 %" in verdict.reasons[0].sentence


APP = "ms in next_request() or on_response() of client app 'slow'"
STOPPED = "ms in which the process was stopped or swapped out, or the machine stood still"
STALLS = [
    (StallFacts(2.0, app_s=1.9, app="slow"), f"1,900 {APP})", "prepare the app's data"),
    (StallFacts(2.0, app_s=0.8, app="slow"), f"1,200 {STOPPED}, 800 {APP})", "suspended"),
    (StallFacts(2.0, collecting_s=2.0), "2,000 ms in the garbage collector)", "fewer of them"),
    (StallFacts(2.0, sealing_s=1.5), f"1,500 ms in the sealing of trace batches, 500 {STOPPED})", "galileo_spool_dir"),
    (StallFacts(2.0, own_s=2.01), "2,010 ms of work with requests and responses)", "raise shards_per_worker"),
    (
        StallFacts(2.0, waited_s=1.5),
        f"1,500 ms waiting for the CPU, which other processes had, 500 {STOPPED})",
        "other work off",
    ),
    (StallFacts(2.0, own_s=0.1), f"1,900 {STOPPED})", "paused by its host"),
]


@pytest.mark.parametrize(("stall", "causes", "advice"), STALLS, ids=[causes for _, causes, _ in STALLS])
def test_stall_names_its_causes_and_the_remedy_of_the_longest(stall, causes, advice):
    (reason,) = judge(shard(stall=stall)).reasons
    told, _, last = reason.sentence.rpartition(": ")
    assert causes in told
    assert advice in last


QUOTA = QuotaFacts(cores=0.2, throttled_share=0.85)
THROTTLED = (
    "throttled by a CPU quota: worker pi1, whose quota is 0.2 cores, 85 %, above 1 %",
    "raise or remove the worker's CPU quota",
)


def test_throttled_worker_is_named_with_its_quota_once():
    facts = shard(quota=QUOTA)
    facts = replace(facts, shards=(*facts.shards, replace(SHARD, name="e.0/2", quota=QUOTA)))
    (reason,) = judge(facts).reasons
    assert reason.level == "DEGRADED"
    assert all(words in reason.sentence for words in THROTTLED)


@pytest.mark.parametrize(
    ("changes", "begin"),
    [
        ({"wait_share": 0.7}, "waiting for the CPU: shard e.0/0 on pi1, 70 %, above 10 %"),
        ({"stall": StallFacts(2.0, waited_s=1.9)}, "event loop stall"),
        ({"stall": StallFacts(2.0, own_s=0.1)}, "event loop stall"),
    ],
)
def test_quota_is_the_cause_instead_of_other_processes(changes, begin):
    (sentence,) = (
        reason.sentence for reason in judge(shard(quota=QUOTA, **changes)).reasons if reason.sentence.startswith(begin)
    )
    assert "quota" in sentence and "raise or remove the worker's CPU quota" in sentence
    assert "other process" not in sentence and "another process" not in sentence and "suspended" not in sentence


def test_lateness_of_a_throttled_worker_has_the_quotas_remedy():
    facts = replace(shard(quota=QUOTA), late=900, dropped=700, missing=2, lateness_p99_s=0.3, lateness_max_s=0.9)
    advised = {
        reason.sentence.partition(":")[0]: "raise or remove the worker's CPU quota" in reason.sentence
        for reason in judge(facts).reasons
    }
    assert advised.pop("missing rows") is False
    assert set(advised) == {
        "not achieved", "late arrivals", "dropped arrivals", "lateness p99", "lateness max", "throttled by a CPU quota",
    }  # fmt: skip
    assert all(advised.values())


@pytest.mark.parametrize("quota", [None, QuotaFacts(cores=0.2, throttled_share=0.01)])
def test_quota_that_was_hardly_used_up_explains_nothing(quota):
    (reason,) = judge(shard(quota=quota, wait_share=0.7)).reasons
    assert "another process had its core" in reason.sentence
    assert "quota" not in reason.sentence


def test_every_limit_has_a_meaning_and_advice():
    assert all(threshold.about and threshold.advice for threshold in LIMITS)
    assert {level for level, _ in RULES} == {"INVALID", "DEGRADED"}
