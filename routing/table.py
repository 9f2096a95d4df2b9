"""A routing record (which hosts serve a service, with which weights) and its rules.

Errors: RoutingError (a stored record makes no sense); below it RoutingInvalid (a wanted record breaks the rules),
RoutingMissing (a service has no record) and RoutingTaken (it has one already).
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Protocol

# The longest text that every supported database can index (MySQL's utf8mb4 with its shortest key limit).
MAX_NAME_LENGTH = 191
# Integers up to here are floats exactly, so that 2.0 and 2 can be taken for the same weight.
_MAX_EXACT_INTEGER = 1 << 53

_SERVICE = re.compile(r"[!-~]+")
_SERVICE_FORBIDDEN = re.compile(r"[/?#%]")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class RoutingError(ValueError):
    """A routing table holds something that is no record; the message names the key and the reason."""


@dataclass(frozen=True, repr=False)
class RoutingRecord:
    """The weighted hosts of a service; hosts[i] has weights[i]. `version` 0: another tool wrote it."""

    service: str
    hosts: Sequence[str]
    weights: Sequence[float]
    version: int = field(default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts", tuple(self.hosts))
        object.__setattr__(self, "weights", tuple(_plain_number(weight) for weight in self.weights))

    def __repr__(self) -> str:
        # The original's text, which people read in the shell: lists, and no version.
        return f"RoutingRecord(service={self.service!r}, hosts={list(self.hosts)!r}, weights={list(self.weights)!r})"

    def weight_by_host(self) -> dict[str, float]:
        """What a balancer takes."""
        return dict(zip(self.hosts, self.weights, strict=True))


class RoutingTable(Protocol):
    """What a table of routing records can do, wherever it is kept."""

    def write(self, record: RoutingRecord) -> None:
        """Replaces the service's record and tells whoever listens."""

    def remove(self, service: str) -> None:
        """Forgets the service and tells whoever listens."""

    def read(self, service: str) -> RoutingRecord | None:
        """The service's record; RoutingError if what is stored makes no sense."""

    def read_all(self) -> list[RoutingRecord]:
        """Every record, ordered by service."""


@dataclass(frozen=True)
class FieldError:
    """One broken rule: the field, the index in it (None: the field as a whole) and what is wrong."""

    field: str
    index: int | None
    message: str

    @property
    def place(self) -> str:
        """The field, with the index: `hosts[1]`."""
        return self.field if self.index is None else f"{self.field}[{self.index}]"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class RoutingInvalid(RoutingError):
    """A routing record breaks the rules; nothing was written. `errors` has one sentence for each reason."""

    def __init__(self, field_errors: Sequence[FieldError]) -> None:
        self.field_errors = list(field_errors)
        self.errors = [str(error) for error in self.field_errors]
        super().__init__("; ".join(self.errors))


class RoutingMissing(RoutingError):
    """A service has no routing record."""

    def __init__(self, service: str) -> None:
        super().__init__(f"service {service!r} has no routing record")


class RoutingTaken(RoutingError):
    """A service has a routing record already."""

    def __init__(self, service: str) -> None:
        super().__init__(f"service {service!r} has a routing record already")


def find_errors(service: object, hosts: object, weights: object) -> list[FieldError]:
    """Every reason why this is no routing record, each at its field; empty if it is one."""
    return [*find_service_errors(service), *find_target_errors(hosts, weights)]


def find_target_errors(hosts: object, weights: object) -> list[FieldError]:
    """As `find_errors`, of hosts and weights alone (a service's name is for its writer to choose)."""
    errors: list[FieldError] = []
    if not isinstance(hosts, list | tuple):
        errors.append(FieldError("hosts", None, "must be a list of host[:port]"))
    else:
        errors.extend(_host_list_errors(hosts))
    if not isinstance(weights, list | tuple):
        errors.append(FieldError("weights", None, "must be a list of numbers"))
    else:
        errors.extend(_weight_list_errors(weights))
    if isinstance(hosts, list | tuple) and isinstance(weights, list | tuple) and len(hosts) != len(weights):
        errors.append(
            FieldError("weights", None, f"must have one weight for each host: {len(weights)} for {len(hosts)} hosts")
        )
    return errors


