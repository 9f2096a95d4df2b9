"""Workload and GroupWorkload: the load on one service, in a plan or by an interactive group.

Each field is a key of plans. Parsing, the API's schema, the table in docs/plans.md and the message to the workers
(`spec`) all come from its type, default and description; hence the length of this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from experiments.plans.arrivals import Arrivals, Seconds
from experiments.plans.fields import (
    ClientApp,
    JsonMapping,
    Labels,
    Service,
    Text,
    duration,
    number_list,
    number_reason,
    one_of,
    whole_number_reason,
)
from experiments.plans.parsing import Context, PlanErrors, read, refused
from experiments.plans.requests import MAX_TIMEOUT_S, RequestIdHeader, RequestKeys
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.enums import PLAN_MODELS, CaptureMode, ConnectionMode, CookieMode, LoadModel, Scheme
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.request_ids import IDS_VERSION
from routing import routers
from routing.errors import Code, shown

AUTO = "auto"  # in a plan: as many shards as the load needs
# How a workload's shards are placed. balanced: they are dealt out over the live workers, least loaded first. queue:
# they wait in the queue of a label, from which any worker with that label and a free slot takes one.
BALANCED, QUEUE = "balanced", "queue"
PLACEMENTS = (BALANCED, QUEUE)

MAX_RATE_RPS = 1_000_000
MAX_CLIENTS = 100_000
MAX_IN_FLIGHT = 100_000
MAX_LATENESS_S = 3600
MAX_REQUESTS_PER_CLIENT = 100_000_000
MAX_CAPTURE_BYTES = 1 << 16
MAX_SHARDS_PER_WORKER = 256
MAX_SHARDS = 1024

_DEFAULTS = WorkloadSpec(index=0, service="", schedule=[])

_ONLY_OPEN = {
    "ticks": "the closed model has no rate: each client sends when it has its response; give `clients` per interval",
    "clients_per_host": "has no effect in the closed model, where `clients` gives their number in each interval",
    "arrival_pattern": "has no effect in the closed model, where `think_time` sets the pause of a client",
    "max_in_flight": "has no effect in the closed model, where each client has one request in flight at most",
    "max_lateness": "has no effect in the closed model, where a client's request is sent however late it is",
}
_ONLY_CLOSED = {
    "clients": "needs `model: closed`; in the open model `ticks` set the rate and `clients_per_host` the clients",
    "think_time": "needs `model: closed`; in the open model `ticks` and `arrival_pattern` set when a client sends",
    "requests_per_client": "needs `model: closed`; in the open model `ticks` set the number of requests",
}

ClientOf = Callable[[str], str | None]


def no_client(service: str) -> None:
    """The client app of a service's name, for callers that name each client app."""


@dataclass
class WorkloadContext(Context):
    """The surroundings of a workload: the plan, and the client apps that exist.

    Attributes:
        client_of: the client app of a service's name, as in the original, for a workload that gives no request.
        intervals: the number of the plan's intervals; None where it is not known.
        duration_ns: of the plan; 0 where it is not known.
    """

    client_of: ClientOf = no_client
    worker_labels: dict[str, str] = field(default_factory=dict)
    intervals: int | None = None
    duration_ns: int = 0


def _read_shards_per_worker(value: object) -> int | None:
    """None for auto."""
    if value == AUTO:
        return None
    if isinstance(value, str):
        raise refused(Code.CHOICE, f"must be {AUTO} or a whole number, got {shown(value)}")
    if reason := whole_number_reason(value, 1, MAX_SHARDS_PER_WORKER):
        raise refused(*reason)
    return int(value)  # type: ignore[call-overload, no-any-return]


_ShardsPerWorker = Annotated[
    int | None,
    PlainValidator(
        _read_shards_per_worker,
        json_schema_input_type=Annotated[int, Field(ge=1, le=MAX_SHARDS_PER_WORKER)] | Annotated[str, one_of([AUTO])],
    ),
    PlainSerializer(lambda shards: AUTO if shards is None else shards),
]
_OR_NONE = PlainSerializer(lambda text: text or None)


