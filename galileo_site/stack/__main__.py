"""Command line: `python -m galileo_site.stack up|down|demo|status`."""

from __future__ import annotations

import argparse
import sys

from galileo_site.stack.config import StackError, read_config
from galileo_site.stack.demo import demo
from galileo_site.stack.state import StateDir, is_locked
from galileo_site.stack.supervisor import down, status, supervise, up
from loadgen.interruption import Interrupted, Interruption
from routing.errors import InvalidInput

_COMMANDS = {
    "up": "start everything in the background, and print the web address and the administrator's password",
    "down": "stop the processes that `up` started",
    "demo": "start everything, run the example experiment, print its report, stop everything",
    "status": "print the processes that run",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m galileo_site.stack", description="Galileo on one machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(_COMMANDS))
    for name, text in _COMMANDS.items():
        commands.add_parser(name, help=text, description=text)
    commands.add_parser("supervise")  # `up` runs it in the background
    command = parser.parse_args(arguments).command
    try:
        config = read_config()
        state = StateDir(config.state_dir)
        if command == "down":
            return down(state)
        if command == "status":
            return status(state)
        with Interruption() as interruption:
            if command == "up":
                return up(config, state, interruption)
            if command == "supervise":
                return supervise(config, state, interruption)
            if is_locked(state.lock_file):
                raise StackError("Galileo is running already; stop it with 'make down' before a demo.")
            return demo(config, state, interruption)
    except (InvalidInput, StackError) as error:
        sys.stderr.write(f"{error.text if isinstance(error, InvalidInput) else error}\n")
        return 1
    except Interrupted as signalled:
        return signalled.exit_status


if __name__ == "__main__":
    raise SystemExit(main())
