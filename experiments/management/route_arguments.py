"""Routes on a command line: HOST:PORT@WEIGHT and SERVICE=HOST:PORT@WEIGHT,… as plain data."""

from __future__ import annotations

from typing import Any

from experiments.plans.parsing import shown


def parse_route(text: str) -> dict[str, Any]:
    """A route from SERVICE=HOST:PORT@WEIGHT,…, as `routing` of a plan has it; without @WEIGHT the weight is 1.

    The names and numbers are checked later, by the plan or the routing table.

    Raises:
        ValueError: the text has another form; with a message.
    """
    service, equals, listed = text.partition("=")
    if not equals or not service or not listed:
        raise ValueError(f"must be SERVICE=HOST:PORT@WEIGHT,…, got {shown(text)}")
    return {"service": service, **parse_hosts(listed.split(","))}


def parse_hosts(parts: list[str]) -> dict[str, list[Any]]:
    """Hosts and weights from texts of the form HOST:PORT@WEIGHT. Raises ValueError with a message."""
    hosts: list[str] = []
    weights: list[float] = []
    for part in parts:
        host, at, weight = part.strip().partition("@")
        try:
            weights.append(float(weight) if at else 1)
        except ValueError as error:
            raise ValueError(f"must be HOST:PORT@WEIGHT, where {shown(weight)} is not a number") from error
        hosts.append(host)
    return {"hosts": hosts, "weights": weights}