class SharedKeys(RequestKeys):
    """The keys that a plan's workload and an interactive group have in common."""

    clients_key: ClassVar[str]  # the key that gives the number of clients

    service: Service = Field(description="The name of the service in the routing table.")
    client: ClientApp | None = Field(
        None,
        description="The [client app](apps.md) that makes the requests. Without it, and without `method`, `path` and "
        "`kwargs`, the app with the service's name is taken, if there is one.",
    )
    client_parameters: JsonMapping = Field(
        default_factory=dict,
        description="The `context.parameters` of the client app. Without an app they may hold `method`, `path` and "
        "`kwargs`, as in the original.",
    )
    worker_labels: Labels = Field(
        default_factory=dict,
        description="The labels that a worker must have, such as `{galileo_zone: A}`, with or without the prefix; they "
        "are added to those of the plan.",
    )
    placement: Annotated[str, one_of(PLACEMENTS)] = Field(
        BALANCED,
        description="`balanced`: over the live workers, least loaded first. `queue`: any worker with a free slot takes "
        "a shard; [see below](#placement-by-queue).",
    )
    shards_per_worker: _ShardsPerWorker = Field(
        None,
        description="With `balanced`: the number of processes of a worker for its part; "
        "[see below](#shards-and-cores).",
        json_schema_extra={"default": AUTO},
    )
    shards: Annotated[int, Field(ge=1, le=MAX_SHARDS)] | None = Field(
        None, description="With `queue`, and required there: the number of shards, at most one for each client."
    )
    router: Annotated[str, one_of(routers.ROUTER_NAMES), AfterValidator(routers.router_of), _OR_NONE] = Field(
        _DEFAULTS.router,
        description="`host`: `http://host/path`. `service`: `http://host/service/path`. `static`: all requests go to "
        "`static_host`. `debug`: nothing is sent. [routing.md](routing.md) has the other names. Default: the worker's, "
        "which is `host` unless it was set.",
    )
    static_host: Annotated[Text, _OR_NONE] = Field(
        _DEFAULTS.static_host,
        description="The target of `router: static`: `host[:port]` or `http[s]://host[:port][/path]`. Default: the "
        "worker's.",
    )
    balancer: Annotated[str, one_of(routers.BALANCERS)] = Field(
        _DEFAULTS.balancer,
        description="`round-robin`: hosts in turn, exactly by weight. `random`: each request draws its host by weight.",
    )
    scheme: Annotated[str, one_of((Scheme.HTTP, Scheme.HTTPS))] = Field(
        _DEFAULTS.scheme, description="The scheme of the URLs."
    )
    connection: Annotated[str, one_of(ConnectionMode)] = Field(
        _DEFAULTS.connection,
        description="`keep-alive`: a connection serves one request after another. `new`: each request opens a "
        "connection of its own, and uses up an [ephemeral port](verdict.md).",
    )
    max_connections_per_host: Annotated[int, Field(ge=1, le=MAX_IN_FLIGHT)] | None = Field(
        _DEFAULTS.max_connections_per_host,
        description="The connections of one shard to one host; many long waits for one are "
        "[a reason in the verdict](verdict.md). Default: as many as there are requests in flight.",
    )
    request_timeout_s: Annotated[float, duration(MAX_TIMEOUT_S)] = Field(
        _DEFAULTS.request_timeout_s,
        alias="request_timeout",
        description="The time from sending to the complete response; `kwargs.timeout` takes precedence.",
    )
    connect_timeout_s: Annotated[float, duration(MAX_TIMEOUT_S)] = Field(
        _DEFAULTS.connect_timeout_s,
        alias="connect_timeout",
        description="The time of name look-up, connect and TLS together; `kwargs.timeout` takes precedence.",
    )
    max_in_flight: Annotated[int, Field(ge=1, le=MAX_IN_FLIGHT)] = Field(
        _DEFAULTS.max_in_flight,
        description="Open model: the requests of one shard that wait for a connection or a response; an arrival beyond "
        "is dropped.",
    )
    max_lateness_s: Annotated[float, duration(MAX_LATENESS_S)] = Field(
        _DEFAULTS.max_lateness_s,
        alias="max_lateness",
        description="Open model: an arrival that the generator reaches later than this counts as late and is not sent.",
    )
    request_id_header: RequestIdHeader = Field(
        _DEFAULTS.request_id_header,
        description="The header with the request id: a name, `traceparent` or `off`; [see below](#request-ids).",
    )
    cookies: Annotated[str, one_of(CookieMode)] | None = Field(
        _DEFAULTS.cookies,
        description="`keep`: each client keeps the cookies that responses set, and sends them with its later requests; "
        "[see below](#cookies). Default: as in the manifest of the [client app](apps.md), or `ignore`.",
    )
    capture: Annotated[str, one_of(CaptureMode)] = Field(
        _DEFAULTS.capture, description="What is kept of requests and responses; [see below](#captures)."
    )
    capture_bytes: Annotated[int, Field(ge=64, le=MAX_CAPTURE_BYTES)] = Field(
        _DEFAULTS.capture_bytes,
        description="The bytes after which a captured request, and a captured response, is cut off.",
    )

    @property
    def clients(self) -> int:
        """The number of different clients."""
        raise NotImplementedError

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        assert isinstance(context, WorkloadContext)
        labels = {**context.worker_labels, **self.worker_labels}
        self._check_placement(given, labels, errors)
        self._check_static_host(errors)
        return self.model_copy(update={"worker_labels": labels, **self._resolved_request(given, errors, context)})

    def _resolved_request(self, given: dict[str, Any], errors: PlanErrors, context: WorkloadContext) -> dict[str, Any]:
        """The fields that say how requests are made, by a client app or without one."""
        in_place = [key for key in RequestKeys.key_names() if key in given]
        client = self.client
        if "client" not in given and not in_place and self.service:
            client = context.client_of(self.service)
        request: dict[str, Any] = {}
        if client is None and "client" not in given and self.client_parameters:
            # As in the original, the default client takes its request from its parameters.
            try:
                request = dict(RequestKeys.model_validate(self.client_parameters, context=context))
            except ValidationError as error:
                errors.take(("client_parameters",), error)
        if "client" in given or self.client_parameters:
            other = "client" if "client" in given else "client_parameters"
            for key in in_place:
                message = f"has no effect beside {other}, which makes the request; remove one of them"
                errors.add((key,), Code.CONFLICT, message)
        parameters = self.client_parameters if client is not None else {}
        return {"client": client, "client_parameters": parameters, **request}

    def _check_placement(self, given: dict[str, Any], labels: dict[str, str], errors: PlanErrors) -> None:
        key, shards = "shards_per_worker", self.shards_per_worker
        if self.placement == QUEUE:
            key, shards = "shards", self.shards
            if "shards_per_worker" in given:
                message = f"has no effect with placement: {QUEUE}, where `shards` is their number; remove it"
                errors.add(("shards_per_worker",), Code.CONFLICT, message)
            if len(labels) != 1 and not errors.has("worker_labels"):
                errors.add(
                    ("worker_labels",),
                    Code.CONFLICT,
                    f"must be exactly one label with placement: {QUEUE} (those of the plan count, too), such as "
                    f"{{zone: A}}, in whose queue the shards wait; got {', '.join(labels) or 'none'}",
                )
            if "shards" not in given:
                errors.add(("shards",), Code.REQUIRED, f"is missing; placement: {QUEUE} needs a number of shards")
        elif "shards" in given:
            message = f"has no effect without placement: {QUEUE}; add that, or take shards_per_worker"
            errors.add(("shards",), Code.CONFLICT, message)
        if shards is not None and shards > self.clients and not errors.has(self.clients_key):
            errors.add(
                (key,),
                Code.RANGE,
                f"must not be above the number of clients, {self.clients}, as each shard needs a client, got {shards}; "
                f"raise {self.clients_key} or lower this",
            )

    def _check_static_host(self, errors: PlanErrors) -> None:
        if not self.static_host or errors.has("router"):
            return
        if self.router != routers.STATIC:
            message = f"has no effect without router: {routers.STATIC}; add that, or remove this"
            errors.add(("static_host",), Code.CONFLICT, message)
            return
        try:
            routers.parse_static_host(self.static_host)
        except ValueError as error:
            errors.add(("static_host",), Code.FORMAT, str(error))

    def left_out(self) -> set[str]:
        request = set(RequestKeys.key_names()) if self.client else {"client", "client_parameters"}
        return request | ({"shards_per_worker"} if self.placement == QUEUE else {"shards"})

    def spec(self, index: int = 0, schedule: Sequence[list[float]] = ()) -> WorkloadSpec:
        """The message to the workers. Fields with the same name in both are copied."""
        names = {each.name for each in dataclasses.fields(WorkloadSpec)} & set(type(self).model_fields)
        same = {name: getattr(self, name) for name in names}
        own = {"index": index, "schedule": list(schedule), "ids_version": IDS_VERSION}
        return WorkloadSpec(**{**same, **self._renamed(), **own})

    def _renamed(self) -> dict[str, Any]:
        """The fields of the message that have another form in plans."""
        return {"client_app": self.client}


