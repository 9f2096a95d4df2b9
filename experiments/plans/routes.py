"""Routing records, in a plan and on a command line."""

from __future__ import annotations

from typing import Any

from experiments.plans.fields import Section, child, shown
from routing import table

MAX_RECORDS = 1000


def read_routing(root: Section) -> list[table.RoutingRecord]:
    """A list of {service, hosts, weights}, or a mapping of service → {hosts, weights}; without weights all are 1."""
    value, problems = root.get("routing"), root.problems
    if value is None:
        return []
    if isinstance(value, dict):
        items = [(child("routing", key), _named(key, item)) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"routing[{index}]", item) for index, item in enumerate(value)]
    else:
        root.wrong("routing", f"a list of records or a mapping of services is needed, not {shown(value)}")
        return []
    records: dict[str, table.RoutingRecord] = {}
    for path, item in items[:MAX_RECORDS]:
        record = _read_record(Section(item, path, problems))
        if record is None:
            continue
        # Keys of some databases do not tell case apart.
        if record.service.lower() in records:
            problems.add(f"{path}.service", f"{shown(record.service)} is routed twice (case does not count)")
        records[record.service.lower()] = record
    if len(items) > MAX_RECORDS:
        root.wrong("routing", f"at most {MAX_RECORDS} records are accepted, not {len(items)}")
    return list(records.values())


def _named(service: object, item: object) -> object:
    return {"service": service, **item} if isinstance(item, dict) and "service" not in item else item


def _read_record(section: Section) -> table.RoutingRecord | None:
    service, hosts = section.get("service", required=True), section.get("hosts", required=True)
    weights = section.get("weights")
    section.close()
    if service is None or hosts is None:
        return None
    if weights is None and isinstance(hosts, list | tuple):
        weights = [1] * len(hosts)
    errors = table.find_errors(service, hosts, weights)
    for error in errors:
        section.wrong(error.path, error.message)
    return None if errors else table.RoutingRecord(service, hosts, weights)


def parse_route(text: str) -> dict[str, Any]:
    """A record from the command line's form SERVICE=HOST:PORT@WEIGHT,…, as `routing` of a plan has it.

    Without @WEIGHT the weight is 1. Only the form is read here; `parse` and the routing table check the content.

    Raises:
        ValueError: with a sentence.
    """
    service, equals, listed = text.partition("=")
    if not equals or not service or not listed:
        raise ValueError(f"SERVICE=HOST:PORT@WEIGHT,… is needed, not {shown(text)}")
    return {"service": service, **parse_hosts(listed.split(","))}


def parse_hosts(parts: list[str]) -> dict[str, list[Any]]:
    """Hosts and weights from texts of the form HOST:PORT@WEIGHT. Raises ValueError with a sentence."""
    hosts: list[str] = []
    weights: list[float] = []
    for part in parts:
        host, at, weight = part.strip().partition("@")
        try:
            weights.append(float(weight) if at else 1)
        except ValueError as error:
            raise ValueError(f"HOST:PORT@WEIGHT is needed, and {shown(weight)} is no number") from error
        hosts.append(host)
    return {"hosts": hosts, "weights": weights}
