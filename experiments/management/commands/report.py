"""`manage.py report`: the report of an experiment that has ended."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from experiments.analysis import report
from experiments.management.arguments import InputCommand
from experiments.models import Experiment


class Command(InputCommand):
    help = (
        "Prints the report of an experiment that has ended. The exit status is 1 when its account does not close, or "
        "when a target's log contradicts it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", help="id of the experiment")
        parser.add_argument(
            "--target-log",
            action="append",
            default=[],
            metavar="FILE",
            help="log of the target with the ids of requests; may be repeated, once per instance",
        )
        parser.add_argument("--json", action="store_true", help="print the report as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            experiment = Experiment.objects.get(pk=options["id"])
        except Experiment.DoesNotExist:
            raise CommandError(f"experiment {options['id']!r} does not exist") from None
        if not experiment.has_ended:
            raise CommandError(f"experiment {experiment.id} has not ended: it is {experiment.status}")
        built = report.build(experiment, [Path(path) for path in options["target_log"]], fresh=True)
        self.stdout.write(json.dumps(built, indent=2) if options["json"] else report.render(built))
        if not built["sound"]:
            raise CommandError("the account does not close: " + "; ".join(built["problems"]))
