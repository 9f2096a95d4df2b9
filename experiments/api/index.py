"""The resources that describe the API: routes, OpenAPI document, documentation page, and unknown paths."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
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


@cache
def document() -> dict[str, Any]:
    """Returns the OpenAPI document. It is the same for all users, and made once, as it takes several hundred ms."""
    return dict(SchemaGenerator().get_schema(request=None, public=True))


@cache
def routes() -> list[dict[str, str]]:
    """Returns the path and the type of each resource, by path, as the original Galileo lists them."""
    views = {path: callback.cls for path, _, _, callback in EndpointEnumerator().get_api_endpoints()}
    return [{"uri": path, "type": _type_of(views[path])} for path in sorted(views)]


def _type_of(view: type[View]) -> str:
    return view.resource_type or f"{view.__name__.removesuffix('View')}Resource"


class RouteSerializer(PlainSerializer):
    uri = serializers.CharField(help_text="path with its parameters in braces")
    type = serializers.CharField(help_text="name of the resource")


class SchemaQuerySerializer(PlainSerializer):
    format = serializers.ChoiceField(["json", "yaml"], required=False, help_text="overrides the Accept header")


class IndexView(View):
    permission_classes = [IsAuthenticated]
    resource_type = "ApiResource"

    @extend_schema(responses=RouteSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the routes."""
        return Response(routes())


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
