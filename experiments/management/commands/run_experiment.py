"""`manage.py run_experiment PLAN`: queues an experiment and, with --wait, follows it to its end.

Exit status: 0 finished (or queued, without --wait), 1 failed or cancelled, 2 invalid plan, 3 no workers or slots,
130 interrupted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import redis.exceptions
from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, connection

from experiments import plans, selectors
from experiments.analysis import live
from experiments.management.arguments import parse_route, user_name
from experiments.management.progress import LiveDisplay, PlainDisplay
from experiments.models import Experiment, ExperimentStatus
from experiments.plans.parsing import MAX_BYTES, whole_invalid
from experiments.plans.recordings import FILE, LISTS, read_file, read_lists, with_recordings
from experiments.services import broker, ending
from experiments.services import experiments as services
from experiments.services.experiments import IdTaken
from experiments.services.workers import NoMatchingWorkers
from loadgen.interruption import Interrupted, Interruption
from routing.errors import InvalidInput
from routing.redis import redis_client

EXIT_FAILED, EXIT_INVALID, EXIT_NO_WORKERS, EXIT_INTERRUPTED = 1, 2, 3, 130

# After a cancellation: how long the command waits for the experiment's end, and how often it checks.
CANCEL_WAIT_S = 20.0
CANCEL_CHECK_S = 0.2


class Command(BaseCommand):
    help = "Queues the experiment of a plan file; with --wait, follows it until it ends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("plan", metavar="PLAN", help="YAML file of the plan; - for standard input")
        parser.add_argument("--wait", action="store_true", help="follow the experiment until it ends")
        parser.add_argument("--json", action="store_true", help="print only one JSON object at the end")
        parser.add_argument(
            "--route",
            metavar="SERVICE=HOST:PORT@WEIGHT,...",
            action="append",
            default=[],
            help="hosts of a service, in place of the plan's; may be repeated",
        )
        parser.add_argument("--id-file", metavar="PATH", type=Path, help="write the experiment's id to this file")
        parser.add_argument(
            "--creator", metavar="NAME", help="creator of the experiment; default: the plan's, or this user"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._options = options
        try:
            data = _with_options(_read(options["plan"]), options["route"], options["creator"])
            plan = plans.parse(data, selectors.client_app_of)
        except (InvalidInput, redis.exceptions.RedisError) as error:
            status = self._refuse(error)
        else:
            with Interruption() as interruption:
                status = self._run(plan, interruption)
        if status:
            sys.exit(status)

    def _run(self, plan: plans.Plan, interruption: Interruption) -> int:
        try:
            services.check_workers(plan)
            interruption.check()
            experiment = services.create(plan, user_name("run_experiment"))
        except (InvalidInput, IdTaken, NoMatchingWorkers, redis.exceptions.RedisError, Interrupted) as error:
            return self._refuse(error)
        if plan.older_times and not self._options["json"]:
            self._say(plan.older_times)
        if self._options["id_file"]:
            self._options["id_file"].write_text(experiment.id + "\n")
        if not self._options["wait"]:
            self._print_end(experiment, experiment.id)
            return 0
        try:
            self._follow(experiment.id, interruption)
        except Interrupted:
            return self._cancel(experiment.id, interruption)
        return self._end(experiment.id)

    def _refuse(self, error: Exception) -> int:
        """Prints why no experiment was created. Returns the exit status."""
        status, text = EXIT_FAILED, f"the broker does not answer: {error}"
        if isinstance(error, InvalidInput):
            status, text = EXIT_INVALID, error.text
        elif isinstance(error, IdTaken):
            status, text = EXIT_INVALID, f"experiment.id: {error}"
        elif isinstance(error, NoMatchingWorkers):
            status, text = EXIT_NO_WORKERS, str(error)
        elif isinstance(error, Interrupted):
            status, text = EXIT_INTERRUPTED, "interrupted; no experiment was created"
        self.stderr.write(text)
        if self._options["json"]:
            self._print_end(None, "", errors=text.splitlines())
        return status

    def _display(self) -> LiveDisplay | PlainDisplay:
        if self.stdout.isatty():
            return LiveDisplay(sys.stdout)  # Django's wrapper would end each redrawing with a new line
        return PlainDisplay(self._say)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _follow(self, experiment_id: str, interruption: Interruption) -> None:
        """Shows the experiment until it has ended or is deleted. Raises Interrupted."""
        offset_ns, display = _broker_offset_ns(), self._display()
        try:
            while True:
                try:
                    experiment = selectors.experiment_status(experiment_id)
                    if experiment and not self._options["json"]:
                        display.show(experiment, live.progress(experiment, time.monotonic_ns() + offset_ns))
                except OperationalError:
                    # The experiment continues without this command: wait for the database, or for an interrupt.
                    connection.close()
                else:
                    if experiment is None or experiment.has_ended:
                        return
                interruption.wait(display.refresh_s)
        finally:
            display.close()

    def _cancel(self, experiment_id: str, interruption: Interruption) -> int:
        """Cancels the experiment, waits a short time for its end, and prints its status."""
        end_at_s = time.monotonic() + CANCEL_WAIT_S
        experiment: Experiment | None = None
        is_cancelled = False
        while time.monotonic() < end_at_s and not interruption.hurry:
            try:
                if not is_cancelled:
                    experiment = ending.cancel(experiment_id, f"interrupted: run_experiment got {interruption.name}")
                    is_cancelled = True
                experiment = selectors.experiment_status(experiment_id)
            except Experiment.DoesNotExist:
                experiment, is_cancelled = None, True
                break
            except OperationalError as error:
                self.stderr.write(f"the experiment could not be cancelled yet: {error}")
                connection.close()
            if is_cancelled and (experiment is None or experiment.has_ended):
                break
            time.sleep(CANCEL_CHECK_S)
        if not is_cancelled:
            outcome = "could NOT be cancelled, its load may continue"
        elif experiment is None:
            outcome = "was deleted"
        elif experiment.has_ended:
            outcome = f"is {experiment.status}, its load has stopped"
        else:
            outcome = "is cancelled and ending"
        text = f"interrupted; experiment {experiment_id} {outcome}"
        self._print_end(experiment, text, errors=[text])
        return EXIT_INTERRUPTED

    def _end(self, experiment_id: str) -> int:
        experiment = selectors.experiment(experiment_id)
        if experiment is None:
            text = f"experiment {experiment_id} was deleted"
            self._print_end(None, text, errors=[text])
            return EXIT_FAILED
        reason = f" ({experiment.reason})" if experiment.reason else ""
        text = (
            f"{experiment.status}{reason}, verdict {selectors.verdict_of(experiment) or 'none'}; "
            f"report: manage.py report {experiment.id}"
        )
        self._print_end(experiment, text, errors=[experiment.reason])
        return 0 if experiment.status == ExperimentStatus.FINISHED else EXIT_FAILED

    def _print_end(self, experiment: Experiment | None, text: str, errors: Iterable[str] = ()) -> None:
        end = {
            "id": experiment and experiment.id,
            "status": experiment and experiment.status,
            "verdict": experiment and selectors.verdict_of(experiment),
            "summary": experiment and experiment.summary,
            "errors": [error for error in errors if error],
        }
        self._say(json.dumps(end) if self._options["json"] else text)


def _read(path: str) -> dict[str, Any]:
    """Returns the plan's data with the recordings that it names; files are relative to the plan's folder.

    Raises:
        InvalidInput: the plan or a recording cannot be read.
        redis.RedisError: the plan uses Redis lists, and Redis does not answer.
    """
    try:
        if path == "-":
            data = plans.load_yaml(sys.stdin.buffer.read(MAX_BYTES + 1))
        else:
            with Path(path).open("rb") as file:
                data = plans.load_yaml(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise whole_invalid(f"{path} cannot be read: {error.strerror}") from error
    readers = {FILE: partial(read_file, Path(path).parent), LISTS: partial(read_lists, redis_client())}
    recorded: dict[str, Any] = with_recordings(data, readers)
    return recorded


def _with_options(data: dict[str, Any], routes: list[str], creator: str | None) -> dict[str, Any]:
    """Returns the plan's data with the values of the command line, which are checked with the rest."""
    records = [parse_route(text) for text in routes]
    routing = data.get("routing")
    if records and isinstance(routing, dict):
        data = {**data, "routing": {**routing, **{record["service"]: record for record in records}}}
    elif records and (routing is None or isinstance(routing, list)):
        given = {record["service"] for record in records}
        kept = [item for item in routing or [] if not (isinstance(item, dict) and item.get("service") in given)]
        data = {**data, "routing": [*kept, *records]}
    about = data.get("experiment")
    if creator is not None and (about is None or isinstance(about, dict)):
        data = {**data, "experiment": {**(about or {}), "creator": creator}}
    return data


def _broker_offset_ns() -> int:
    """Returns the broker's clock minus this computer's monotonic one; without Redis, as if its clock were this
    computer's. It is used only for display."""
    try:
        return broker.broker_now_ns() - time.monotonic_ns()
    except redis.exceptions.RedisError:
        return time.time_ns() - time.monotonic_ns()
