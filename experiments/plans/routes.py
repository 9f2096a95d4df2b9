"""Route: the weighted hosts of a service, in the `routing` of a plan and in requests of the API."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo

from experiments.plans.fields import Service, checked
from experiments.plans.parsing import PlanErrors, Section, refused
from routing import table
from routing.errors import Code, shown

MAX_ROUTES = 1000

# The rules of hosts and weights are those of the routing table, which judges both together.
_NAME = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = rf"^(\[[0-9A-Fa-f:.]+\]|{_NAME}(\.{_NAME})*\.?)(:[0-9]{{1,5}})?$"
_Host = Annotated[str, Field(min_length=1, max_length=table.MAX_NAME_LENGTH, pattern=_HOST)]
_Hosts = Annotated[
    list[str],
    checked(
        lambda value: None,
        Annotated[list[_Host], Field(min_length=1, max_length=100_000, json_schema_extra={"uniqueItems": True})],
    ),
]
_Weights = Annotated[
    list[float],
    checked(
        lambda value: None,
        Annotated[
            list[Annotated[float, Field(ge=0)]],
            Field(
                min_length=1,
                max_length=100_000,
                json_schema_extra={"contains": {"type": "number", "exclusiveMinimum": 0}},
            ),
        ],
    ),
]


class ChangedTargets(Section):
    """Hosts, weights or both; a missing key keeps its value."""

    model_config = ConfigDict(
        json_schema_extra={"minProperties": 1, "example": {"hosts": ["10.0.0.1:8080"], "weights": [1]}}
    )

    hosts: _Hosts | None = Field(None, description="The hosts, each as `host[:port]`.")
    weights: _Weights | None = Field(None, description="The weight of each host. Default: 1 each.")


class Targets(Section):
    """The hosts of a service; hosts[i] has weights[i]."""

    model_config = ConfigDict(json_schema_extra={"example": {"hosts": ["10.0.0.1:8080"], "weights": [1]}})

    hosts: _Hosts = Field(description="The hosts, each as `host[:port]`.")
    weights: _Weights | None = Field(None, description="The weight of each host. Default: 1 each.")


class Route(Targets):
    """The hosts of a service; hosts[i] has weights[i]."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"service": "shop", "hosts": ["10.0.0.1:8080", "10.0.0.2:8080"], "weights": [1, 2]}
        }
    )

    service: Service = Field(description="The name of the service.")

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        if "hosts" not in given:
            return self
        weights = self.weights
        if weights is None and isinstance(self.hosts, list | tuple):
            weights = [1] * len(self.hosts)
        for error in table.find_target_errors(self.hosts, weights):
            errors.add((error.path,), error.code, error.message)
        return self.model_copy(update={"weights": weights})


def read_routing(value: object, info: ValidationInfo) -> list[table.RoutingRecord]:
    """A list of {service, hosts, weights}, or a mapping of service → {hosts, weights}."""
    items: list[tuple[str | int, object]]
    if isinstance(value, dict):
        items = [(key if isinstance(key, str) else shown(key), _named(key, item)) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        message = f"must be a list of routes or a mapping of services, got {shown(value)}"
        raise refused(Code.TYPE, message)
    errors = PlanErrors()
    if len(items) > MAX_ROUTES:
        errors.add((), Code.RANGE, f"must have at most {MAX_ROUTES} routes, got {len(items)}")
    records: dict[str, table.RoutingRecord] = {}
    for key, item in items[:MAX_ROUTES]:
        try:
            route = Route.model_validate(item, context=info.context)
        except ValidationError as error:
            errors.take((key,), error)
            continue
        # Keys of some databases do not tell case apart.
        if route.service.lower() in records:
            message = f"{shown(route.service)} is routed twice (case does not count)"
            errors.add((key, "service"), Code.DUPLICATE, message)
        records[route.service.lower()] = table.RoutingRecord(route.service, route.hosts, route.weights or ())
    errors.raise_in_model()
    return list(records.values())


def _named(service: object, item: object) -> object:
    return {"service": service, **item} if isinstance(item, dict) and "service" not in item else item


def plain_routing(records: list[table.RoutingRecord]) -> dict[str, Any]:
    return {each.service: {"hosts": list(each.hosts), "weights": list(each.weights)} for each in records}
