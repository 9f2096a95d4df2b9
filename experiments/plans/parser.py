"""Plain data → Plan, with every error at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from experiments.plans import requests, routes
from experiments.plans.errors import Problems
from experiments.plans.fields import MAX_INTEGER, Section, child, number_reason, shown
from experiments.plans.model import DEFAULTS, NS, Plan, WorkloadPlan
from loadgen.environment import NAME_PATTERN, PREFIX
from loadgen.messages import CONTINUE, ON_WORKER_LOSS
from loadgen.pacer import CONSTANT, EXPOVARIATE
from routing import table

MAX_WORKLOADS = 100
MAX_INTERVALS = 100_000
MAX_RATE_RPS = 1_000_000
MAX_ARRIVALS = 100_000_000
MAX_CLIENTS = 100_000
MAX_IN_FLIGHT = 100_000
MAX_TIMEOUT_S = 3600
UNNAMED = "experiment"

ARRIVAL_PATTERNS = {
    "constant": CONSTANT,
    "expovariate": EXPOVARIATE,
    "exponential": EXPOVARIATE,
    "poisson": EXPOVARIATE,
}
_APP_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


def parse(data: object) -> Plan:
    """A plan from the data of a plan file or of an API request.

    Raises:
        PlanInvalid: with every error, each naming its path.
    """
    problems = Problems()
    root = Section(data, "", problems)
    about = Section(root.get("experiment") if root.has("experiment") else {}, "experiment", problems)
    name = about.text("name", UNNAMED)
    creator = about.text("creator", "") or None
    about.close()
    configuration = _read_configuration(root, _read_labels(root, {}), problems)
    routing = routes.read_routing(root)
    seed = root.integer("seed", -1, 0, MAX_INTEGER)
    metadata = root.json_mapping("metadata")
    root.close()
    problems.raise_if_any()
    return Plan(
        name=name,
        creator=creator,
        duration_ns=configuration.duration_ns,
        interval_ns=configuration.interval_ns,
        workloads=configuration.workloads,
        on_worker_loss=configuration.on_worker_loss,
        routing=routing,
        seed=seed if seed >= 0 else None,
        metadata=metadata,
    )


@dataclass(frozen=True)
class _Configuration:
    """The section of that name; whole only where nothing is wrong."""

    duration_ns: int = NS
    interval_ns: int = NS
    workloads: list[WorkloadPlan] = field(default_factory=list)
    on_worker_loss: str = CONTINUE


def _read_configuration(root: Section, labels: dict[str, str], problems: Problems) -> _Configuration:
    raw = root.get("configuration", required=True)
    if raw is None:
        return _Configuration()
    section = Section(raw, "configuration", problems)
    duration_ns = section.duration_ns("duration")
    interval_ns = section.duration_ns("interval")
    intervals = None
    if duration_ns is not None and interval_ns is not None:
        intervals = -(-duration_ns // interval_ns)  # the last interval may be a partial one
        if intervals > MAX_INTERVALS:
            section.wrong("interval", f"divides the duration into {intervals} intervals; at most {MAX_INTERVALS}")
            intervals = None
    listed = section.get("workloads", required=True)
    workloads = []
    if isinstance(listed, list | tuple):
        if not listed:
            section.wrong("workloads", "at least one workload is needed")
        if len(listed) > MAX_WORKLOADS:
            section.wrong("workloads", f"at most {MAX_WORKLOADS} workloads are accepted, not {len(listed)}")
        for index, item in enumerate(listed[:MAX_WORKLOADS]):
            place = Section(item, f"{section.at('workloads')}[{index}]", problems)
            workloads.append(_read_workload(place, intervals, labels))
    elif listed is not None:
        section.wrong("workloads", f"a list is needed, not {shown(listed)}")
    on_worker_loss = section.choice("on_worker_loss", CONTINUE, ON_WORKER_LOSS)
    section.close()
    duration_ns, interval_ns = duration_ns or NS, interval_ns or NS
    if intervals is not None and not len(problems):
        _check_total(workloads, duration_ns, interval_ns, problems)
    _check_clients(workloads, problems)
    return _Configuration(duration_ns, interval_ns, workloads, on_worker_loss)


def _check_clients(workloads: list[WorkloadPlan], problems: Problems) -> None:
    total = sum(workload.clients for workload in workloads)
    if total > MAX_CLIENTS:
        problems.add("configuration.workloads", f"{total:,} clients in total; at most {MAX_CLIENTS:,} are accepted")


def _check_total(workloads: list[WorkloadPlan], duration_ns: int, interval_ns: int, problems: Problems) -> None:
    durations_s = Plan("", None, duration_ns, interval_ns, []).interval_durations_s()
    total = sum(
        rate * seconds for workload in workloads for rate, seconds in zip(workload.ticks, durations_s, strict=True)
    )
    if total > MAX_ARRIVALS:
        problems.add(
            "configuration.workloads",
            f"{total:,.0f} requests are planned in total; at most {MAX_ARRIVALS:,} are accepted",
        )


def _read_workload(section: Section, intervals: int | None, default_labels: dict[str, str]) -> WorkloadPlan:
    service = _read_service(section)
    ticks = _read_ticks(section, intervals)
    client = _read_client(section)
    parameters = section.json_mapping("client_parameters")
    request = section
    if client is None and parameters:
        # As in the original, the default client takes its request from its parameters.
        request = Section(parameters, section.at("client_parameters"), section.problems)
    given = [key for key in ("method", "path", "kwargs") if section.has(key)]
    if given and (client is not None or request is not section):
        other = "client" if client is not None else "client_parameters"
        for key in given:
            section.wrong(key, f"has no effect beside {other}, which makes the request; remove one of them")
    workload = WorkloadPlan(
        service=service,
        ticks=ticks,
        clients=section.integer("clients_per_host", 3, 1, MAX_CLIENTS),
        arrival_pattern=_read_arrival_pattern(section),
        client=client,
        client_parameters=parameters if client is not None else {},
        worker_labels=_read_labels(section, default_labels),
        router=section.choice("router", DEFAULTS.router, ("host", "service")),
        method=requests.read_method(request, DEFAULTS.method) if client is None else DEFAULTS.method,
        path=requests.read_path(request, DEFAULTS.path) if client is None else DEFAULTS.path,
        kwargs=requests.read_kwargs(request) if client is None else {},
        request_timeout_s=section.duration_s("request_timeout", DEFAULTS.request_timeout_s, MAX_TIMEOUT_S),
        connect_timeout_s=section.duration_s("connect_timeout", DEFAULTS.connect_timeout_s, MAX_TIMEOUT_S),
        max_in_flight=section.integer("max_in_flight", DEFAULTS.max_in_flight, 1, MAX_IN_FLIGHT),
        max_lateness_s=section.duration_s("max_lateness", DEFAULTS.max_lateness_s, MAX_TIMEOUT_S),
        request_id_header=requests.read_request_id_header(section, DEFAULTS.request_id_header),
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


def _read_ticks(section: Section, intervals: int | None) -> list[float]:
    value = section.get("ticks", required=True)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        section.wrong("ticks", f"a list of numbers is needed, not {shown(value)}")
        return []
    reasons = [number_reason(rate, 0, MAX_RATE_RPS) for rate in value]
    for index, reason in enumerate(reasons):
        if reason:
            section.wrong(f"ticks[{index}]", reason)
    if intervals is not None and len(value) != intervals:
        few = "few" if len(value) < intervals else "many"
        section.wrong("ticks", f"too {few} numbers: {len(value)} for {intervals} intervals (duration / interval)")
    elif not any(reasons) and not any(value):
        section.wrong("ticks", "at least one number above 0 is needed")
    return [rate for rate, reason in zip(value, reasons, strict=True) if reason is None]


def _read_client(section: Section) -> str | None:
    value = section.get("client")
    if value is None:
        return None
    if not isinstance(value, str) or not _APP_NAME.fullmatch(value):
        section.wrong(
            "client", f"the name of a client app (letters, digits, _ and -, at most 100) is needed, not {shown(value)}"
        )
        return None
    return value


def _read_arrival_pattern(section: Section) -> str:
    """Also ["expovariate", 5] and {expovariate: 5}, as in the original; the ticks set the mean, whatever the number."""
    value = section.get("arrival_pattern")
    if value is None:
        return CONSTANT
    name: object = value
    if isinstance(value, list | tuple) and value:
        name = value[0]
        for index, parameter in enumerate(value[1:], 1):
            reason = number_reason(parameter, -MAX_INTEGER, MAX_INTEGER)
            if reason:
                section.wrong(f"arrival_pattern[{index}]", reason)
    elif isinstance(value, dict) and len(value) == 1:
        name = next(iter(value))
    if isinstance(name, str) and name in ARRIVAL_PATTERNS:
        return ARRIVAL_PATTERNS[name]
    section.wrong(
        "arrival_pattern", f"constant or expovariate (also called poisson, exponential) is needed, not {shown(name)}"
    )
    return CONSTANT


def _read_labels(section: Section, defaults: dict[str, str]) -> dict[str, str]:
    """Labels without the prefix `galileo_`, on top of the defaults."""
    value = section.get("worker_labels")
    if value is None:
        return dict(defaults)
    path = section.at("worker_labels")
    if not isinstance(value, dict):
        section.wrong("worker_labels", f"a mapping of labels is needed, not {shown(value)}")
        return dict(defaults)
    labels = {}
    for key, item in value.items():
        label = key.removeprefix(PREFIX) if isinstance(key, str) else ""
        if not NAME_PATTERN.fullmatch(label):
            section.problems.add(
                child(path, key), "a label's name takes letters, digits, '.', '_' and '-' (at most 63)"
            )
        elif label in labels:
            section.problems.add(child(path, key), "this label is there twice, with and without galileo_")
        text = str(item) if isinstance(item, int) and not isinstance(item, bool) and abs(item) < 10**18 else item
        if not isinstance(text, str) or not NAME_PATTERN.fullmatch(text):
            section.problems.add(
                child(path, key),
                f"a text of letters, digits, '.', '_' and '-' (at most 63) is needed, not {shown(item)}",
            )
        labels[label] = str(text)[:64] if isinstance(text, str) else ""
    return {**defaults, **labels}
