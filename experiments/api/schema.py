"""How views become an OpenAPI document: docstrings are its texts, and each operation has the errors common to all."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.conf import settings
from drf_spectacular.drainage import warn
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction, OpenApiParameter, OpenApiResponse
from rest_framework import serializers
from rest_framework.permissions import AllowAny

from experiments.api.permissions import ModelPermissions
from experiments.api.serializers import PlainSerializer

PROBLEM_JSON = "application/problem+json"
WITH_BODY = ("POST", "PUT", "PATCH")
WHY = {
    400: "What was asked for is refused; `errors` names each fault.",
    401: "Nobody said who asks, or not rightly so.",
    403: "Who asks has no permission for this.",
    404: "There is no such thing.",
    406: "None of the types that the client accepts can be had.",
    413: "The body is too large.",
    415: "The body's type is not understood.",
    429: "Too much was asked for in a short time.",
    500: "A fault of Galileo.",
    503: "Something that this takes is not there now: a worker, a free slot, the broker, the database.",
}


class FaultSerializer(PlainSerializer):
    field = serializers.CharField(help_text="where it is, like `configuration.workloads[0].ticks`")
    message = serializers.CharField(help_text="what is wrong, and what is needed")


class ProblemSerializer(PlainSerializer):
    """An error, as RFC 9457 has it."""

    type = serializers.CharField(help_text="`about:blank`: `status` says what kind of problem it is")
    title = serializers.CharField(help_text="the status in words")
    status = serializers.IntegerField(min_value=400, max_value=599)
    detail = serializers.CharField(help_text="a sentence for people")
    errors = FaultSerializer(  # type: ignore[assignment]
        many=True, help_text="each fault of what was sent, if there are any"
    )


def problem(code: int, why: str) -> dict[Any, OpenApiResponse]:
    """An error that not every operation has, for the `responses` of `extend_schema`."""
    return {(code, PROBLEM_JSON): OpenApiResponse(ProblemSerializer, description=why)}


def location_of(thing: str) -> OpenApiParameter:
    """The header that says where what was made is, for the `parameters` of `extend_schema`."""
    return OpenApiParameter("Location", str, "header", required=True, response=[201], description=f"where {thing} is")


def without_slashes(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """The paths as they are documented: a slash at the end is taken, too, and makes no difference."""
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]


class OpenAccessScheme(OpenApiAuthenticationExtension):
    """Says that nobody needs a token, where that is so."""

    target_class = "experiments.api.open_access.OpenAccess"
    name: list[str] = []

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{}] if settings.GALILEO_API_IS_OPEN else []

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return []


class Schema(AutoSchema):
    """The first sentence of a method's docstring is its operation's summary, all of it the description."""

    def get_summary(self) -> str:
        sentence = self.get_description().partition("\n\n")[0].replace("\n", " ").partition(". ")[0]
        if not sentence:
            warn(f"{self.method} {self.path} has no docstring")
        return sentence.rstrip(".")

    def _map_basic_serializer(self, serializer: Any, direction: Direction) -> dict[str, Any]:
        described: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if direction == "request":
            described["additionalProperties"] = False  # pages.checked names each field that there is not
        return described

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        bodies = dict(super()._get_response_bodies(direction))
        common = {
            code: self._get_response_for_code(  # type: ignore[no-untyped-call]
                OpenApiResponse(ProblemSerializer, WHY[code]), str(code), [PROBLEM_JSON]
            )
            for code in self._common_errors()
        }
        for code, body in common.items():
            if code == HTTPStatus.TOO_MANY_REQUESTS:
                body["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
            bodies.setdefault(str(code), body)
        return dict(sorted(bodies.items()))

    def _common_errors(self) -> list[int]:
        """What may go wrong with the operation, whatever it does."""
        permissions: Any = self.view.permission_classes
        found = {
            400: self.method in WITH_BODY or any(each["in"] == "query" for each in self._get_parameters()),
            401: AllowAny not in permissions,
            403: self.method != "GET" or any(issubclass(each, ModelPermissions) for each in permissions),
            404: "{" in self.path,
            406: True,
            413: self.method in WITH_BODY,
            415: self.method in WITH_BODY and "*/*" not in self.map_parsers(),
            429: AllowAny not in permissions,
            500: True,
            503: True,
        }
        return [code for code, may_be in found.items() if may_be]
