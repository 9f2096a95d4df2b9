"""The shell's `exp`: an interactive experiment."""

from __future__ import annotations

import getpass
import logging
import threading
from typing import Any

from django.db import close_old_connections

from experiments import selectors
from experiments.models import Experiment as Row
from experiments.plans.commands import parse_about, parse_mark
from experiments.services import events, interactive
from experiments.shell.errors import NoExperiment

log = logging.getLogger(__name__)


class Experiment:
    """Records the interactive client groups: their traces, events and telemetry between start and stop.

    exp.start(name, creator, metadata)   starts recording; groups that are spawned later are recorded, too
    exp.event(name, value)               adds a mark to the timeline
    exp.stop()                           ends recording; the groups continue. exp.stop(id) ends that of another shell

    If this process dies, the experiment is ended 90 s later, with the reason. `exp.id` is its id.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self._renewing: _Renewing | None = None

    def start(self, name: str | None = None, creator: str | None = None, metadata: dict[str, Any] | None = None) -> str:
        """Starts an experiment; returns its id.

        Args:
            name: shown to people; default: experiment.
            creator: default: the user's name on this computer.
            metadata: any mapping that JSON can represent.

        Raises:
            OtherExperimentRuns: another experiment is active; the message tells how to end it.
        """
        about = parse_about({"name": name, "creator": creator, "metadata": metadata})
        row = interactive.start(about.name, about.creator or getpass.getuser(), about.metadata)
        self.id = row.id
        self._renewing = _Renewing(row.id)
        return row.id

    def event(self, name: str, value: str | None = None) -> None:
        """Adds a mark to the timeline of the running experiment. Raises NoExperiment, InvalidInput."""
        name, text = parse_mark({"name": name, "value": value})
        events.mark(self._running(), name, text)

    def stop(self, experiment_id: str | None = None) -> None:
        """Ends the experiment; its summary is made a moment later.

        Args:
            experiment_id: that of another shell, for example of one that has crashed; default: this shell's.

        Raises:
            NoExperiment: the message names the running experiment, if there is one.
            NotRunning
        """
        stopped = self._running() if experiment_id is None else experiment_id
        if stopped == self.id:
            self._end()
            interactive.stop(stopped)
            return
        try:
            interactive.stop(str(stopped), f"stopped by {getpass.getuser()} from another shell")
        except Row.DoesNotExist:
            raise NoExperiment(f"experiment {stopped} does not exist{self._other()}") from None

    def _end(self) -> None:
        if self._renewing is not None:
            self._renewing.stop()
        self._renewing = self.id = None

    def _running(self) -> str:
        if self.id is None:
            raise NoExperiment(f"no experiment was started in this shell{self._other() or '; call exp.start()'}")
        return self.id

    @staticmethod
    def _other() -> str:
        """The end of a message: the running interactive experiment and how it is ended; "" without one."""
        other = selectors.interactive_experiment()
        return "" if other is None else f", but experiment {other} is RUNNING: {interactive.how_to_end(other)}"

    def __repr__(self) -> str:
        if self.id is None:
            return "Experiment(none was started in this shell; call exp.start())"
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
