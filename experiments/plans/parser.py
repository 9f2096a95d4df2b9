"""Plain data → Plan, with every error at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.plans import requests, routes
from experiments.plans.errors import Problems
from experiments.plans.events import read_events
from experiments.plans.fields import MAX_INTEGER, Section, shown
from experiments.plans.ids import read_id
from experiments.plans.intervals import read_intervals
from experiments.plans.load import MAX_CLIENTS, MAX_IN_FLIGHT, Load, read_group_load, read_load
from experiments.plans.model import DEFAULTS, NS, Plan, WorkloadPlan
from experiments.plans.placing import read_labels, read_placing
from experiments.plans.recordings import MAX_RECORDED, rates_rps
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.environment import NAME_PATTERN
from loadgen.protocol.messages import (
    CAPTURES,
    CLOSED,
    CONNECTION_MODES,
    CONTINUE,
    HTTP,
    HTTPS,
    NO_CAPTURE,
    ON_WORKER_LOSS,
    OPEN,
    REPLACE,
)
from routing import routers, table

MAX_WORKLOADS = 100
MAX_RECORDED_INTERVALS = 500_000  # of all recorded workloads together, whose rates are computed
MAX_ARRIVALS = 100_000_000
MAX_TIMEOUT_S = 3600
MAX_CAPTURE_BYTES = 1 << 16
UNNAMED = "experiment"


# The client app of a service's name, or None.
ClientOf = Callable[[str], str | None]


def _no_client(service: str) -> None:
    """For whoever names its client apps itself."""


def parse(data: object, client_of: ClientOf = _no_client) -> Plan:
    """A plan from the data of a plan file or of an API request.

    Args:
        client_of: asked, as in the original, for the client app of a workload that says nothing of its requests.

    Raises:
        PlanInvalid: with every error, each naming its path.
    """
    problems = Problems()
    root = Section(data, "", problems)
    about = Section(root.get("experiment") if root.has("experiment") else {}, "experiment", problems)
    name = about.text("name", UNNAMED)
    creator = about.text("creator", "") or None
    experiment_id = read_id(about, "id")
    about.close()
    configuration = _read_configuration(root, read_labels(root, {}), client_of, problems)
    events = read_events(root, sum(configuration.intervals_ns))
    routing = routes.read_routing(root)
    seed = root.integer("seed", -1, 0, MAX_INTEGER)
    metadata = root.json_mapping("metadata")
    root.close()
    problems.raise_if_any()
    return Plan(
        name=name,
        creator=creator,
        intervals_ns=configuration.intervals_ns,
        workloads=configuration.workloads,
        on_worker_loss=configuration.on_worker_loss,
        tracing=configuration.tracing,
        events=events,
        routing=routing,
        seed=seed if seed >= 0 else None,
        metadata=metadata,
        experiment_id=experiment_id,
    )


def parse_group(data: object, client_of: ClientOf = _no_client) -> WorkloadPlan:
    """What an interactive group sends, from the data of an API request or of the shell's `g.spawn`: a workload's keys,
    but for those that say how much, and `num`, the number of clients; `client_of` is as that of `parse`.

    Raises:
        PlanInvalid: with every error, each naming its key.
    """
    problems = Problems()
    section = Section(data, "", problems)
    workload = _read_workload(section, read_group_load(section), {}, client_of)
    problems.raise_if_any()
    return workload


@dataclass(frozen=True)
class About:
    """What an interactive experiment is given by its user."""

    name: str
    creator: str
    metadata: dict[str, Any]


def parse_about(data: object) -> About:
    """`name`, `creator` ("" if not given) and `metadata` of an interactive experiment.

    Raises:
        PlanInvalid: with every error, each naming its key.
    """
    problems = Problems()
    section = Section(data, "", problems)
    about = About(section.text("name", UNNAMED), section.text("creator", ""), section.json_mapping("metadata"))
    section.close()
    problems.raise_if_any()
    return about


@dataclass(frozen=True)
class _Configuration:
    """The section of that name; whole only where nothing is wrong."""

    intervals_ns: list[int] = field(default_factory=list)
    workloads: list[WorkloadPlan] = field(default_factory=list)
    on_worker_loss: str = CONTINUE
    tracing: bool = True


def _read_configuration(
    root: Section, labels: dict[str, str], client_of: ClientOf, problems: Problems
) -> _Configuration:
    raw = root.get("configuration", required=True)
    if raw is None:
        return _Configuration()
    section = Section(raw, "configuration", problems)
    intervals_ns = read_intervals(section)
    intervals = len(intervals_ns) or None
    listed = section.get("workloads", required=True)
    workloads = []
    if isinstance(listed, list | tuple):
        if not listed:
            section.wrong("workloads", "at least one workload is needed")
        if len(listed) > MAX_WORKLOADS:
            section.wrong("workloads", f"at most {MAX_WORKLOADS} workloads are accepted, not {len(listed)}")
        for index, item in enumerate(listed[:MAX_WORKLOADS]):
            place = Section(item, f"{section.at('workloads')}[{index}]", problems)
            workloads.append(_read_workload(place, read_load(place, intervals), labels, client_of))
    elif listed is not None:
        section.wrong("workloads", f"a list is needed, not {shown(listed)}")
    on_worker_loss = section.choice("on_worker_loss", CONTINUE, ON_WORKER_LOSS)
    if on_worker_loss == REPLACE and any(workload.requests_per_client for workload in workloads):
        section.wrong(
            "on_worker_loss",
            "replace cannot keep `requests_per_client`, as nobody knows how many a lost client has made; take continue "
            "or fail",
        )
    tracing = section.flag("tracing", True)
    for index, workload in enumerate(workloads):
        if not tracing and workload.capture != NO_CAPTURE:
            section.wrong(
                f"workloads[{index}].capture",
                "has no effect with `tracing: false`, as captures are kept beside rows; remove one of them",
            )
    section.close()
    recorded = sum(workload.arrival_pattern[0] == PRERECORDED for workload in workloads)
    if recorded * len(intervals_ns) > MAX_RECORDED_INTERVALS:
        section.wrong("interval", "makes too many intervals for so many recorded workloads; take a longer one")
    elif intervals_ns:
        workloads = _with_recorded_rates(workloads, intervals_ns, section)
    _check_any_load(workloads, section)
    if intervals_ns and not len(problems):
        _check_total(workloads, intervals_ns, problems)
    _check_clients(workloads, problems)
    return _Configuration(intervals_ns, workloads, on_worker_loss, tracing)


def _with_recorded_rates(
    workloads: list[WorkloadPlan], intervals_ns: list[int], section: Section
) -> list[WorkloadPlan]:
    """The workloads, those of prerecorded arrivals with what lies within the plan, and with the rates of that."""
    found, duration_ns = [], sum(intervals_ns)
    for index, workload in enumerate(workloads):
        process, times_s = workload.arrival_pattern
        if process != PRERECORDED:
            found.append(workload)
            continue
        within_s = [time_s for time_s in times_s if round(time_s * NS) < duration_ns]
        if times_s and not within_s:
            section.wrong(
                f"workloads[{index}].arrival_pattern",
                f"none of the recorded times is before the plan's end; the first is {times_s[0]:g} s after the start",
            )
        ticks = rates_rps(within_s, intervals_ns)
        found.append(replace(workload, ticks=ticks, arrival_pattern=(process, within_s)))
    recorded = sum(len(workload.arrival_pattern[1]) for workload in found if workload.arrival_pattern[0] == PRERECORDED)
    if recorded > MAX_RECORDED:
        section.wrong("workloads", f"{recorded:,} recorded arrivals in total; at most {MAX_RECORDED:,} are accepted")
    return found


def _check_clients(workloads: list[WorkloadPlan], problems: Problems) -> None:
    total = sum(workload.clients for workload in workloads)
    if total > MAX_CLIENTS:
        problems.add("configuration.workloads", f"{total:,} clients in total; at most {MAX_CLIENTS:,} are accepted")


def _check_any_load(workloads: list[WorkloadPlan], section: Section) -> None:
    """A workload may be silent throughout, as clients that only stand by are; all of them together may not."""
    if workloads and all(_is_silent(workload) for workload in workloads):
        for index in range(len(workloads)):
            section.wrong(f"workloads[{index}].ticks", "at least one number above 0 is needed")


def _is_silent(workload: WorkloadPlan) -> bool:
    """Whether all its ticks are 0. In the closed model, and with a recording, that is refused elsewhere."""
    is_paced = workload.model == OPEN and workload.arrival_pattern[0] != PRERECORDED
    return is_paced and bool(workload.ticks) and not any(workload.ticks)


def _check_total(workloads: list[WorkloadPlan], intervals_ns: list[int], problems: Problems) -> None:
    total: float = 0
    for workload in workloads:
        if workload.model == CLOSED:
            total += workload.clients * (workload.requests_per_client or 0)
        else:
            total += sum(rate * length_ns / NS for rate, length_ns in zip(workload.ticks, intervals_ns, strict=True))
    if total > MAX_ARRIVALS:
        problems.add(
            "configuration.workloads",
            f"{total:,.0f} requests are planned in total; at most {MAX_ARRIVALS:,} are accepted",
        )


def _read_workload(section: Section, load: Load, default_labels: dict[str, str], client_of: ClientOf) -> WorkloadPlan:
    service = _read_service(section)
    given = [key for key in ("method", "path", "kwargs") if section.has(key)]
    client = _read_client(section)
    if not (section.has("client") or given):
        client = client_of(service)
    parameters = section.json_mapping("client_parameters")
    placing = read_placing(section, default_labels, load)
    request = section
    if client is None and parameters:
        # As in the original, the default client takes its request from its parameters.
        request = Section(parameters, section.at("client_parameters"), section.problems)
    router = routers.router_of(section.choice("router", DEFAULTS.router, routers.ROUTER_NAMES))
    if given and (client is not None or request is not section):
        other = "client" if client is not None else "client_parameters"
        for key in given:
            section.wrong(key, f"has no effect beside {other}, which makes the request; remove one of them")
    workload = WorkloadPlan(
        service=service,
        ticks=load.ticks,
        clients=load.clients,
        model=load.model,
        clients_by_interval=load.clients_by_interval,
        think_time=load.think_time,
        requests_per_client=load.requests_per_client,
        arrival_pattern=load.arrival_pattern,
        client=client,
        client_parameters=parameters if client is not None else {},
        worker_labels=placing.labels,
        placement=placing.policy,
        shards_per_worker=placing.shards_per_worker,
        shards=placing.shards,
        router=router,
        static_host=_read_static_host(section, router),
        balancer=section.choice("balancer", DEFAULTS.balancer, routers.BALANCERS),
        scheme=section.choice("scheme", DEFAULTS.scheme, (HTTP, HTTPS)),
        connection=section.choice("connection", DEFAULTS.connection, CONNECTION_MODES),
        max_connections_per_host=section.optional_integer("max_connections_per_host", 1, MAX_IN_FLIGHT),
        method=requests.read_method(request, DEFAULTS.method) if client is None else DEFAULTS.method,
        path=requests.read_path(request, DEFAULTS.path) if client is None else DEFAULTS.path,
        kwargs=requests.read_kwargs(request) if client is None else {},
        request_timeout_s=section.duration_s("request_timeout", DEFAULTS.request_timeout_s, MAX_TIMEOUT_S),
        connect_timeout_s=section.duration_s("connect_timeout", DEFAULTS.connect_timeout_s, MAX_TIMEOUT_S),
        max_in_flight=load.max_in_flight,
        max_lateness_s=load.max_lateness_s,
        request_id_header=requests.read_request_id_header(section, DEFAULTS.request_id_header),
        capture=section.choice("capture", DEFAULTS.capture, CAPTURES),
        capture_bytes=section.integer("capture_bytes", DEFAULTS.capture_bytes, 64, MAX_CAPTURE_BYTES),
    )
    if request is not section:
        request.close()
    section.close()
    return workload


def _read_service(section: Section) -> str:
    value = section.get("service", required=True)
    if value is None:
        return ""
    for error in table.find_service_errors(value):
        section.wrong("service", error.message)
    return value if isinstance(value, str) else ""


def _read_static_host(section: Section, router: str) -> str:
    value = section.text("static_host", DEFAULTS.static_host)
    if value and router != routers.STATIC:
        section.wrong("static_host", f"has no effect without router: {routers.STATIC}; add that, or remove this")
    elif value:
        try:
            routers.parse_static_host(value)
        except ValueError as error:
            section.wrong("static_host", str(error))
    return value


def _read_client(section: Section) -> str | None:
    value = section.get("client")
    if value is None:
        return None
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        section.wrong(
            "client",
            f"the name of a client app (letters, digits, '.', '_' and '-', at most 63) is needed, not {shown(value)}",
        )
        return None
    return value
