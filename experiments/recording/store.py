"""Stores samples and events for the experiments that were active when they arrived, in one transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from experiments.models import Experiment, Recording, TelemetrySample
from experiments.recording.backlog import Taken, Tally
from experiments.services import events
from loadgen.protocol.topics import Mark, Sample

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Window:
    """The time in which an experiment was active: from leaving the queue to the end of its load (None: active)."""

    experiment_id: str
    starting: datetime
    end: datetime | None

    def overlaps(self, first: datetime, last: datetime) -> bool:
        return self.starting <= last and (self.end is None or first <= self.end)


def store(taken: Taken) -> None:
    """Stores each arrival for every experiment that was active then; others are discarded. Database errors propagate.

    Rows that exist already are kept: after an error during a commit, the same arrivals may be stored again.
    """
    times = taken.times
    windows = _windows(min(times), max(times) + _SECOND) if times else []
    if not windows:
        return
    samples: list[TelemetrySample] = []
    marks: list[tuple[str, Mark]] = []
    for arrival in taken.arrivals:
        for window in windows:
            if not window.overlaps(arrival.at, arrival.at):
                continue
            if isinstance(arrival.content, Sample):
                samples.append(TelemetrySample(experiment_id=window.experiment_id, **asdict(arrival.content)))
            else:
                marks.append((window.experiment_id, arrival.content))
    with transaction.atomic():
        TelemetrySample.objects.bulk_create(samples, ignore_conflicts=True)
        events.record_marks(marks)
        for window in windows:
            total = Tally()
            for second, tally in taken.tallies.items():
                if window.overlaps(second, second + _SECOND):
                    total.add(tally)
            _count(window.experiment_id, total)


def _windows(first: datetime, last: datetime) -> list[Window]:
    running = Experiment.objects.active_between(first, last)
    rows = running.values_list("id", "starting_at", "ended_at")
    windows = [Window(experiment_id, starting, end) for experiment_id, starting, end in rows if starting is not None]
    return [window for window in windows if window.overlaps(first, last)]


def _count(experiment_id: str, tally: Tally) -> None:
    if not tally.unparsable and not tally.dropped:
        return
    Recording.objects.get_or_create(experiment_id=experiment_id, defaults={"began_at": timezone.now()})
    recording = Recording.objects.filter(experiment_id=experiment_id)
    recording.update(unparsable=F("unparsable") + tally.unparsable, dropped=F("dropped") + tally.dropped)
    if tally.example:
        recording.filter(example="").update(example=tally.example.replace("\0", "\\0"))
