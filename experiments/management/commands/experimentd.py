"""`manage.py experimentd`: the experiment daemon."""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from experiments.instructions.processing import InstructionLoop
from experiments.instructions.queue import InstructionQueue, make_client
from experiments.management import loops
from experiments.recording import Recorder
from loadgen.interruption import Interrupted, Interruption
from loadgen.protocol.settings import LOG_LEVELS

log = logging.getLogger(__name__)

# After a signal: how long the loops have to finish their current work.
END_WITHIN_S = 1.5
CHECK_S = 1.0


class Command(BaseCommand):
    help = (
        "Runs the experiment daemon until SIGTERM or Ctrl-C. It creates experiments from scripts that users push to "
        "Redis, and records telemetry and events of running experiments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--logging",
            metavar="LEVEL",
            type=str.upper,
            choices=LOG_LEVELS,
            help=f"{', '.join(LOG_LEVELS)}; default: galileo_logging_level",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["logging"]:
            logging.getLogger().setLevel(options["logging"])
        stop = threading.Event()
        with Interruption() as interruption:
            threads = loops.start(_loops(), stop)
            try:
                while any(thread.is_alive() for thread in threads):
                    interruption.wait(CHECK_S)
            except Interrupted:
                log.info("the experiment daemon stops on %s", interruption.name)
            stop.set()
            if left := loops.join(threads, END_WITHIN_S):
                log.warning("%s did not stop in time; the end of the process stops it", ", ".join(left))


def _loops() -> dict[str, loops.Loop]:
    """Returns the loops of the daemon by name; each runs in a thread of its own."""
    return {"instructions": InstructionLoop(InstructionQueue(make_client())).run, "recorder": Recorder().run}
