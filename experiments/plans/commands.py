"""Commands to interactive groups and experiments, from plain data: load, clients, marks, tracing.

The gaps of a command may be recorded:

("prerecorded", [0.1, 0.2])     each client goes through these gaps
("prerecorded", "monday.csv")   each client goes through those of a CSV or JSON file, where files may be read
("prerecorded",)                each client goes through the Redis list whose key is its id
("prerecorded", "any word")     the same, as in the original Galileo, which ignores the word
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import redis
from pydantic import ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from experiments.plans.arrivals import Pair, read_seconds
from experiments.plans.fields import Reason, Text, checked, number_reason, text_reason
from experiments.plans.parsing import Context, PlanErrors, Section, read, refused
from experiments.plans.plan import MAX_EVENT_VALUE, About
from experiments.plans.recordings import (
    FILE,
    GAPS,
    MAX_RECORDED,
    Reader,
    RecordedArrivals,
    Recording,
    gaps_of_lists,
    read_file,
)
from experiments.plans.workload import MAX_CLIENTS, MAX_RATE_RPS, MAX_REQUESTS_PER_CLIENT
from loadgen.arrivals import distributions
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.enums import CommandKind
from routing.errors import Code, shown

_DRAWS = 1000
_FILE_ENDINGS = (".csv", ".json")

# The gaps of each client by its index as a text; raises ValueError with a message.
OwnReader = Callable[[], dict[str, list[float]]]


@dataclass(frozen=True)
class Readers:
    """How recorded gaps are read that a command only names; None where it may not name them."""

    file: Reader | None = None
    own_lists: OwnReader | None = None


NO_READERS = Readers()


@dataclass
class _CommandContext(Context):
    readers: Readers = NO_READERS


@dataclass(frozen=True)
class Gaps:
    """The gaps of a command: a distribution of seconds, or recorded gaps of all clients or of each by its index."""

    distribution: str
    parameters: list[float] = field(default_factory=list)
    recorded: dict[str, list[float]] = field(default_factory=dict)

    def take_time(self) -> bool:
        """Whether some gaps are above 0, or the gaps have an end."""
        if self.distribution == PRERECORDED:
            return True
        draw = distributions.sampler(self.distribution, self.parameters, random.Random(0))
        return any(draw() > 0 for _ in range(_DRAWS))


def files_of(folder: Path) -> Reader:
    """A reader of files by names relative to a folder."""
    return partial(read_file, folder)


def lists_of(client: redis.Redis, group_id: str, indexes: list[int]) -> OwnReader:
    """A reader of the lists of a group's clients, whose keys are their ids; raises RedisError without Redis."""

    def read_own() -> dict[str, list[float]]:
        if not indexes:
            raise ValueError(f"client group {group_id} has no clients yet that could have lists")
        found = gaps_of_lists(client, [f"{group_id}.{index}" for index in indexes])
        return dict(zip(map(str, indexes), found, strict=True))

    return read_own


def _read_gaps(value: Any, info: ValidationInfo) -> Gaps:
    name = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(name, str) or name != PRERECORDED:
        pair: Pair = read_seconds(value)
        return Gaps(*pair)
    readers = info.context.readers if isinstance(info.context, _CommandContext) else NO_READERS
    behind = [] if isinstance(value, str) else value[1:]
    try:
        if len(behind) == 1 and isinstance(behind[0], list | tuple):
            return _recorded({GAPS: list(behind[0])}, info)
        if len(behind) == 1 and _names_file(behind[0]):
            if readers.file is None:
                raise refused(Code.CONFLICT, f"a {FILE} cannot be read here; give the recorded {GAPS} themselves")
            return _recorded(readers.file(behind[0]), info)
        if _names_own_list(behind) and readers.own_lists is not None:
            return Gaps(PRERECORDED, recorded=_read_own_lists(readers.own_lists, behind))
    except (PydanticCustomError, ValidationError):
        raise
    except ValueError as error:  # a reader's
        raise refused(Code.UNREADABLE, str(error)) from error
    raise refused(
        Code.FORMAT,
        f"{PRERECORDED} must be followed by a list of 1 to {MAX_RECORDED:,} {GAPS} in seconds, the name of a file "
        "(in the shell), or any word or nothing, for the Redis list of each client",
    )


def _names_file(value: object) -> bool:
    """Whether the value is a path; any other string is a word, which the original ignores."""
    if isinstance(value, str):
        return "/" in value or value.lower().endswith(_FILE_ENDINGS)
    return isinstance(value, PathLike)


def _names_own_list(behind: Sequence[object]) -> bool:
    return not behind or (len(behind) == 1 and isinstance(behind[0], str))


def _read_own_lists(read_own: OwnReader, behind: Sequence[object]) -> dict[str, list[float]]:
    """Reads the clients' lists. An error names the word, too, which may have been meant as the name of a file."""
    try:
        return read_own()
    except ValueError as error:
        if not behind:
            raise
        endings = " or ".join(_FILE_ENDINGS)
        hint = f"the word {shown(behind[0])} is ignored; the name of a file must have a / or end in {endings}"
        raise ValueError(f"{error} ({hint})") from error


