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

from experiments.api.access import ModelPermissions
from experiments.api.serializers import PlainSerializer
from routing.errors import Code

PROBLEM_JSON = "application/problem+json"
WITH_BODY = ("POST", "PUT", "PATCH")
DESCRIPTIONS = {
    400: "The request is invalid; `errors` gives every reason.",
    401: "Authentication credentials are missing or invalid.",
    403: "The user does not have the permission.",
    404: "The resource does not exist.",
    406: "None of the accepted media types is available.",
    413: "The body is too large.",
    415: "The media type of the body is not supported.",
    429: "Too many requests; retry after `Retry-After` seconds.",
    500: "Internal error; the log of the web server gives the reason.",
    503: "A worker, a free slot, the broker or the database is unavailable; the request may succeed later.",
}


class FieldErrorSerializer(PlainSerializer):
    field = serializers.CharField(help_text="path of the value, such as `configuration.workloads[0].ticks`")
    code = serializers.ChoiceField(list(Code), help_text="the kind of error, for programs")
    message = serializers.CharField(help_text="the reason, for people")


class ProblemSerializer(PlainSerializer):
    """A problem document (RFC 9457)."""

    type = serializers.CharField(help_text="`about:blank`: `status` is the kind of problem")
    title = serializers.CharField(help_text="name of the status")
    status = serializers.IntegerField(min_value=400, max_value=599)
    detail = serializers.CharField(help_text="the reason, for people")
    errors = FieldErrorSerializer(  # type: ignore[assignment]
        many=True, help_text="every invalid value of the request"
    )


def problem(status: int, description: str) -> dict[Any, OpenApiResponse]:
    """Returns an error that not every operation has, for the `responses` of `extend_schema`."""
    return {(status, PROBLEM_JSON): OpenApiResponse(ProblemSerializer, description=description)}


def location_of(thing: str) -> OpenApiParameter:
    """Returns the Location header of a created resource, for the `parameters` of `extend_schema`."""
    return OpenApiParameter(
        "Location", str, "header", required=True, response=[201], description=f"relative URL of {thing}"
    )


def without_slashes(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Returns the endpoints with their paths as documented: a trailing slash makes no difference."""
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]


class OpenAccessScheme(OpenApiAuthenticationExtension):
    """Documents that no credentials are needed with galileo_api_auth=none."""

    target_class = "experiments.api.access.OpenAccess"
    name: list[str] = []

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{}] if settings.GALILEO_API_IS_OPEN else []

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return []


class Schema(AutoSchema):
    """The docstring of a method is the description of its operation, its first sentence the summary."""

    def get_summary(self) -> str:
        sentence = self.get_description().partition("\n\n")[0].replace("\n", " ").partition(". ")[0]
        if not sentence:
            warn(f"{self.method} {self.path} has no docstring")
        return sentence.rstrip(".")

    def _map_basic_serializer(self, serializer: Any, direction: Direction) -> dict[str, Any]:
        described: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if direction == "request":
            described["additionalProperties"] = False  # parse_body refuses unknown fields
        return described

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        bodies = dict(super()._get_response_bodies(direction))
        common = {
            code: self._get_response_for_code(  # type: ignore[no-untyped-call]
                OpenApiResponse(ProblemSerializer, DESCRIPTIONS[code]), str(code), [PROBLEM_JSON]
            )
            for code in self._common_errors()
        }
        for code, body in common.items():
            if code == HTTPStatus.TOO_MANY_REQUESTS:
                body["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "in seconds"}}
            bodies.setdefault(str(code), body)
        return dict(sorted(bodies.items()))

    def _common_errors(self) -> list[int]:
        """Returns the statuses of errors that the operation may have by its method, path and permissions."""
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
