"""`manage.py report`: the report of an experiment that has ended."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from experiments.analysis import report
from experiments.analysis.target_log import line_pattern
from experiments.management.arguments import InputCommand
from experiments.models import Experiment
from routing.errors import Code, InvalidInput


class Command(InputCommand):
    help = (
        "Prints the report of an experiment that has ended. The exit status is 1 when its account does not close, or "
        "when a target's log contradicts it or has no ids of it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", help="id of the experiment")
        parser.add_argument(
            "--target-log",
            action="append",
            default=[],
            metavar="FILE",
            help="log of the target with the ids of requests; may be repeated, once per instance or proxy",
        )
        parser.add_argument(
            "--target-log-match",
            metavar="REGEX",
            help="only lines in which this regular expression is found count, and each one as a request; for logs with "
            "several lines per request (without it, their usual number is recognised)",
        )
        parser.add_argument("--json", action="store_true", help="print the report as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        match = options["target_log_match"]
        if match is not None and not options["target_log"]:
            message = "has no effect without --target-log; add that, or remove this"
            raise InvalidInput.of("--target-log-match", Code.CONFLICT, message)
        pattern = None if match is None else line_pattern(match)
        try:
            experiment = Experiment.objects.get(pk=options["id"])
        except Experiment.DoesNotExist:
            raise CommandError(f"experiment {options['id']!r} does not exist") from None
        if not experiment.has_ended:
            raise CommandError(f"experiment {experiment.id} has not ended: it is {experiment.status}")
        logs = [Path(path) for path in options["target_log"]]
        built = report.build(experiment, logs, match=pattern, fresh=True)
        self.stdout.write(json.dumps(built, indent=2) if options["json"] else report.render(built))
        if not built["sound"]:
            raise CommandError("the account does not close: " + "; ".join(built["problems"]))
