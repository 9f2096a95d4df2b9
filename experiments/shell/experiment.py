"""The shell's `exp`: an interactive experiment."""

from __future__ import annotations

import getpass
import logging
import threading
from typing import Any

from django.db import close_old_connections

from experiments.models import Experiment as Row
from experiments.plans.commands import parse_about, parse_mark
from experiments.services import events, interactive
from experiments.shell.errors import NoExperiment

log = logging.getLogger(__name__)


class Experiment:
    """Records the interactive client groups: their traces, events and telemetry between start and stop.

    exp.start(name, creator, metadata)   starts recording; groups that are spawned later are recorded, too
    exp.event(name, value)               adds a mark to the timeline
    exp.stop()                           ends recording; the groups continue

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
            OtherExperimentRuns: another experiment is active.
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

    def stop(self) -> None:
        """Ends the experiment; its summary is made a moment later. Raises NoExperiment, NotRunning."""
        experiment_id = self._running()
        self._end()
        interactive.stop(experiment_id)

    def _end(self) -> None:
        if self._renewing is not None:
            self._renewing.stop()
        self._renewing = self.id = None

    def _running(self) -> str:
        if self.id is None:
            raise NoExperiment("no experiment was started in this shell; call exp.start()")
        return self.id

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
