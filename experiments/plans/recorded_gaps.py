"""Recorded gaps that an interactive group's clients are to go through: a list, a file, or a Redis list of each client.

("prerecorded", [0.1, 0.2])     each client goes through these
("prerecorded", "monday.csv")   each client goes through those of a file, where files may be read
("prerecorded",)                each client goes through the Redis list whose key is its id
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import redis

from experiments.plans.fields import Section
from experiments.plans.recordings import (
    FILE,
    GAPS,
    MAX_RECORDED,
    Reader,
    Recording,
    gaps_of_lists,
    read_file,
    read_recording,
)
from loadgen.arrivals.pacer import PRERECORDED

# The gaps of each client by its index as a text; raises ValueError with a sentence.
OwnReader = Callable[[], dict[str, list[float]]]


@dataclass(frozen=True)
class Readers:
    """What a command may name besides the gaps themselves; None where it may not."""

    file: Reader | None = None
    own_lists: OwnReader | None = None


@dataclass(frozen=True)
class RecordedGaps:
    """The same gaps for all clients, or gaps of each by its index as a text."""

    of_all: list[float] = field(default_factory=list)
    of_each: dict[str, list[float]] = field(default_factory=dict)


def files_of(folder: Path) -> Reader:
    """Reads files by names relative to a folder."""
    return partial(read_file, folder)


def lists_of(client: redis.Redis, group_id: str, indexes: list[int]) -> OwnReader:
    """Reads the lists of a group's clients, whose keys are their ids; redis.RedisError when Redis is away."""

    def read() -> dict[str, list[float]]:
        if not indexes:
            raise ValueError(f"client group {group_id} has no clients yet that could have lists")
        found = gaps_of_lists(client, [f"{group_id}.{index}" for index in indexes])
        return dict(zip(map(str, indexes), found, strict=True))

    return read


def is_recorded(gaps: object) -> bool:
    """Whether a command's gaps are recorded ones, rightly written or not."""
    name = gaps[0] if isinstance(gaps, list | tuple) and gaps else gaps
    return isinstance(name, str) and name == PRERECORDED


def read_recorded_gaps(section: Section, key: str, value: Any, readers: Readers) -> RecordedGaps:
    """What is behind `prerecorded`; empty, and noted at the key, where that is wrong or cannot be read."""
    behind = [] if isinstance(value, str) else value[1:]
    try:
        if not behind and readers.own_lists is not None:
            return RecordedGaps(of_each=readers.own_lists())
        if len(behind) == 1 and isinstance(behind[0], list | tuple):
            return RecordedGaps(of_all=_gaps(section, key, {GAPS: list(behind[0])}))
        if len(behind) == 1 and isinstance(behind[0], str | PathLike):
            if readers.file is None:
                section.wrong(key, f"a {FILE} cannot be read here; give the recorded {GAPS} themselves")
                return RecordedGaps()
            return RecordedGaps(of_all=_gaps(section, key, readers.file(behind[0])))
    except ValueError as error:
        section.wrong(key, str(error))
        return RecordedGaps()
    section.wrong(
        key,
        f"{PRERECORDED} takes a list of 1 to {MAX_RECORDED:,} {GAPS} in seconds, the name of a file in the shell, or "
        "nothing for the Redis list of each client",
    )
    return RecordedGaps()


def _gaps(section: Section, key: str, recording: Recording) -> list[float]:
    times_s = read_recording(Section(recording, section.at(key), section.problems))
    return [round(later - earlier, 9) for earlier, later in pairwise([0.0, *times_s])]
