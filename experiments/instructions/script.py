"""parse: the text of a script → its commands, or all errors of all lines.

A line is one command: words separated by blanks, quoted as in a shell. Empty lines and text after a `#` are ignored:

    spawn HOST SERVICE [NUM] [CLIENT] [PARAMETERS]     PARAMETERS are a JSON mapping
    rps HOST SERVICE RATE [CLIENT]
    sleep SECONDS
    close HOST SERVICE [CLIENT]
    event NAME [VALUE]
    exit                                               later lines are ignored
"""

from __future__ import annotations

import difflib
import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from experiments.plans.fields import MAX_DURATION_S, MIN_DURATION_S, NS, json_errors, text_reason
from experiments.plans.plan import MAX_EVENT_VALUE
from experiments.plans.workload import MAX_CLIENTS, MAX_RATE_RPS
from loadgen.protocol.settings import NAME_PATTERN
from routing import table
from routing.errors import Code, ErrorCollector, shown

_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_MAX_HOST = 191


@dataclass(frozen=True)
class Spawn:
    """`clients` more clients of a service on each worker that `host` matches; `client` is None if not given."""

    line: int
    host: str
    service: str
    clients: int = 1
    client: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rate:
    """The rate of each client from now on."""

    line: int
    host: str
    service: str
    rate_rps: float
    client: str | None = None


@dataclass(frozen=True)
class Sleep:
    line: int
    duration_ns: int


@dataclass(frozen=True)
class Close:
    line: int
    host: str
    service: str
    client: str | None = None


@dataclass(frozen=True)
class Mark:
    """An event on the timeline."""

    line: int
    name: str
    value: str = ""


Command = Spawn | Rate | Sleep | Close | Mark


def parse(text: str) -> list[Command]:
    """The commands of a script.

    Raises:
        InvalidInput: with all errors; their paths are like `line 3`.
    """
    errors = ErrorCollector()
    commands = []
    for number, content in enumerate(text.splitlines(), start=1):
        line = _Line(number, errors)
        try:
            words = shlex.split(content, comments=True)
        except ValueError as error:
            line.wrong(Code.FORMAT, f"{str(error).lower()}: {shown(content.strip())}")
            continue
        if words == ["exit"]:
            break
        if words and (command := _command(line, words)):
            commands.append(command)
    errors.raise_if_any()
    return commands


class _Line:
    """Collects the errors of one line."""

    def __init__(self, number: int, errors: ErrorCollector) -> None:
        self.number = number
        self.errors = errors

    @property
    def path(self) -> str:
        return f"line {self.number}"

    def wrong(self, code: Code, message: str) -> None:
        self.errors.add(self.path, code, message)


def _command(line: _Line, words: list[str]) -> Command | None:
    """The command of a line; None if the line has errors."""
    word, *arguments = words
    if word not in _GRAMMAR:
        near = difflib.get_close_matches(word[:60], _GRAMMAR, n=1)
        hint = f"did you mean {near[0]}?" if near else f"must be one of {', '.join(_GRAMMAR)} and exit"
        line.wrong(Code.UNKNOWN, f"unknown command {shown(word)}; {hint}")
        return None
    usage, least, most, read = _GRAMMAR[word]
    if not least <= len(arguments) <= most:
        few = "few" if len(arguments) < least else "many"
        line.wrong(Code.FORMAT, f"too {few} words; must be {usage}")
        return None
    before = len(line.errors)
    command = read(line, arguments)
    return command if len(line.errors) == before else None


def _read_spawn(line: _Line, arguments: list[str]) -> Command:
    host, service, number, client, parameters = [*arguments, *("1", "", "{}")[len(arguments) - 2 :]]
    return Spawn(
        line.number, *_read_target(line, host, service), _read_clients(line, number), _read_client(line, client),
        _read_parameters(line, parameters),
    )  # fmt: skip


