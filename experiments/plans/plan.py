"""Plan: the definition of an experiment (its name, intervals, workloads, events, routes, seed and metadata).

Longer than other modules: the description, type and limits of each key stand here, and nowhere else.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationInfo

from experiments.plans.fields import (
    MAX_DURATION_S,
    MAX_INTEGER,
    NS,
    JsonMapping,
    Labels,
    Listed,
    Reason,
    Text,
    checked,
    duration_of,
    duration_reason,
    duration_type,
    one_of,
    scalar_reason,
    seconds_of,
)
from experiments.plans.parsing import PlanErrors, Section, read, refused
from experiments.plans.recordings import MAX_RECORDED, WAY_ROUND, rates_rps
from experiments.plans.routes import MAX_ROUTES, Route, plain_routing, read_routing
from experiments.plans.workload import MAX_CLIENTS, ClientOf, Workload, WorkloadContext, no_client
from loadgen.arrivals.pacer import ARRIVALS_VERSION, times_differ
from loadgen.protocol.enums import CaptureMode, LoadModel, OnWorkerLoss
from loadgen.protocol.messages import WorkloadSpec
from routing import table
from routing.errors import Code, shown

MAX_WORKLOADS = 100
MAX_INTERVALS = 100_000
MAX_LISTED_INTERVALS = 10_000
MAX_RECORDED_INTERVALS = 500_000  # of all recorded workloads together, whose rates are computed
MAX_ARRIVALS = 100_000_000
MAX_EVENTS = 10_000
MAX_EVENT_VALUE = 4000
UNNAMED = "experiment"

# An id that addresses, file names and request ids can hold.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,23}")
# On PostgreSQL a partition of that name would collide with the index of the traces' table.
_RESERVED_IDS = frozenset({"pkey"})


def _id_reason(value: object) -> Reason | None:
    if not isinstance(value, str):
        return Code.TYPE, f"must be a string, got {shown(value)}"
    if not _ID.fullmatch(value):
        return Code.FORMAT, f"must have up to 24 letters, digits and -, and not begin with -, got {shown(value)}"
    return (Code.CONFLICT, f"is reserved: {shown(value)}") if value in _RESERVED_IDS else None


# A permitted id of an experiment; another experiment may have it already.
ExperimentId = Annotated[str, checked(_id_reason, Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9-]{0,23}$")])]


class About(Section):
    """The keys of an interactive experiment."""

    name: Text = Field(UNNAMED, description="The name.")
    creator: Text | None = Field(None, description="The person or program that creates it. Default: the submitter.")
    metadata: JsonMapping = Field(default_factory=dict, description="A mapping that is stored with it.")


class ExperimentKeys(Section):
    """The section `experiment` of a plan."""

    name: Text = Field(UNNAMED, description="The name, which need not be unique.")
    creator: Text | None = Field(None, description="The person or program that creates it. Default: the submitter.")
    id: ExperimentId | None = Field(
        None, description="The id of this run, which no other experiment may have. Default: one is drawn."
    )

    def left_out(self) -> set[str]:
        return {"id"} | (set() if self.creator else {"creator"})


def _read_duration_s(value: object) -> float:
    return round(seconds_of(value, MAX_DURATION_S) * NS) / NS


def _read_intervals_ns(value: object, info: ValidationInfo) -> list[int]:
    """How long each interval lasts; empty where the duration is wrong."""
    errors = PlanErrors()
    duration_s = info.data.get("duration")
    duration_ns = None if duration_s is None else round(duration_s * NS)
    if isinstance(value, list | tuple):
        found = _read_listed(value, duration_ns, errors)
    else:
        found = _divided(duration_ns, round(seconds_of(value, MAX_DURATION_S) * NS), errors)
    errors.raise_in_model()
    if isinstance(info.context, WorkloadContext) and found:
        info.context.intervals, info.context.duration_ns = len(found), sum(found)
    return found


def _divided(duration_ns: int | None, interval_ns: int, errors: PlanErrors) -> list[int]:
    """Equal intervals, of which the last may be shorter."""
    if duration_ns is None:
        return []
    whole, rest_ns = divmod(duration_ns, interval_ns)
    intervals = whole + bool(rest_ns)
    if intervals > MAX_INTERVALS:
        errors.add((), Code.RANGE, f"must divide the duration into at most {MAX_INTERVALS} intervals, got {intervals}")
        return []
    return [interval_ns] * whole + ([rest_ns] if rest_ns else [])


def _read_listed(value: list[object] | tuple[object, ...], duration_ns: int | None, errors: PlanErrors) -> list[int]:
    if not 0 < len(value) <= MAX_LISTED_INTERVALS:
        message = f"must be a list of 1 to {MAX_LISTED_INTERVALS:,} durations, got {len(value):,}"
        errors.add((), Code.RANGE, message)
        return []
    found = []
    for index, item in enumerate(value):
        if reason := duration_reason(item, MAX_DURATION_S):
            errors.add((index,), *reason)
        else:
            found.append(round(seconds_of(item, MAX_DURATION_S) * NS))
    if duration_ns is None or len(found) < len(value):
        return []
    if sum(found) != duration_ns:
        message = f"the intervals together must last the duration, {duration_ns / NS:g} s, got {sum(found) / NS:g} s"
        errors.add((), Code.CONFLICT, message)
    return found


def plain_intervals(intervals_ns: list[int]) -> float | list[float]:
    """The value of `interval`: one number where the intervals are equal but for a shorter last one."""
    first_ns, last_ns = intervals_ns[0], intervals_ns[-1]
    if last_ns <= first_ns and all(interval_ns == first_ns for interval_ns in intervals_ns[:-1]):
        return first_ns / NS
    return [interval_ns / NS for interval_ns in intervals_ns]


_Interval = duration_type(MAX_DURATION_S)


class Configuration(Section):
    """The section `configuration` of a plan."""

    duration: Annotated[
        float, PlainValidator(_read_duration_s, json_schema_input_type=duration_type(MAX_DURATION_S))
    ] = Field(description="How long the load lasts.")
    intervals_ns: Annotated[
        list[int],
        PlainValidator(
            _read_intervals_ns,
            json_schema_input_type=_Interval
            | Annotated[list[_Interval], Field(min_length=1, max_length=MAX_LISTED_INTERVALS)],
        ),
        PlainSerializer(plain_intervals),
    ] = Field(
        alias="interval",
        description="How long each number of `ticks` or `clients` holds; the last interval may be shorter. Or a list "
        "of the durations of all intervals, such as `[2s, 5s, 2s]`, whose sum is `duration`.",
    )
    workloads: Annotated[list[Workload], Listed(MAX_WORKLOADS, "workloads", least=1)] = Field(
        description="The workloads, one per service."
    )
    on_worker_loss: Annotated[str, one_of(OnWorkerLoss)] = Field(
        OnWorkerLoss.CONTINUE, description="What is done when a shard is lost; see [reliability.md](reliability.md)."
    )
    tracing: bool = Field(
        True, description="`false`: only statistics are stored, no traces; [see below](#without-traces)."
    )

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        workloads = context.parts_of(Workload)
        if self.on_worker_loss == OnWorkerLoss.REPLACE and any(workload.requests_per_client for workload in workloads):
            errors.add(
                ("on_worker_loss",),
                Code.CONFLICT,
                "replace cannot keep `requests_per_client`, as the number of requests that a lost client has made is "
                "not known; take continue or fail",
            )
        for index, workload in enumerate(workloads):
            if not self.tracing and workload.capture != CaptureMode.NONE:
                message = "has no effect with `tracing: false`, as captures are kept beside traces; remove one of them"
                errors.add(("workloads", index, "capture"), Code.CONFLICT, message)
        workloads = self._with_recorded_rates(workloads, errors)
        _check_any_load(workloads, errors)
        if self.intervals_ns and not len(errors):
            _check_total(workloads, self.intervals_ns, errors)
        clients = sum(workload.clients for workload in workloads)
        if clients > MAX_CLIENTS:
            message = f"must have at most {MAX_CLIENTS:,} clients in total, got {clients:,}"
            errors.add(("workloads",), Code.RANGE, message)
        return self.model_copy(update={"workloads": workloads})

    def _with_recorded_rates(self, workloads: list[Workload], errors: PlanErrors) -> list[Workload]:
        """The workloads; those of recorded arrivals with the times within the plan, and the rates of these."""
        recorded = [workload for workload in workloads if workload.is_recorded]
        intervals_ns = self.intervals_ns or []
        if len(recorded) * len(intervals_ns) > MAX_RECORDED_INTERVALS:
            message = "makes too many intervals for so many recorded workloads; take a longer one"
            errors.add(("interval",), Code.RANGE, message)
            return workloads
        if not recorded or not intervals_ns:
            return workloads
        found, total, duration_ns = [], 0, sum(intervals_ns)
        for index, workload in enumerate(workloads):
            if not workload.is_recorded:
                found.append(workload)
                continue
            process, times_s = workload.arrival_pattern
            within_s = times_s[: bisect_left(times_s, duration_ns, key=lambda time_s: round(time_s * NS))]
            if times_s and not within_s:
                errors.add(
                    ("workloads", index, "arrival_pattern"),
                    Code.RANGE,
                    f"must have a recorded time before the plan's end; the first is {times_s[0]:g} s after the start",
                )
            total += len(within_s)
            ticks = rates_rps(within_s, intervals_ns)
            found.append(workload.model_copy(update={"ticks": ticks, "arrival_pattern": (process, within_s)}))
        if total > MAX_RECORDED:
            message = f"must have at most {MAX_RECORDED:,} recorded arrivals in total, got {total:,}; {WAY_ROUND}"
            errors.add(("workloads",), Code.RANGE, message)
        return found


def _check_any_load(workloads: list[Workload], errors: PlanErrors) -> None:
    """A workload may send nothing throughout, as clients that only stand by do; all of them together may not."""
    if workloads and all(_is_silent(workload) for workload in workloads):
        for index in range(len(workloads)):
            errors.add(("workloads", index, "ticks"), Code.RANGE, "must have at least one number above 0")


def _is_silent(workload: Workload) -> bool:
    """Whether all its ticks are 0. In the closed model, and with a recording, that is refused elsewhere."""
    is_paced = workload.model == LoadModel.OPEN and not workload.is_recorded
    return is_paced and bool(workload.ticks) and not any(workload.ticks)


def _check_total(workloads: list[Workload], intervals_ns: list[int], errors: PlanErrors) -> None:
    total: float = 0
    for workload in workloads:
        if workload.model == LoadModel.CLOSED:
            total += workload.clients * (workload.requests_per_client or 0)
        else:
            total += sum(rate * length_ns / NS for rate, length_ns in zip(workload.ticks, intervals_ns, strict=True))
    if total > MAX_ARRIVALS:
        message = f"must plan at most {MAX_ARRIVALS:,} requests in total, got {total:,.0f}"
        errors.add(("workloads",), Code.RANGE, message)


def _read_at_ns(value: object, info: ValidationInfo) -> int:
    at_s = duration_of(value)
    if at_s is None or at_s < 0:
        message = f"must be a time after the start, like 90s or a number of seconds, got {shown(value)}"
        raise refused(Code.FORMAT, message)
    at_ns = round(min(at_s, MAX_DURATION_S + 1) * NS)
    duration_ns = info.context.duration_ns if isinstance(info.context, WorkloadContext) else 0
    if duration_ns and at_ns > duration_ns:
        message = f"must not be after the plan's end ({duration_ns / NS:g} s), got {shown(value)}"
        raise refused(Code.RANGE, message)
    return at_ns


def _event_value_reason(value: object) -> Reason | None:
    if not isinstance(value, str):
        return Code.TYPE, f"must be a string, got {shown(value)}"
    if len(value) > MAX_EVENT_VALUE:
        return Code.RANGE, f"must have at most {MAX_EVENT_VALUE} characters, got {len(value)}"
    return scalar_reason(value)


class TimedEvent(Section):
    """A mark on the experiment's timeline."""

    at_ns: Annotated[
        int,
        PlainValidator(_read_at_ns, json_schema_input_type=duration_type(MAX_DURATION_S, low_s=0)),
        PlainSerializer(lambda at_ns: at_ns / NS),
    ] = Field(alias="at", description="The time after the start.")
    name: Text = Field(description="The name.")
    value: Annotated[str, checked(_event_value_reason, Annotated[str, Field(max_length=MAX_EVENT_VALUE)])] = Field(
        "", description="A text of your own."
    )


