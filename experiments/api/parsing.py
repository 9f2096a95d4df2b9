"""Parsing of JSON bodies and query parameters: invalid input is an InvalidInput with every error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any, NoReturn

from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from experiments.plans.parsing import MAX_BYTES
from routing.errors import Code, FieldError, InvalidInput

# The path of errors that concern the whole body; DRF uses it, too (NON_FIELD_ERRORS_KEY).
BODY = "body"
# DRF's codes; all others are FORMAT.
_RANGE = ("min_length", "max_length", "min_value", "max_value", "max_string_length", "overflow")
_CODES = {
    **dict.fromkeys(("required", "null", "blank"), Code.REQUIRED),
    **dict.fromkeys(_RANGE, Code.RANGE),
    **dict.fromkeys(("not_a_list", "not_a_dict", "type"), Code.TYPE),
    "invalid_choice": Code.CHOICE,
}


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "too_large"


class BoundedParser(BaseParser):
    """Reads a body of at most `most` bytes. Raises BodyTooLarge."""

    thing = "body"
    most = MAX_BYTES

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(self.most + 1)
        if len(body) > self.most:
            raise BodyTooLarge(f"The {self.thing} is larger than {self.most:,} bytes.")
        return self.decoded(body)

    def decoded(self, body: bytes) -> Any:
        return body


class StrictJSONParser(BoundedParser):
    """Parses JSON, and refuses repeated keys, NaN, and nesting that exhausts the stack. Raises InvalidInput."""

    media_type = "application/json"

    def decoded(self, body: bytes) -> Any:
        try:
            return json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise _unreadable("is nested too deeply") from error
        except InvalidInput:
            raise
        except ValueError as error:  # not JSON, not UTF-8, or a number of thousands of digits
            raise _unreadable(f"is not valid JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInput.of(BODY, Code.DUPLICATE, f"contains the key {key[:80]!r} twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _unreadable(f"is not valid JSON: {name} is not a number")


def _unreadable(message: str) -> InvalidInput:
    return InvalidInput.of(BODY, Code.UNREADABLE, message)


def parse_query(request: Request, kind: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Returns the query parameters as the serializer defines them. Raises InvalidInput."""
    fields, data, errors = kind().fields, {}, []
    for name, values in request.query_params.lists():
        many = isinstance(fields.get(name), serializers.ListField)
        data[name] = values if many else values[-1]
        if len(values) > 1 and not many:
            errors.append(FieldError(name, Code.DUPLICATE, "must be given once"))
    if errors:
        raise InvalidInput(errors)
    return parse_body(data, kind)


def parse_body(data: object, kind: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Returns the body as the serializer defines it. Raises InvalidInput with every invalid and every unknown field."""
    serializer = kind(data=data)
    serializer.is_valid()
    errors = list(_field_errors(serializer.errors))
    if isinstance(data, Mapping):
        known = ", ".join(serializer.fields)
        unknown = sorted(set(data) - set(serializer.fields))
        errors += [FieldError(str(name), Code.UNKNOWN, f"is unknown; known are {known}") for name in unknown]
    if errors:
        raise InvalidInput(errors)
    return dict(serializer.validated_data)


def _field_errors(detail: Any, path: str = "") -> Iterator[FieldError]:
    """Yields the errors of DRF's validation, whose lists and mappings may be nested."""
    if isinstance(detail, dict):
        for name, nested in detail.items():
            inner = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}" if path else str(name)
            yield from _field_errors(nested, inner)
    elif isinstance(detail, list):
        for index, nested in enumerate(detail):
            yield from _field_errors(nested, f"{path}[{index}]" if isinstance(nested, dict | list) else path)
    else:
        yield FieldError(path, _CODES.get(detail.code, Code.FORMAT), str(detail))
