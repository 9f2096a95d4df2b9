"""The shell's `exp`: an interactive experiment."""

from __future__ import annotations

import getpass
import logging
import threading
from typing import Any

from django.db import close_old_connections

from experiments.models import Experiment as Row
from experiments.plans import parse_about
from experiments.plans.commands import parse_mark
from experiments.services import events, interactive
from experiments.shell.errors import NoExperiment, ShellError

log = logging.getLogger(__name__)


class Experiment:
    """Records what the interactive client groups do: all traces, events and telemetry between start and stop.

    exp.start(name, creator, metadata)   begins; groups that are spawned later are recorded, too
    exp.event(name, value)               puts a mark on the timeline
    exp.stop()                           ends; the groups go on

    When this process dies, the experiment is ended a while later, and says so. `exp.id` is its id.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self._renewing: _Renewing | None = None

    def start(self, name: str | None = None, creator: str | None = None, metadata: dict[str, Any] | None = None) -> str:
        """Starts an experiment; returns its id.

        Args:
            name: for people; default: experiment.
            creator: default: the name of this computer's user.
            metadata: anything that JSON can hold.

        Raises:
            ShellError: another experiment is under way.
        """
        about = parse_about({"name": name, "creator": creator, "metadata": metadata})
        try:
            row = interactive.start(about.name, about.creator or getpass.getuser(), about.metadata)
        except interactive.OtherExperimentRuns as error:
            raise ShellError(str(error)) from error
        self.id = row.id
        self._renewing = _Renewing(row.id)
        return row.id

    def event(self, name: str, value: str | None = None) -> None:
        """Puts a mark on the timeline of the running experiment. Raises NoExperiment, PlanInvalid."""
        name, text = parse_mark({"name": name, "value": value})
        events.mark(self._running(), name, text)

    def stop(self) -> None:
        """Ends the experiment; its summary comes a moment later. Raises NoExperiment."""
        experiment_id = self._running()
        self._end()
        try:
            interactive.stop(experiment_id)
        except interactive.NotRunning as error:
            raise ShellError(str(error)) from error

    def _end(self) -> None:
        if self._renewing is not None:
            self._renewing.stop()
        self._renewing = self.id = None

    def _running(self) -> str:
        if self.id is None:
            raise NoExperiment("no experiment was started here; exp.start() does")
        return self.id

    def __repr__(self) -> str:
        if self.id is None:
            return "Experiment(none was started here; exp.start() does)"
        row = Row.objects.get(id=self.id)
        return f"Experiment({row.id} {row.name}: {row.status})"


class _Renewing:
    """Renews an experiment, in a thread, while this process lives."""

    def __init__(self, experiment_id: str) -> None:
        self._experiment_id = experiment_id
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="galileo-experiment", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(interactive.RENEW_S):
            try:
                interactive.renew(self._experiment_id)
            except interactive.NotRunning:
                return
            except Exception:
                log.exception("experiment %s could not be renewed", self._experiment_id)
            finally:
                close_old_connections()
