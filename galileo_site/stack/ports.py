"""Free and busy TCP ports of the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Set

from galileo_site.stack.config import HOST, StackError

# Below the range of Linux's ephemeral ports, so that no outgoing connection takes a port before it is used.
_CANDIDATES = range(20000, 32000)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, so that TIME_WAIT is ignored
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def check_free(port: int, what: str, variable: str) -> None:
    """Raises StackError, which names the remedy, if the port is busy or not permitted."""
    if not is_free(port):
        raise StackError(
            f"The {what}'s port {port} on {HOST} is in use or not permitted; "
            f"stop what uses it, or set {variable} to another one."
        )


def pick_free(taken: Set[int] = frozenset()) -> int:
    """Returns a free port that is not in `taken`. Raises StackError if none is found."""
    for _ in range(200):
        port = random.choice(_CANDIDATES)
        if port not in taken and is_free(port):
            return port
    raise StackError(f"No free port was found from {_CANDIDATES.start} to {_CANDIDATES.stop - 1} on {HOST}.")
