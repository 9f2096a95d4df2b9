"""A real PostgreSQL or MariaDB for tests: `python -m tests.support.databases postgres|mysql -- COMMAND...`.

Starts a private server on a free loopback port in a folder of its own, runs COMMAND with the galileo_expdb_* variables
that lead to it, removes the server with all its data, and exits as COMMAND did (128 + n after signal n; 2 without a
server program). SIGINT and SIGTERM go on to COMMAND; a second one ends COMMAND and what it has started, at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from tests.support.database_servers import MariaDb, Postgres, Server, ServerMissing, becoming

__all__ = ["SERVERS", "MariaDb", "Postgres", "Server", "ServerMissing", "main"]

_MISSING = 2

SERVERS: dict[str, type[Server]] = {"postgres": Postgres, "mysql": MariaDb}


def main(arguments: list[str]) -> int:
    """Runs COMMAND with a server; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.databases", usage="%(prog)s DRIVER -- COMMAND...")
    parser.add_argument("driver", choices=SERVERS)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    _on_signals(_interrupt)
    server = SERVERS[options.driver]()
    try:
        server.start()
        return _run(options.command, server.environment)
    except ServerMissing as error:
        sys.stderr.write(f"{error}\n")
        return _MISSING
    except Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        _on_signals(signal.SIG_IGN)
        server.stop()


class Interrupted(BaseException):
    """A signal that asks for an end."""

    def __init__(self, number: int) -> None:
        self.number = number


def _on_signals(action: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _run(command: list[str], environment: dict[str, str]) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("galileo_expdb_")}
    # A process group of its own: a Ctrl-C reaches it once, through this process.
    process = subprocess.Popen(becoming(command, signal.SIGTERM), env={**kept, **environment}, process_group=0)
    try:
        try:
            status = process.wait()
        except Interrupted as interrupted:
            process.send_signal(interrupted.number)
            status = process.wait()
    except Interrupted as interrupted:
        status = -interrupted.number
    finally:
        # Whatever COMMAND has left running uses the server: it goes first.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