class Workload(SharedKeys):
    """The load on one service in a plan: requests per second in the open model, clients in the closed one."""

    model: Annotated[str, one_of(PLAN_MODELS)] = Field(
        _DEFAULTS.model,
        description="`open`: requests are sent whether or not earlier ones were answered. `closed`: a client waits for "
        "its response; [see below](#the-closed-model).",
    )
    ticks: Annotated[
        list[float],
        number_list(
            lambda tick: number_reason(tick, 0, MAX_RATE_RPS), "numbers", Annotated[float, Field(ge=0, le=MAX_RATE_RPS)]
        ),
    ] = Field(
        default_factory=list,
        description="Open model, and required there unless arrivals are recorded: the service's total rate in requests "
        "per second, one number per interval. Not all workloads of a plan may have zeros alone.",
    )
    clients_per_host: Annotated[int, Field(ge=1, le=MAX_CLIENTS)] = Field(
        3, description="Open model: the number of emulated clients of this workload (the name is the original's)."
    )
    clients_by_interval: Annotated[
        list[int],
        number_list(
            lambda clients: whole_number_reason(clients, 0, MAX_CLIENTS),
            "whole numbers",
            Annotated[int, Field(ge=0, le=MAX_CLIENTS)],
        ),
    ] = Field(
        default_factory=list,
        alias="clients",
        description="Closed model, and required there: the number of active clients, one number per interval.",
    )
    think_time: Seconds = Field(
        (_DEFAULTS.think_time, _DEFAULTS.think_time_parameters),
        description="Closed model: the pause of a client between a response and its next request: a duration, or a "
        "distribution of seconds such as `{process: uniform, a: 1, b: 3}`.",
        json_schema_extra={"default": 0},
    )
    requests_per_client: Annotated[int, Field(ge=1, le=MAX_REQUESTS_PER_CLIENT)] | None = Field(
        _DEFAULTS.requests_per_client,
        description="Closed model: the number of requests after which a client is done. Default: as many as its time "
        "allows.",
    )
    arrival_pattern: Arrivals = Field(
        (_DEFAULTS.arrival_process, _DEFAULTS.arrival_parameters),
        description="Open model: `constant`, a distribution, or recorded arrivals; [see below](#arrival-processes).",
        json_schema_extra={"default": _DEFAULTS.arrival_process},
    )

    @property
    def clients(self) -> int:
        if self.model == LoadModel.OPEN:
            return self.clients_per_host
        return max(self.clients_by_interval, default=0) or 1

    @property
    def clients_key(self) -> str:  # type: ignore[override]
        return "clients" if self.model == LoadModel.CLOSED else "clients_per_host"

    @property
    def is_recorded(self) -> bool:
        """Whether its arrivals are prerecorded; then `ticks` are the rates of the recording."""
        return self.model == LoadModel.OPEN and self.arrival_pattern[0] == PRERECORDED

    @property
    def steps(self) -> Sequence[float]:
        """For each interval, the requests per second or the clients."""
        return self.clients_by_interval if self.model == LoadModel.CLOSED else self.ticks

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        for key, message in (_ONLY_OPEN if self.model == LoadModel.CLOSED else _ONLY_CLOSED).items():
            if key in given:
                errors.add((key,), Code.CONFLICT, message)
        key = "clients" if self.model == LoadModel.CLOSED else "ticks"
        if self.is_recorded:
            if "ticks" in given:
                message = "has no effect beside prerecorded arrivals, which have their own times; remove it"
                errors.add(("ticks",), Code.CONFLICT, message)
        elif key not in given:
            if not errors.has("arrival_pattern"):  # a wrong recording needs no ticks
                errors.add((key,), Code.REQUIRED, "is missing")
        elif isinstance(given[key], list | tuple) and context.intervals not in (None, len(given[key])):
            errors.add(
                (key,),
                Code.RANGE,
                f"must have one number for each of the {context.intervals} intervals (duration / interval), got "
                f"{len(given[key])}",
            )
        if self.model == LoadModel.CLOSED and self.clients_by_interval and not any(self.clients_by_interval):
            errors.add(("clients",), Code.RANGE, "must have at least one number above 0")
        return super().resolved(given, errors, context)

    def left_out(self) -> set[str]:
        recorded = {"ticks"} if self.is_recorded else set()
        return super().left_out() | recorded | set(_ONLY_OPEN if self.model == LoadModel.CLOSED else _ONLY_CLOSED)

    def _renamed(self) -> dict[str, Any]:
        return {
            **super()._renamed(),
            "arrival_process": self.arrival_pattern[0],
            "arrival_parameters": self.arrival_pattern[1],
            "think_time": self.think_time[0],
            "think_time_parameters": self.think_time[1],
            "max_in_flight": self.clients if self.model == LoadModel.CLOSED else self.max_in_flight,
        }


class GroupWorkload(SharedKeys):
    """The requests of an interactive group's clients: a workload's keys without those of its load, and `num`."""

    model_config = ConfigDict(json_schema_extra={"example": {"service": "shop", "num": 3, "path": "/items"}})
    clients_key: ClassVar[str] = "num"

    num: Annotated[int, Field(ge=1, le=MAX_CLIENTS)] = Field(1, description="The number of clients.")

    @property
    def clients(self) -> int:
        return self.num

    def _renamed(self) -> dict[str, Any]:
        return {**super()._renamed(), "model": LoadModel.INTERACTIVE}


def parse_group(data: object, client_of: ClientOf = no_client) -> GroupWorkload:
    """The workload of an interactive group, from the data of an API request or of the shell's `g.spawn`.

    Args:
        client_of: as for `parse`.

    Raises:
        PlanInvalid: with every error, each with its key.
    """
    return read(GroupWorkload, data, WorkloadContext(client_of=client_of))