def format_weight(weight: float) -> str:
    """The shortest text that reads back as the same number: 1, 0.25."""
    return repr(_plain_number(weight))


def _plain_number(weight: float) -> float:
    """The weight as an int if it is a whole number, else as a float, whatever number type it had."""
    number = float(weight)
    return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT_INTEGER else number


def find_service_errors(service: object) -> Iterable[FieldError]:
    """As `find_errors`, of the service's name alone."""
    if not isinstance(service, str) or not service:
        yield FieldError("service", None, "must be a text that is not empty")
    elif len(service) > MAX_NAME_LENGTH:
        yield FieldError("service", None, f"must have at most {MAX_NAME_LENGTH} characters")
    elif not _SERVICE.fullmatch(service) or _SERVICE_FORBIDDEN.search(service):
        yield FieldError(
            "service",
            None,
            f"{service!r} must be of ASCII letters, digits and signs, with no space and none of / ? # %",
        )


def _host_list_errors(hosts: Sequence[object]) -> Iterable[FieldError]:
    if not hosts:
        yield FieldError("hosts", None, "must name at least one host")
    first_index: dict[str, int] = {}
    for index, host in enumerate(hosts):
        reason = _host_reason(host)
        if reason:
            yield FieldError("hosts", index, reason)
        elif isinstance(host, str):
            # Host names do not tell case apart, and neither do the keys of some databases.
            first = first_index.setdefault(host.lower(), index)
            if first != index:
                yield FieldError("hosts", index, f"{host!r} is hosts[{first}] already; name each host once")


def _host_reason(host: object) -> str | None:
    """Why this is no host[:port], or None."""
    if not isinstance(host, str) or not host:
        return "must be a text like host or host:8080"
    if len(host) > MAX_NAME_LENGTH:
        return f"must have at most {MAX_NAME_LENGTH} characters, not {len(host)}"
    if "//" in host:
        return f"{host!r} must be host[:port], without http:// or a path"
    if host.startswith("["):
        address, bracket, rest = host[1:].partition("]")
        if not bracket or not _is_ip_address(6, address):
            return f"{host!r} must have an IPv6 address in its brackets, like [::1]:8080"
        if not rest:
            return None
        if not rest.startswith(":"):
            return f"{host!r} must have nothing but :port behind its brackets"
        return _port_reason(host, rest[1:])
    if host.count(":") > 1:
        return f"{host!r} must be host[:port]; an IPv6 address needs brackets, like [::1]:8080"
    name, colon, port = host.partition(":")
    if not _is_host_name(name):
        return f"{host!r} must have a host name or an IP address before its port"
    return _port_reason(host, port) if colon else None


def _is_host_name(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    if labels[-1].isdigit():
        # RFC 1123: a name whose last label is a number can only be an IPv4 address.
        return _is_ip_address(4, name)
    return all(_HOST_LABEL.fullmatch(label) for label in labels)


def _is_ip_address(version: int, text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == version and "%" not in text
    except ValueError:
        return False


def _port_reason(host: str, port: str) -> str | None:
    if re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535:
        return None
    return f"{host!r} must have a port from 1 to 65535"


def _weight_list_errors(weights: Sequence[object]) -> Iterable[FieldError]:
    sound = True
    for index, weight in enumerate(weights):
        reason = _weight_reason(weight)
        if reason:
            sound = False
            yield FieldError("weights", index, reason)
    if not weights:
        yield FieldError("weights", None, "must have at least one weight")
    elif sound and not any(weights):
        yield FieldError("weights", None, "must have at least one weight above 0")


def _weight_reason(weight: object) -> str | None:
    """Why this is no weight, or None. Text and booleans are no numbers here."""
    if isinstance(weight, bool) or not isinstance(weight, Real):
        return f"must be a number, not {weight!r}"
    try:
        number = float(weight)
    except OverflowError:
        return "must be a number that a 64-bit float holds"
    if not math.isfinite(number):
        return f"must be a finite number, not {number}"
    if number < 0:
        return f"must not be negative: {weight!r}"
    if isinstance(weight, Integral) and int(weight) > _MAX_EXACT_INTEGER:
        return f"must be at most {_MAX_EXACT_INTEGER} where it is a whole number"
    return None
