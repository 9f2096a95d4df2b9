"""The base of all resources: View, TableView, and the responses of lists (pages, plain arrays and CSV)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from experiments import selectors, throttling
from experiments.api.access import ModelPermissions
from experiments.api.serializers import WindowSerializer
from experiments.downloads import CSV
from experiments.models import Experiment
from routing.errors import NotFound

JSON = "application/json"
TOTAL = "X-Total-Count"

Method = TypeVar("Method", bound=Callable[..., Any])


class Negotiation(DefaultContentNegotiation):
    """Ignores an unknown `?format=`, which the check of the query parameters refuses with a better message."""

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> list[BaseRenderer]:
        return [renderer for renderer in renderers if renderer.format == format] or list(renderers)


class View(APIView):
    """A resource. Its `queryset` names the model for the permissions, and is never read."""

    permission_classes = [ModelPermissions]
    content_negotiation_class = Negotiation
    # Without OPTIONS: the schema describes the methods.
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    # Its type in `GET /api`, where that differs from the name of the class, as for resources of the original Galileo.
    resource_type = ""

    @property
    def user_name(self) -> str:
        """The author of a change."""
        return str(self.request.user.get_username())

    def perform_authentication(self, request: Request) -> None:
        """Counts failed authentication, too: the rate limit also slows down guessing of tokens."""
        try:
            super().perform_authentication(request)
        finally:
            throttling.check_request(request)


class CsvRenderer(JSONRenderer):
    """Adds CSV to the formats of content negotiation. The view streams the rows itself; errors are JSON."""

    media_type = CSV
    format = "csv"


class TableView(View):
    """A list that is also available as CSV, with `?format=csv` or `Accept: text/csv`."""

    renderer_classes = [JSONRenderer, CsvRenderer]

    @staticmethod
    def wants_csv(request: Request) -> bool:
        return isinstance(request.accepted_renderer, CsvRenderer)


def not_found(thing: str, name: str) -> NotFound:
    """Returns the error for a resource that does not exist."""
    return NotFound(f"The {thing} {name} does not exist.")


def experiment_status(experiment_id: str) -> Experiment:
    """Returns the experiment without its large columns. Raises NotFound."""
    return _found(selectors.experiment_status(experiment_id), experiment_id)


def experiment_of(experiment_id: str) -> Experiment:
    """Returns the whole experiment. Raises NotFound."""
    return _found(selectors.experiment(experiment_id), experiment_id)


def _found(experiment: Experiment | None, experiment_id: str) -> Experiment:
    if experiment is None:
        raise not_found("experiment", experiment_id)
    return experiment


def address(request: Request, **changed: Any) -> str:
    """Returns the request's URL with some query parameters changed, as a reference relative to it (RFC 3986).

    Behind a proxy, the server may not know the scheme, the host and the path that its client has used.
    """
    parameters = request.query_params.copy()
    for name, value in changed.items():
        parameters[name] = str(value)
    return f"?{parameters.urlencode()}"


def below(request: Request, name: str) -> str:
    """Returns the URL of a resource below the request's, as a reference relative to it, for the Location header."""
    last = request.path.rpartition("/")[2]  # empty for a path with a trailing slash
    return f"{last}/{quote(name, safe='')}".removeprefix("/")


def page(
    request: Request, items: QuerySet[Any], kind: type[serializers.BaseSerializer[Any]], limit: int, offset: int
) -> Response:
    """Returns a page of items with the URLs of the next and the previous page."""
    count = items.count()
    return Response(
        {
            "count": count,
            "next": address(request, limit=limit, offset=offset + limit) if offset + limit < count else None,
            "previous": address(request, limit=limit, offset=max(0, offset - limit)) if offset else None,
            "results": kind(items[offset : offset + limit], many=True).data,
        }
    )


def page_of(item: type[serializers.BaseSerializer[Any]], **fields: serializers.Field[Any, Any, Any, Any]) -> Any:
    """Returns the schema of a page of such items.

    Args:
        fields: further fields beside `next` and `results`.
    """
    links = {"next": serializers.CharField(allow_null=True, help_text="URL of the next page, relative to this one")}
    return inline_serializer(
        f"{item.__name__.removesuffix('Serializer')}Page", {**fields, **links, "results": item(many=True)}
    )


def counted_page_of(item: type[serializers.BaseSerializer[Any]]) -> Any:
    """Returns the schema of a page of such items that `page` makes."""
    return page_of(
        item,
        count=serializers.IntegerField(help_text="number of items on all pages"),
        previous=serializers.CharField(allow_null=True, help_text="URL of the previous page, relative to this one"),
    )


def array(
    request: Request,
    items: QuerySet[Any] | Sequence[Any],
    kind: type[serializers.BaseSerializer[Any]],
    query: Mapping[str, Any],
) -> Response:
    """Returns a part of a list as a plain array; headers give the total number, and the URLs of the parts beside it.

    Args:
        kind: the serializer of an item.
        query: `limit` and `offset` of a WindowSerializer.
    """
    limit, offset = query.get("limit"), query["offset"]
    found = items[offset:] if limit is None else items[offset : offset + limit]
    count = items.count() if isinstance(items, QuerySet) else len(items)
    links = []
    if limit is not None and offset + limit < count:
        links.append(f'<{address(request, offset=offset + limit)}>; rel="next"')
    if limit is not None and offset:
        links.append(f'<{address(request, offset=max(0, offset - limit))}>; rel="prev"')
    headers = {TOTAL: str(count), **({"Link": ", ".join(links)} if links else {})}
    return Response(kind(found, many=True).data, headers=headers)


def lists(kind: type[WindowSerializer], shown: Any) -> Callable[[Method], Method]:
    """Decorates a method that responds with `array`, for query parameters of this kind."""
    headers = [
        OpenApiParameter(
            TOTAL, int, OpenApiParameter.HEADER, response=[200], description="total number of items", required=True
        ),
        OpenApiParameter(
            "Link", str, OpenApiParameter.HEADER, response=[200], description="relative URLs of the parts beside it"
        ),
    ]
    return extend_schema(parameters=[kind, *headers], responses=shown)
