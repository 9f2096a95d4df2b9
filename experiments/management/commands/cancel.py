"""`manage.py cancel ID...`: stops experiments. It works without the web server.

Exit status: 0 when each of them is ending or has ended, 1 otherwise.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import InterfaceError, OperationalError

from experiments.management.arguments import InputCommand, user_name
from experiments.models import Experiment
from experiments.plans.fields import text_reason
from experiments.services import ending
from loadgen.protocol.topics import MAX_EVENT_VALUE
from routing.errors import InvalidInput


class Command(InputCommand):
    help = "Stops experiments: their load ends at once, and their results are kept. It works without the web server."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", metavar="ID", nargs="+", help="id of an experiment")
        parser.add_argument("--reason", metavar="TEXT", help="shown on the timeline")

    def handle(self, *args: Any, **options: Any) -> None:
        reason = options["reason"]
        if reason is not None and (wrong := text_reason(reason, MAX_EVENT_VALUE)):
            raise InvalidInput.of("--reason", *wrong)
        by = f"cancelled by {user_name('cancel')}"
        failures = []
        for experiment_id in dict.fromkeys(options["ids"]):
            try:
                experiment = ending.cancel(experiment_id, f"{by}: {reason}" if reason else by)
            except Experiment.DoesNotExist:
                failures.append(f"experiment {experiment_id!r} does not exist")
            except (OperationalError, InterfaceError) as error:
                failures.append(f"experiment {experiment_id} could not be cancelled, the database is away: {error}")
            else:
                self.stdout.write(f"experiment {experiment.id} {_outcome(experiment)}")
        if failures:
            raise CommandError("\n".join(failures))


def _outcome(experiment: Experiment) -> str:
    if experiment.has_ended:
        return f"has ended as {experiment.status}"
    return f"is ending as {experiment.final_status}"
