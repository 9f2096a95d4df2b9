"""A routing record (the weighted hosts of a service) and its rules."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Protocol

from routing.errors import Code, FieldError, shown

# The longest text that every supported database can index (MySQL's utf8mb4 with its shortest key limit).
MAX_NAME_LENGTH = 191
# Integers up to here are exact as floats, so that 2.0 and 2 are the same weight.
_MAX_EXACT_INTEGER = 1 << 53


_SERVICE = re.compile(r"[!-~]+")
_SERVICE_FORBIDDEN = re.compile(r"[/?#%]")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class RoutingError(ValueError):
    """Stored values are not a routing record; the message names the key and the reason."""


@dataclass(frozen=True, repr=False)
class RoutingRecord:
    """The weighted hosts of a service; hosts[i] has weights[i]. `version` is 0 for a record that another tool wrote."""

    service: str
    hosts: Sequence[str]
    weights: Sequence[float]
    version: int = field(default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts", tuple(self.hosts))
        object.__setattr__(self, "weights", tuple(_plain_number(weight) for weight in self.weights))

    def __repr__(self) -> str:
        # The original's text, which users read in the shell: lists, and no version.
        return f"RoutingRecord(service={self.service!r}, hosts={list(self.hosts)!r}, weights={list(self.weights)!r})"

    def weight_by_host(self) -> dict[str, float]:
        """Returns the weights as a balancer takes them."""
        return dict(zip(self.hosts, self.weights, strict=True))


class RoutingTable(Protocol):
    """A store of routing records, wherever it is kept."""

    def write(self, record: RoutingRecord) -> None:
        """Replaces the service's record and notifies subscribers."""

    def remove(self, service: str) -> None:
        """Removes the service's record and notifies subscribers."""

    def read(self, service: str) -> RoutingRecord | None:
        """Returns the service's record. Raises RoutingError when the stored values are not a record."""

    def read_all(self) -> list[RoutingRecord]:
        """Returns every record, ordered by service."""


def find_errors(service: object, hosts: object, weights: object) -> list[FieldError]:
    """Returns every reason why these are not a routing record; empty if they are."""
    return [*find_service_errors(service), *find_target_errors(hosts, weights)]


def find_target_errors(hosts: object, weights: object) -> list[FieldError]:
    """As `find_errors`, of hosts and weights alone."""
    errors: list[FieldError] = []
    if not isinstance(hosts, list | tuple):
        errors.append(FieldError("hosts", Code.TYPE, f"must be a list of host[:port], got {shown(hosts)}"))
    else:
        errors.extend(_host_list_errors(hosts))
    if not isinstance(weights, list | tuple):
        errors.append(FieldError("weights", Code.TYPE, f"must be a list of numbers, got {shown(weights)}"))
    else:
        errors.extend(_weight_list_errors(weights))
    if isinstance(hosts, list | tuple) and isinstance(weights, list | tuple) and len(hosts) != len(weights):
        message = f"must have one weight per host, got {len(weights)} for {len(hosts)} hosts"
        errors.append(FieldError("weights", Code.CONFLICT, message))
    return errors


def format_weight(weight: float) -> str:
    """Returns the shortest text that reads back as the same number: 1, 0.25."""
    return repr(_plain_number(weight))


def _plain_number(weight: float) -> float:
    """Returns the weight as an int if it is a whole number, else as a float."""
    number = float(weight)
    return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT_INTEGER else number


def find_service_errors(service: object) -> Iterable[FieldError]:
    """As `find_errors`, of the service's name alone."""
    if service is None or service == "":
        yield FieldError("service", Code.REQUIRED, "must not be empty")
    elif not isinstance(service, str):
        yield FieldError("service", Code.TYPE, f"must be a string, got {shown(service)}")
    elif len(service) > MAX_NAME_LENGTH:
        yield FieldError("service", Code.RANGE, _too_long(service))
    elif not _SERVICE.fullmatch(service) or _SERVICE_FORBIDDEN.search(service):
        message = f"must be printable ASCII characters without spaces, / ? # and %, got {service!r}"
        yield FieldError("service", Code.FORMAT, message)


def _too_long(text: str) -> str:
    return f"must have at most {MAX_NAME_LENGTH} characters, got {len(text)}"


def _host_list_errors(hosts: Sequence[object]) -> Iterable[FieldError]:
    if not hosts:
        yield FieldError("hosts", Code.REQUIRED, "must have at least one host")
    first_index: dict[str, int] = {}
    for index, host in enumerate(hosts):
        path = f"hosts[{index}]"
        if not isinstance(host, str):
            yield FieldError(path, Code.TYPE, f"must be a string like host or host:8080, got {shown(host)}")
        elif len(host) > MAX_NAME_LENGTH:
            yield FieldError(path, Code.RANGE, _too_long(host))
        elif reason := _host_reason(host):
            yield FieldError(path, Code.FORMAT if host else Code.REQUIRED, f"{reason}, got {host!r}")
        else:
            # Host names and the keys of some databases are case-insensitive.
            first = first_index.setdefault(host.lower(), index)
            if first != index:
                yield FieldError(path, Code.DUPLICATE, f"must differ from hosts[{first}], got {host!r} again")


def _host_reason(host: str) -> str | None:
    """Returns why this is not a host[:port], or None."""
    if not host:
        return "must be a string like host or host:8080"
    if "//" in host:
        return "must be host[:port], without http:// or a path"
    if host.startswith("["):
        address, bracket, rest = host[1:].partition("]")
        if not bracket or not _is_ip_address(6, address):
            return "must have an IPv6 address in its brackets, like [::1]:8080"
        if not rest:
            return None
        if not rest.startswith(":"):
            return "must have nothing but :port after its brackets"
        return _port_reason(rest[1:])
    if host.count(":") > 1:
        return "must be host[:port]; an IPv6 address needs brackets, like [::1]:8080"
    name, colon, port = host.partition(":")
    if not _is_host_name(name):
        return "must have a host name or an IP address before its port"
    return _port_reason(port) if colon else None


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


def _port_reason(port: str) -> str | None:
    is_valid = re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535
    return None if is_valid else "must have a port from 1 to 65535"


def _weight_list_errors(weights: Sequence[object]) -> Iterable[FieldError]:
    errors = [error for index, weight in enumerate(weights) for error in _weight_errors(f"weights[{index}]", weight)]
    yield from errors
    if not weights:
        yield FieldError("weights", Code.REQUIRED, "must have at least one weight")
    elif not errors and not any(weights):
        yield FieldError("weights", Code.RANGE, "must have at least one weight above 0")


def _weight_errors(path: str, weight: object) -> Iterable[FieldError]:
    if isinstance(weight, bool) or not isinstance(weight, Real):
        yield FieldError(path, Code.TYPE, f"must be a number, got {shown(weight)}")
        return
    try:
        number = float(weight)
    except OverflowError:
        number = math.inf
    if isinstance(weight, Integral) and int(weight) > _MAX_EXACT_INTEGER:
        yield FieldError(path, Code.RANGE, f"must be at most {_MAX_EXACT_INTEGER} where it is a whole number")
    elif not math.isfinite(number) or number < 0:
        yield FieldError(path, Code.RANGE, f"must be a finite number of at least 0, got {shown(weight)}")
