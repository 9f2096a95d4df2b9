"""JSON bodies as their sender meant them: bounded, without repeated keys, NaN, or nesting that exhausts the stack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from experiments.plans.document import MAX_BYTES


class BodyTooLarge(APIException):
    status_code = 413
    default_detail = f"The body is larger than {MAX_BYTES} bytes."
    default_code = "too_large"


class StrictJSONParser(BaseParser):
    """Raises ParseError and BodyTooLarge."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise BodyTooLarge
        try:
            return json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
        except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
            raise ParseError(f"The body is no JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ParseError(f"The key {key[:80]!r} is there twice.")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ParseError(f"{name} is no number of JSON.")
