"""ServiceRoutingTable: the shell's `rtbl`, for the routing table."""

from __future__ import annotations

from collections.abc import Sequence

from routing import selectors, services
from routing.table import RoutingRecord

_BY = "shell"
# Minimal widths of the columns; they grow with longer names.
_LEAST_WIDTHS = (25, 20, 9)
_TITLES = ("Service", "Hosts", "Weights")


class ServiceRoutingTable:
    """Shows and changes the hosts of each service, and each host's share of the requests.

    Type `rtbl` to see the table. Each change makes a new version of the service's record. Workers follow it at once,
    also during an experiment, whose timeline shows it; the admin shows every version and its author.

        rtbl.set('myservice', ['host1:8080', 'host2:8080'], [1, 2])    # host2 gets two requests of three
        rtbl.update_weights('myservice', [1, 0])                       # host2 gets no more
        rtbl.append('myservice', 'host3:8080')
        rtbl.remove('myservice')

    An invalid record raises InvalidInput, a ValueError that gives every reason; the table is then unchanged.
    """

    def record(self, service: str) -> RoutingRecord | None:
        """Returns the record of a service, or None."""
        return selectors.record(service)

    def records(self) -> list[RoutingRecord]:
        """Returns all records, ordered by service."""
        return selectors.records()

    def set(self, service: str, hosts: Sequence[str], weights: Sequence[float] | None = None) -> RoutingRecord:
        """Sets the hosts of a service, and replaces those that it had; returns the record.

        service: the name of the service in plans and in g.spawn
        hosts:   a list of host or host:port, each once; an IPv6 address needs brackets: '[::1]:8080'
        weights: a list with a number for each host: its share of the requests, relative to the other hosts.
                 Each is at least 0, fractions included, and one is above 0; a host of weight 0 gets no requests.
                 Default: all hosts have the same weight.

            rtbl.set('myservice', ['host1:8080', 'host2:8080'], [1, 2])
        """
        return services.set_record(service, hosts, weights, _BY)

    def update_weights(self, service: str, weights: Sequence[float]) -> ServiceRoutingTable:
        """Changes the weights of a service's hosts, one for each host in the order of the record; returns rtbl.

        Raises RecordMissing, a ValueError, when the service has no record.
        """
        services.change_record(service, weights=weights, by=_BY)
        return self

    def append(self, service: str, host: str, weight: float = 1) -> ServiceRoutingTable:
        """Adds a host to a service, and creates its record if it has none; returns rtbl."""
        services.append_host(service, host, weight, _BY)
        return self

    def remove(self, service: str) -> ServiceRoutingTable:
        """Removes the record of a service, if there is one; its requests then have no route. Returns rtbl."""
        services.remove_record(service, _BY)
        return self

    def clear(self) -> ServiceRoutingTable:
        """Removes all records; returns rtbl."""
        services.remove_all(_BY)
        return self

    def print(self) -> None:
        """Prints the table."""
        print(self)  # noqa: T201

    def __repr__(self) -> str:
        return format_table(self.records())


def format_table(records: Sequence[RoutingRecord]) -> str:
    """Returns the records as a table of text: a line for each host, and a rule below each service."""
    blocks = [[_TITLES], *(_rows(record) for record in records)]
    widths = [
        max(least, *(len(row[column]) for rows in blocks for row in rows)) for column, least in enumerate(_LEAST_WIDTHS)
    ]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [rule]
    for rows in blocks:
        for service, host, weight in rows:
            lines.append(f"| {service:<{widths[0]}} | {host:>{widths[1]}} | {weight:>{widths[2]}} |")
        lines.append(rule)
    return "\n".join(lines)


def _rows(record: RoutingRecord) -> list[tuple[str, str, str]]:
    names = [record.service, *[""] * (len(record.hosts) - 1)]
    return [
        (name, host, str(float(weight))) for name, host, weight in zip(names, record.hosts, record.weights, strict=True)
    ]
