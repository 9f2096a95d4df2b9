"""ClientGroup: a group of clients, as `g.spawn` returns it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from experiments import selectors
from experiments.models import ClientGroup as Group
from experiments.models import GroupState, Shard
from experiments.plans.commands import Readers, files_of, lists_of, parse_clients, parse_command
from experiments.selectors import ClientInfo
from experiments.services import groups, placement
from experiments.shell.errors import GroupFailed, NotReady, check_timeout
from experiments.shell.future import RequestFuture
from loadgen.protocol.enums import CommandKind
from routing.redis import redis_client

Result = TypeVar("Result")

LOOK_EVERY_S = 0.05
READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class Client:
    """One client of a group; its request ids begin with its `client_id`."""

    client_id: str


class ClientGroup:
    """Clients of one service, which are commanded together.

    rps(n)              each client sends n requests per second, evenly; 0 pauses them
    request(n, ia)      each client sends n requests, with gaps of `ia` between them, or back to back
    pause()             as rps(0)
    info()              requests and failures of each client
    add(n), close(n)    adds clients, closes n of them or (without n) all
    clients             the open clients; c.clients[0].client_id is the id of the first
    c1 + c2             both groups as one

    A command takes effect within a tenth of a second, and replaces the previous one. A rate continues when the shell
    ends; the admin shows the group and can stop it.
    """

    def __init__(self, group_ids: Sequence[str]) -> None:
        self._ids = list(dict.fromkeys(group_ids))

    @property
    def ids(self) -> list[str]:
        """The ids of the groups; several if groups were added."""
        return list(self._ids)

    @property
    def clients(self) -> list[Client]:
        """The open clients, in the order of their indexes."""
        return [
            Client(info.client_id)
            for row in self._rows()
            if row.state != GroupState.STOP
            for info in selectors.clients_of(row)
        ]

    def rps(self, n: float) -> None:
        """Makes each client send `n` requests per second, evenly, until the next command; 0 pauses them."""
        command = parse_command({"rps": n})
        self._each(lambda group_id: groups.command(group_id, **command))

    def pause(self) -> None:
        """Pauses the clients; requests in flight are completed."""
        self._each(lambda group_id: groups.command(group_id, kind=CommandKind.RATE))

    def request(self, n: int | None = None, ia: Any = None) -> RequestFuture:
        """Makes each client send requests, and returns a future to wait for them.

        Args:
            n: number of requests of each client; None: until the next command.
            ia: the gap before each request: seconds, a distribution of Python's `random` with its parameters, such as
                ('expovariate', 5), or recorded gaps. Each client uses all gaps of ('prerecorded', [0.1, 0.2, ...])
                or ('prerecorded', 'monday.csv'). With ('prerecorded',), or with any word behind it, each client reads a
                Redis list of its own, whose key is its client_id (docs/shell.md). Without `ia`, a request follows the
                response to the previous one.

        >>> c.request(n=100, ia=('expovariate', 5)).wait()
        """
        commands = {}
        for group in self._rows():  # every command is parsed before the first is sent
            lists = lists_of(redis_client(), group.id, selectors.client_indexes(group))
            commands[group.id] = parse_command({"n": n, "ia": ia}, Readers(files_of(Path.cwd()), lists))
        return RequestFuture(self._each(lambda group_id: groups.command(group_id, **commands[group_id])))

    def info(self) -> list[ClientInfo]:
        """Returns requests and failures of each client so far, also of a closed group."""
        return [info for group in self._rows() for info in selectors.clients_of(group)]

    def add(self, n: int = 1) -> ClientGroup:
        """Adds `n` clients on workers with the same labels, and waits until they are ready."""
        added, _ = parse_clients({"add": n})
        self._each(lambda group_id: groups.add(group_id, added))
        self.wait_until_ready()
        return self

    def close(self, n: int | None = None) -> None:
        """Closes the `n` clients that were added last; all clients without `n`."""
        clients = None if n is None else parse_clients({"close": n})[1]
        self._each(lambda group_id: groups.close(group_id, clients))

    def _each(self, do: Callable[[str], Result]) -> dict[str, Result]:
        """Calls `do` for every group, also after an error; then raises the first error."""
        done, errors = {}, []
        for group_id in self._ids:
            try:
                done[group_id] = do(group_id)
            except Exception as error:  # noqa: BLE001
                errors.append(error)
        if errors:
            raise errors[0]
        return done

    def wait_until_ready(self, timeout: float = READY_WITHIN_S) -> None:
        """Waits until all clients can send.

        Raises:
            GroupFailed: a shard failed, with its reason.
            NotReady: they were not ready in time.
        """
        check_timeout(timeout)
        deadline_s = time.monotonic() + timeout
        for row in self._rows():
            awaited = [shard.id for shard in groups.shards_of(row, row.interactive_part.pending)]
            while row.interactive_part.pending and not row.interactive_part.ended_at:
                if time.monotonic() > deadline_s:
                    why = placement.unready(groups.shards_of(row, row.interactive_part.pending))
                    raise NotReady(f"client group {row.id} was not ready within {timeout:g} s: {why}")
                time.sleep(LOOK_EVERY_S)
                row = groups.follow(row.id)  # noqa: PLW2901
            failed = Shard.objects.failed().filter(id__in=awaited).first()
            if failed is not None:
                raise GroupFailed(f"shard {failed}: {failed.reason}")
            if row.interactive_part.ended_at:
                raise GroupFailed(f"client group {row.id} is closed")

    def _rows(self) -> list[Group]:
        return selectors.groups(self._ids)

    def __add__(self, other: object) -> ClientGroup:
        return ClientGroup([*self._ids, *other.ids]) if isinstance(other, ClientGroup) else NotImplemented

    def __len__(self) -> int:
        return len(self.clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(self.clients)

    def __repr__(self) -> str:
        return f"ClientGroup({'; '.join(map(_described, self._rows()))})"


def _described(group: Group) -> str:
    """g-1a2b3c4d: myservice, 2 clients sending 10 requests/s each."""
    if group.state == GroupState.STOP:
        return f"{group.id}: {group.workload.service}, closed"
    clients = f"{group.total_clients} client{'s' if group.total_clients != 1 else ''}"
    return f"{group.id}: {group.workload.service}, {clients} sending {selectors.doing(group)}"