def _read_rate(line: _Line, arguments: list[str]) -> Command:
    host, service, rate, *client = arguments
    rate_rps = _read_number(line, "RATE", "requests per second of each client", rate)
    if rate_rps > MAX_RATE_RPS:
        line.wrong(Code.RANGE, f"RATE must be at most {MAX_RATE_RPS:,}, got {shown(rate)}")
    return Rate(line.number, *_read_target(line, host, service), rate_rps, _read_client(line, *client))


def _read_sleep(line: _Line, arguments: list[str]) -> Command:
    seconds = _read_number(line, "SECONDS", "a duration", arguments[0])
    if seconds and not MIN_DURATION_S <= seconds <= MAX_DURATION_S:
        line.wrong(
            Code.RANGE,
            f"SECONDS must be 0, or from {MIN_DURATION_S:g} to {MAX_DURATION_S:,}, got {shown(arguments[0])}",
        )
        return Sleep(line.number, 0)
    return Sleep(line.number, round(seconds * NS))


def _read_close(line: _Line, arguments: list[str]) -> Command:
    host, service, *client = arguments
    return Close(line.number, *_read_target(line, host, service), _read_client(line, *client))


def _read_mark(line: _Line, arguments: list[str]) -> Command:
    name, value = arguments[0], " ".join(arguments[1:])
    if reason := text_reason(name):
        line.wrong(reason[0], f"NAME {reason[1]}")
    if len(value) > MAX_EVENT_VALUE:
        line.wrong(Code.RANGE, f"VALUE must have at most {MAX_EVENT_VALUE} characters, got {len(value)}")
    return Mark(line.number, name, value)


def _read_target(line: _Line, host: str, service: str) -> tuple[str, str]:
    if reason := text_reason(host, _MAX_HOST):
        line.wrong(reason[0], f"HOST {reason[1]}")
    for error in table.find_service_errors(service):
        line.wrong(error.code, f"SERVICE {error.message}")
    return host, service


def _read_clients(line: _Line, text: str) -> int:
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= MAX_CLIENTS:
        line.wrong(Code.RANGE, f"NUM must be a whole number of clients from 1 to {MAX_CLIENTS:,}, got {shown(text)}")
        return 1
    return int(text)


def _read_client(line: _Line, text: str = "") -> str | None:
    if text and not NAME_PATTERN.fullmatch(text):
        line.wrong(
            Code.FORMAT, f"CLIENT must be the name of a client app (letters, digits, ., _ and -), got {shown(text)}"
        )
    return text or None


def _read_parameters(line: _Line, text: str) -> dict[str, Any]:
    try:
        parameters = json.loads(text)
    except (ValueError, RecursionError) as error:
        line.wrong(Code.FORMAT, f"PARAMETERS must be a mapping in JSON: {error}")
        return {}
    if not isinstance(parameters, dict):
        line.wrong(Code.TYPE, f"PARAMETERS must be a mapping in JSON, got {shown(parameters)}")
        return {}
    return parameters if json_errors(parameters, line.errors, (line.path,)) else {}


def _read_number(line: _Line, name: str, what: str, text: str) -> float:
    """A finite number that is not negative; 0 if the text is not one, which is an error."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if math.isfinite(value):
        return value
    line.wrong(Code.TYPE, f"{name} must be a number ({what}), got {shown(text)}")
    return 0.0


# Command → (usage, least and most words after it, function that reads them).
_GRAMMAR: dict[str, tuple[str, int, int, Callable[[_Line, list[str]], Command]]] = {
    "spawn": ("spawn HOST SERVICE NUM", 2, 5, _read_spawn),
    "rps": ("rps HOST SERVICE RATE", 3, 4, _read_rate),
    "sleep": ("sleep SECONDS", 1, 1, _read_sleep),
    "close": ("close HOST SERVICE", 2, 3, _read_close),
    "event": ("event NAME [VALUE]", 1, 1000, _read_mark),
}