def _recorded(recording: Recording, info: ValidationInfo) -> Gaps:
    times_s = RecordedArrivals.model_validate(recording, context=info.context).times_s
    return Gaps(PRERECORDED, [round(later - earlier, 9) for earlier, later in pairwise([0.0, *times_s])])


_Rate = Annotated[
    float, checked(lambda value: number_reason(value, 0, MAX_RATE_RPS), Annotated[float, Field(ge=0, le=MAX_RATE_RPS)])
]


class Command(Section):
    """Either `rps`, or one or both of `n` and `ia`."""

    model_config = ConfigDict(arbitrary_types_allowed=True, json_schema_extra={"example": {"rps": 2.5}})
    keeps_null: ClassVar[frozenset[str]] = frozenset({"rps"})

    rps: _Rate | None = Field(None, description="The requests per second of each client; 0 is a pause.")
    n: Annotated[int, Field(ge=1, le=MAX_REQUESTS_PER_CLIENT)] | None = Field(
        None, description="The number of requests of each client. Default: no end."
    )
    ia: Annotated[Gaps, PlainValidator(_read_gaps), WithJsonSchema({})] | None = Field(
        None,
        description='The gap before each request: seconds, a distribution such as `["expovariate", 5]`, or recorded '
        'gaps: `["prerecorded", [0.1, 0.2]]`, or `["prerecorded", "any word"]` for a Redis list whose key is the '
        "client's id. Default: back to back.",
    )

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        if "rps" in given:
            if given["rps"] is None:
                errors.add(("rps",), *(number_reason(None, 0, MAX_RATE_RPS) or (Code.TYPE, "")))
            for key in ("n", "ia"):
                if key in given:
                    errors.add((key,), Code.CONFLICT, "has no effect beside rps; remove one of them")
        elif "n" not in given and "ia" not in given:
            message = "must have one of n (the number of requests of each client) and ia (the gap before each)"
            errors.add(("n",), Code.REQUIRED, message)
        elif self.n is None and self.ia and not len(errors) and not self.ia.take_time():
            message = "gaps that are never above 0 need n, the number of requests of each client"
            errors.add(("ia",), Code.CONFLICT, message)
        return self

    def command_fields(self) -> dict[str, Any]:
        """The fields of messages.GroupCommand, without its number and its start."""
        if self.rps is not None:
            return {"kind": CommandKind.RATE, "rate_rps": float(self.rps)}
        if self.ia is None:
            return {"kind": CommandKind.BACK_TO_BACK, "requests": self.n}
        return {"kind": CommandKind.GAPS, "requests": self.n} | {
            name: value
            for name, value in vars(self.ia).items()
            if name != "recorded" or self.ia.distribution == PRERECORDED
        }


class ClientsChange(Section):
    """One of `add` and `close`: a number of clients."""

    model_config = ConfigDict(json_schema_extra={"example": {"add": 3}})

    add: Annotated[int, Field(ge=1, le=MAX_CLIENTS)] | None = Field(None, description="The clients to add.")
    close: Annotated[int, Field(ge=1, le=MAX_CLIENTS)] | None = Field(None, description="The clients to close.")

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        if len(given) != 1 and not len(errors):
            errors.add(("add",), Code.REQUIRED, "must have one of add and close, a number of clients")
        return self


def _mark_value_reason(value: object) -> Reason | None:
    return None if value == "" else text_reason(value, MAX_EVENT_VALUE)


class Mark(Section):
    """A mark for an experiment's timeline."""

    name: Text = Field(description="The name.")
    value: Annotated[str, checked(_mark_value_reason, Annotated[str, Field(max_length=MAX_EVENT_VALUE)])] = Field(
        "", description="A text of your own."
    )


class Tracing(Section):
    """Whether traces are stored from now on."""

    tracing: bool = Field(description="`false`: only statistics are stored.")


def parse_command(data: object, readers: Readers = NO_READERS) -> dict[str, Any]:
    """The fields of messages.GroupCommand that a command like `{"rps": 2.5}` or `{"n": 10, "ia": 0.5}` stands for.

    Args:
        readers: of recorded gaps that are only named.

    Raises:
        PlanInvalid: with every error, each with its key; also in the functions below.
    """
    return read(Command, data, _CommandContext(readers=readers)).command_fields()


def parse_clients(data: object) -> tuple[int, int]:
    """The numbers of clients to add and to close, from `{"add": 3}` or `{"close": 2}`; 0 where not given."""
    change = read(ClientsChange, data)
    return change.add or 0, change.close or 0


def parse_mark(data: object) -> tuple[str, str]:
    """The name and the value ("" if not given) of a mark."""
    mark = read(Mark, data)
    return mark.name, mark.value


def parse_tracing(data: object) -> bool:
    """Whether traces are to be stored, from `{"tracing": false}`."""
    return read(Tracing, data).tracing


def parse_about(data: object) -> About:
    """The name, the creator and the metadata of an interactive experiment."""
    return read(About, data)
