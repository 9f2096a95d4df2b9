"""What describes the API itself: its routes, its schema, the page of its documentation, and the answer for all else."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerView
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.base import View
from experiments.api.pages import asked
from experiments.api.serializers import PlainSerializer

METHODS = ("get", "post", "put", "patch", "delete")


@cache
def schema() -> dict[str, Any]:
    """The OpenAPI document, the same for everybody; made once, as it takes a good part of a second."""
    return dict(SchemaGenerator().get_schema(request=None, public=True))


class RouteSerializer(PlainSerializer):
    path = serializers.CharField()
    methods = serializers.ListField(child=serializers.CharField())
    does = serializers.DictField(child=serializers.CharField(), help_text="what each method does")


class RoutesSerializer(PlainSerializer):
    routes = RouteSerializer(many=True)


class SchemaQuerySerializer(PlainSerializer):
    format = serializers.ChoiceField(["json", "yaml"], required=False, help_text="in place of an Accept header")


class IndexView(View):
    permission_classes = [IsAuthenticated]

    @extend_schema(responses=RoutesSerializer)
    def get(self, request: Request) -> Response:
        """Lists the routes."""
        routes = []
        for path, operations in schema()["paths"].items():
            found = {method.upper(): operations[method]["summary"] for method in METHODS if method in operations}
            routes.append({"path": path, "methods": list(found), "does": found})
        return Response({"routes": routes})


class SchemaView(View):
    permission_classes = [IsAuthenticated]
    renderer_classes = [OpenApiJsonRenderer2, OpenApiYamlRenderer]

    @extend_schema(parameters=[SchemaQuerySerializer], responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Describes the API: the OpenAPI document, as JSON or YAML."""
        asked(request, SchemaQuerySerializer)
        return Response(schema())


class DocsView(View, SpectacularSwaggerView):
    permission_classes = [IsAuthenticated]
    url_name = "api-schema"

    @extend_schema(responses={(200, "text/html"): str})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Shows the schema as a page for people."""
        answer: Response = SpectacularSwaggerView.get(self, request)
        return answer


class UnknownView(View):
    """Every other path under /api: 404, whatever the method."""

    permission_classes = [AllowAny]
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound(f"There is no {request.path}; GET /api lists the routes.")