def _pass_on_labels(labels: dict[str, str], info: ValidationInfo) -> dict[str, str]:
    if isinstance(info.context, WorkloadContext):
        info.context.worker_labels = labels
    return labels


class Plan(Section):
    """A plan of an experiment. docs/plans.md describes it in full."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True,
        json_schema_extra={
            "example": {
                "experiment": {"name": "two minutes"},
                "configuration": {
                    "duration": "2m",
                    "interval": "1m",
                    "workloads": [{"service": "shop", "ticks": [10, 50], "arrival_pattern": "expovariate"}],
                },
                "routing": [{"service": "shop", "hosts": ["127.0.0.1:8080"]}],
            }
        },
    )

    experiment: ExperimentKeys = Field(
        ExperimentKeys(), description="The name of the experiment, its creator and its id."
    )
    worker_labels: Annotated[Labels, AfterValidator(_pass_on_labels)] = Field(
        default_factory=dict,
        description="The labels that workers must have, for all workloads, such as `{galileo_zone: A}`, with or "
        "without the prefix. Default: every worker is taken.",
    )
    configuration: Configuration = Field(description="The load.")
    events: Annotated[list[TimedEvent], Listed(MAX_EVENTS, "events")] = Field(
        default_factory=list, description="Marks for the timeline."
    )
    routing: Annotated[
        list[table.RoutingRecord],
        PlainValidator(
            read_routing,
            json_schema_input_type=Annotated[list[Route], Field(max_length=MAX_ROUTES)] | dict[str, dict[str, Any]],
        ),
        PlainSerializer(plain_routing),
    ] = Field(
        default_factory=list,
        description="Routes to set before the start: a list of `{service, hosts, weights}`, or a mapping of services. "
        "Default: the routing table stays as it is.",
    )
    seed: Annotated[int, Field(ge=0, le=MAX_INTEGER)] | None = Field(
        None,
        description="The seed of all random sources: the same seed and plan give the same intended times. Default: one "
        "is drawn, and stored.",
    )
    arrivals_version: Annotated[int, Field(ge=1, le=ARRIVALS_VERSION)] = Field(
        ARRIVALS_VERSION,
        description="The version of the arrival processes, which stored plans have; [see below](#arrival-processes).",
    )
    metadata: JsonMapping = Field(default_factory=dict, description="A mapping that is stored with the experiment.")

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        return self.model_copy(update={"worker_labels": {}})  # each workload has them

    def left_out(self) -> set[str]:
        empty = {"events"} if not self.events else set()
        return {"worker_labels"} | empty | ({"seed"} if self.seed is None else set())

    @property
    def workloads(self) -> list[Workload]:
        return self.configuration.workloads

    @property
    def intervals_ns(self) -> list[int]:
        """How long each interval lasts; together they are the duration."""
        return self.configuration.intervals_ns

    @property
    def duration_ns(self) -> int:
        return sum(self.intervals_ns)

    @property
    def duration_s(self) -> float:
        return self.duration_ns / NS

    @property
    def older_times(self) -> str:
        """A sentence if its arrivals had other times in the version of the plan; "" if they have the same."""
        processes = {
            workload.arrival_pattern[0]
            for workload in self.workloads
            if workload.model == LoadModel.OPEN and times_differ(workload.arrival_pattern[0], self.arrivals_version)
        }
        if not processes:
            return ""
        return (
            f"the plan is of version {self.arrivals_version} of the arrival processes, and this run has version "
            f"{ARRIVALS_VERSION}: arrivals by {', '.join(sorted(processes))} have other times, even with the same seed"
        )

    def workload_specs(self) -> list[WorkloadSpec]:
        """The messages to the workers, one per workload, in the plan's order."""
        durations_s = [interval_ns / NS for interval_ns in self.intervals_ns]
        return [
            workload.spec(index, [list(step) for step in zip(durations_s, workload.steps, strict=True)])
            for index, workload in enumerate(self.workloads)
        ]


def parse(data: object, client_of: ClientOf = no_client) -> Plan:
    """A plan from the data of a plan file or of an API request.

    Args:
        client_of: returns, as in the original, the client app for a workload that gives no request.

    Raises:
        PlanInvalid: with every error, each with its path.
    """
    return read(Plan, data, WorkloadContext(client_of=client_of))
