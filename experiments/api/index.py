"""The resources that describe the API: routes, OpenAPI document, documentation page, and unknown paths."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerView
from rest_framework import serializers
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.base import View
from experiments.api.parsing import parse_query
from experiments.api.serializers import PlainSerializer
from routing.errors import NotFound

METHODS = ("get", "post", "put", "patch", "delete")


@cache
def document() -> dict[str, Any]:
    """Returns the OpenAPI document. It is the same for all users, and made once, as it takes several hundred ms."""
    return dict(SchemaGenerator().get_schema(request=None, public=True))


class RouteSerializer(PlainSerializer):
    path = serializers.CharField()
    methods = serializers.ListField(child=serializers.CharField())
    does = serializers.DictField(child=serializers.CharField(), help_text="a summary of each method")


class RoutesSerializer(PlainSerializer):
    routes = RouteSerializer(many=True)


class SchemaQuerySerializer(PlainSerializer):
    format = serializers.ChoiceField(["json", "yaml"], required=False, help_text="overrides the Accept header")


class IndexView(View):
    permission_classes = [IsAuthenticated]

    @extend_schema(responses=RoutesSerializer)
    def get(self, request: Request) -> Response:
        """Lists the routes."""
        routes = []
        for path, operations in document()["paths"].items():
            found = {method.upper(): operations[method]["summary"] for method in METHODS if method in operations}
            routes.append({"path": path, "methods": list(found), "does": found})
        return Response({"routes": routes})


class SchemaView(View):
    permission_classes = [IsAuthenticated]
    renderer_classes = [OpenApiJsonRenderer2, OpenApiYamlRenderer]

    @extend_schema(parameters=[SchemaQuerySerializer], responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Returns the OpenAPI document, as JSON or YAML."""
        parse_query(request, SchemaQuerySerializer)
        return Response(document())


class DocsView(View, SpectacularSwaggerView):
    permission_classes = [IsAuthenticated]
    url_name = "api-schema"

    @extend_schema(responses={(200, "text/html"): str})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Shows the schema as an interactive page."""
        answer: Response = SpectacularSwaggerView.get(self, request)
        return answer


class UnknownView(View):
    """Every other path under /api: 404 for each method."""

    permission_classes = [AllowAny]
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound(f"The resource {request.path} does not exist; GET /api lists the routes.")
