"""The errors that users see: invalid input, and valid requests that cannot be carried out.

They lie in the lowest package, because all the others raise them.

InvalidInput: a plan, an API body, a routing record, a client app, an instruction, a shell argument or a setting is
invalid; it holds every reason. `experiments.api.problems` makes a problem document of it, `InvalidInput.text` the
output of a command, `add_to_form` the errors of a form.

RequestRefused: a valid request cannot be carried out; its kinds are `NotFound`, `Conflict` and `Unavailable`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

# A file with a million invalid numbers gets its first errors only.
MAX_ERRORS = 100


class Code(StrEnum):
    """Why a value is refused, for programs: stable, while messages may be reworded."""

    REQUIRED = "required"  # the key is missing, or its value is empty
    UNKNOWN = "unknown"  # there is no such key
    TYPE = "type"  # the value has another type than it must have
    FORMAT = "format"  # a string, but not in the form that it must have
    RANGE = "range"  # a number, a length or a count outside its bounds
    CHOICE = "choice"  # not one of the accepted values
    DUPLICATE = "duplicate"  # given twice
    CONFLICT = "conflict"  # not allowed together with another value
    MISSING = "missing"  # names a thing that does not exist
    UNREADABLE = "unreadable"  # not a document of its format at all


Place = tuple[str | int, ...]  # the keys and indexes from a value to a part of it


def shown(value: object) -> str:
    """A short text of any value for an error message; works for values of any size."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "…")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"


def path_of(place: Place) -> str:
    """The place as users read it, like `configuration.workloads[0].ticks[2]`."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            name = step[:60] if step.strip() and step.isprintable() else shown(step)
            path += f".{name}" if path else name
    return path


@dataclass(frozen=True)
class FieldError:
    """One reason for a refusal.

    Attributes:
        path: where the value stands, like `configuration.workloads[0].ticks[2]` or `galileo_redis_port`; "" is the
            whole input.
        code: the kind of error.
        message: a sentence that names the offending value and the remedy.
    """

    path: str
    code: Code
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidInput(ValueError):
    """Input is refused, and nothing was stored. `errors` holds every reason."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(map(str, self.errors)))

    @classmethod
    def of(cls, path: str, code: Code, message: str) -> Self:
        """Returns the refusal for one reason."""
        return cls([FieldError(path, code, message)])

    @property
    def text(self) -> str:
        """The errors as a command prints them, one per line."""
        return "\n".join(map(str, self.errors))


class RequestRefused(Exception):
    """A valid request cannot be carried out; the message is a sentence for the user.

    Attributes:
        status: the status code of HTTP.
    """

    status: ClassVar[int]


class NotFound(RequestRefused):
    """The request names something that does not exist."""

    status = 404


class Conflict(RequestRefused):
    """The present state does not allow the request; the same request fails until that changes."""

    status = 409


class Unavailable(RequestRefused):
    """Something that the request needs is missing now, such as a worker; the same request may succeed later."""

    status = 503


class ErrorCollector:
    """Collects the errors of one input while it is read, up to MAX_ERRORS; the rest is only counted."""

    def __init__(self) -> None:
        self.found: list[tuple[str | Place, Code, str]] = []
        self._beyond = 0

    def __len__(self) -> int:
        return len(self.found) + self._beyond

    def add(self, place: str | Place, code: Code, message: str) -> None:
        if len(self.found) < MAX_ERRORS:
            self.found.append((place, code, message))
        else:
            self._beyond += 1

    def leave_out(self, number: int) -> None:
        """Counts errors that were left out where they were found."""
        self._beyond += number

    @property
    def errors(self) -> list[FieldError]:
        """The errors in the order of their addition; beyond MAX_ERRORS, one with the number of those left out."""
        errors = [
            FieldError(place if isinstance(place, str) else path_of(place), code, message)
            for place, code, message in self.found
        ]
        if self._beyond:
            errors.append(FieldError("", Code.RANGE, f"{self._beyond} more errors were left out"))
        return errors

    def raise_if_any(self, kind: type[InvalidInput] = InvalidInput) -> None:
        """Raises `kind` with all errors, if there are any."""
        if self.found:
            raise kind(self.errors)


def add_to_form(form: Any, errors: Iterable[FieldError]) -> None:
    """Adds each error to the field of a Django form that its path names, or to the form as a whole."""
    for error in errors:
        if error.path in form.fields:
            form.add_error(error.path, error.message)
        else:
            form.add_error(None, str(error))
