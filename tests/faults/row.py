"""One row of the table, from the plan to the comparison."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace

from django.db.models import Q

from experiments.models import Event, Shard, Trace
from tests.faults import leftovers
from tests.faults.check import COMMANDED_OFF_NS, Figures, Logged, Result, Row, compare
from tests.faults.faults import COMMANDED, IDLE, OWN, Fault
from tests.faults.rig import CLIENTS, RATES, Rig
from tests.faults.stack import Stack
from tests.support.http_target import HttpTarget
from tests.support.ids import arrival_of, begin_of

ENDED = ("FINISHED", "FAILED", "CANCELLED")
_POLL_S = 0.1
# A batch that has waited for so long shows that the way to the database is not free.
_WAITS_S = 2.0


@dataclass
class Outcome:
    """A line of the table."""

    fault: str
    database: str
    seed: str
    moment_s: float | None = None
    figures: Figures = field(default_factory=Figures)
    ended: str = ""
    ended_at_s: float | None = None  # since the start of the load
    began_s: float | None = None  # from the submission to the start of the load
    recovered_s: float | None = None  # from the fault's end until no batch had to wait in a spool any more
    findings: list[str] = field(default_factory=list)


def run_row(stack: Stack, fault: Fault, seed: str, outcome: Outcome) -> None:
    """Fills `outcome`; its findings say what is wrong. What cannot go on raises AssertionError."""
    known = leftovers.keys(stack)
    with HttpTarget() as target:
        rig = Rig(stack, fault, target, f"{seed}/{fault.name}/{stack.database}")
        try:
            _run(rig, fault, target, outcome)
        finally:
            rig.cleanup.close()
    stack.restore()
    shards = Shard.objects.filter(group_id__in=[load.group_id for load in rig.loads])
    # Lost at the end, or before another attempt was sent.
    lost = stack.galileo.read(shards.filter(Q(status="LOST") | Q(attempt__gt=1)))
    outcome.findings += leftovers.wait_for_none(stack, known, lost_shards=bool(lost))


def _run(rig: Rig, fault: Fault, target: HttpTarget, outcome: Outcome) -> None:
    if fault.when == IDLE:
        fault.act(rig)
        struck_s = time.time()
        rig.begin()
    elif fault.when == COMMANDED:
        rig.session.begin(CLIENTS, RATES[0])
        rig.until_moment()
        outcome.moment_s = rig.moment_s
        fault.act(rig)
        struck_s = time.time()
    else:
        if fault.when != OWN:
            rig.begin()
            rig.until_moment()
            outcome.moment_s = rig.moment_s
        fault.act(rig)
        struck_s = time.time()
    over_s = struck_s
    if fault.when == COMMANDED:
        rig.session.end(fault.duration_s)
        over_s = time.time()
    congested_s, ended_s = _wait_for_the_end(rig, fault)
    outcome.recovered_s = max(0.0, congested_s - struck_s)
    result = _settled(rig, fault, target)
    outcome.figures = result.figures
    outcome.findings += rig.findings + result.findings
    experiment = rig.galileo.experiment(rig.experiment_id)
    outcome.ended = experiment.status
    if experiment.status != fault.ends:
        outcome.findings.append(f"the experiment ended {experiment.status}, not {fault.ends}: {experiment.reason}")
    elif not re.search(fault.reason, experiment.reason):
        outcome.findings.append(f"the reason does not match {fault.reason!r}: {experiment.reason!r}")
    if rig.start_s():
        outcome.began_s = rig.start_s() - rig.begun_s
        outcome.ended_at_s = ended_s - rig.start_s()
        due_s = max(fault.duration_s, over_s - rig.start_s()) + fault.overtime_s
        if outcome.ended_at_s > due_s:
            outcome.findings.append(f"the experiment ended after {outcome.ended_at_s:.1f} s, not within {due_s:.1f} s")
    events = Event.objects.filter(experiment_id=rig.experiment_id)
    names = set(rig.galileo.read(events.values_list("name", flat=True)))
    outcome.findings += [f"no event {name!r} is on the timeline" for name in fault.events if name not in names]


def _wait_for_the_end(rig: Rig, fault: Fault) -> tuple[float, float]:
    """When a batch was last seen to wait (0: never), and when the experiment had ended, by the host's clock."""
    congested_s = 0.0
    limit_s = time.monotonic() + fault.duration_s + fault.overtime_s + 90.0
    while rig.status() not in ENDED:
        if time.monotonic() > limit_s:
            raise AssertionError(f"the experiment is {rig.status()} and does not end")
        if _is_congested(rig):
            congested_s = time.time()
        time.sleep(_POLL_S)
    return congested_s, time.time()


