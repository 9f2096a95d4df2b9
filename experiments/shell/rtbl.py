"""The object `rtbl` of the controller shell: the routing table, as a user types it."""

from __future__ import annotations

from collections.abc import Sequence

from routing import selectors, services
from routing.table import RoutingRecord

_BY = "shell"
# Of the columns; they grow for longer names.
_LEAST_WIDTHS = (25, 20, 9)
_TITLES = ("Service", "Hosts", "Weights")


class ServiceRoutingTable:
    """Shows and changes which hosts serve a service, and how many of its requests each of them gets.

    Type `rtbl` to see the table. A change is a new version of the service's record. Workers obey it at once, also in
    the middle of an experiment, on whose timeline it is then; the admin keeps every version and who made it.

        rtbl.set('myservice', ['host1:8080', 'host2:8080'], [1, 2])    # host2 gets two requests of three
        rtbl.update_weights('myservice', [1, 0])                       # host2 gets no more
        rtbl.append('myservice', 'host3:8080')
        rtbl.remove('myservice')

    An invalid record raises InvalidInput, a ValueError that gives every reason; the table is then unchanged.
    """

    def record(self, service: str) -> RoutingRecord | None:
        """The record of a service, or None."""
        return selectors.record(service)

    def records(self) -> list[RoutingRecord]:
        """All records, ordered by service."""
        return selectors.records()

    def set(self, service: str, hosts: Sequence[str], weights: Sequence[float] | None = None) -> RoutingRecord:
        """Makes these the hosts of a service, in place of those that it had; returns the record.

        service: the name that clients are spawned for, and that plans name
        hosts:   a list of host or host:port, each once; an IPv6 address needs brackets: '[::1]:8080'
        weights: a list with a number for each host: how its share of the requests compares to that of the others.
                 Numbers are 0 or more, fractions too, at least one above 0; a host of weight 0 gets no requests.
                 Without weights all hosts get the same.

            rtbl.set('myservice', ['host1:8080', 'host2:8080'], [1, 2])
        """
        return services.set_record(service, hosts, weights, _BY)

    def update_weights(self, service: str, weights: Sequence[float]) -> ServiceRoutingTable:
        """Changes the weights of a service's hosts, one number for each host in the order of the record; returns rtbl.

        Raises RecordMissing, a ValueError, when the service has no record.
        """
        services.change_record(service, weights=weights, by=_BY)
        return self

    def append(self, service: str, host: str, weight: float = 1) -> ServiceRoutingTable:
        """Adds a host to a service, which need not have a record yet; returns rtbl."""
        services.append_host(service, host, weight, _BY)
        return self

    def remove(self, service: str) -> ServiceRoutingTable:
        """Removes the record of a service, if there is one; its requests find no route then. Returns rtbl."""
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
    """The records as a table of text: a line for each host, and a rule below each service."""
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