def _is_congested(rig: Rig) -> bool:
    now_s = time.time()
    for name, child in rig.galileo.children.items():
        if child.exit_status() is None:
            for path in rig.galileo.spool(name).glob("*.batch"):
                try:
                    if now_s - path.stat().st_mtime > _WAITS_S:
                        return True
                except FileNotFoundError:
                    continue  # it has been acknowledged just now
    return False


def _settled(rig: Rig, fault: Fault, target: HttpTarget) -> Result:
    """The comparison, when it is green or when the time for what comes late is over."""
    ends_s = time.monotonic() + fault.settle_s
    while True:
        result = _compared(rig, target)
        if not result.findings or time.monotonic() > ends_s:
            return result
        time.sleep(0.5)


def _compared(rig: Rig, target: HttpTarget) -> Result:
    plan, rows, logged = [], [], []
    seen = target.log()
    for load in rig.loads:
        planned = [replace(arrival, client=load.first + arrival.client) for arrival in load.plan]
        due_ns = {(arrival.client, arrival.sequence): arrival.at_ns for arrival in planned}
        plan += planned
        shards = rig.galileo.read(Shard.objects.filter(group_id=load.group_id).values_list("id", flat=True))
        traces = Trace.objects.filter(experiment_id=rig.experiment_id, shard_id__in=shards)
        columns = ("client", "sequence", "intended_ns", "sent_ns", "outcome")
        for client, sequence, intended_ns, sent_ns, code in rig.galileo.read(traces.values_list(*columns)):
            key = load.first + client, sequence
            # What was cut before there was a start has no time by the plan.
            since_ns = intended_ns - rig.start_ns() if rig.start_ns() else due_ns.get(key, 0)
            rows.append(Row(*key, since_ns, sent_ns is not None, code))
        for at_s, name, _, _ in seen:
            if name.startswith(begin_of(load.group_id)):
                client, sequence = arrival_of(name)
                logged.append(Logged(load.first + client, sequence, at_s - rig.start_s()))
    if is_commanded := any(load.is_commanded for load in rig.loads):
        result = compare(plan, rows, logged, rig.spans, COMMANDED_OFF_NS)
    else:
        result = compare(plan, rows, logged, rig.spans)
    result.findings += _told(rig, result.figures, is_commanded)
    return result


def _told(rig: Rig, figures: Figures, is_commanded: bool) -> list[str]:
    """What the product's own report says otherwise; of what was commanded, it counts what was started as planned."""
    told = rig.galileo.web.experiment(rig.experiment_id)["summary"]
    if told is None:
        return ["there is no summary"]
    account = told["account"]
    planned, lost = (figures.rows, 0) if is_commanded else (figures.planned, figures.lost)
    ours = {"planned": planned, "rows": figures.rows, "sent": figures.sent}
    wrong = [f"the report says {name} {account[name]}, not {n}" for name, n in ours.items() if account[name] != n]
    if account["lost"] + account["missing"] != lost:
        wrong.append(f"the report says lost {account['lost']}, missing {account['missing']}, not {lost}")
    wrong += [f"the report contradicts itself: {sentence}" for sentence in account["contradictions"]]
    if lost and told["verdict"]["status"] == "VALID":
        wrong.append("the verdict is VALID in spite of the loss")
    return wrong
