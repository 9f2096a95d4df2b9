"""What lists share: checked parameters, pages of JSON, plain arrays with links in headers, and CSV as a stream."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.base import View, unknown_experiment
from experiments.api.serializers import PlainSerializer

MAX_PAGE = 10_000
PAGE = 1000
ROWS_PER_CHUNK = 2000
JSON, CSV = "application/json", "text/csv"
TOTAL = "X-Total-Count"

_WHOLE = re.compile("-?[0-9]{1,20}")

Method = TypeVar("Method", bound=Callable[..., Any])


class CsvRenderer(JSONRenderer):
    """Makes CSV a format that may be asked for. The view streams the rows itself; errors are JSON all the same."""

    media_type = CSV
    format = "csv"


class FilterField(serializers.CharField):
    """What a column is to be, exactly: with its blanks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, trim_whitespace=False, **options)


class WholeField(serializers.IntegerField):
    """Takes digits alone; DRF's own field takes `+1.0` and `1_000`, too."""

    def to_internal_value(self, data: Any) -> int:
        if _WHOLE.fullmatch(str(data)) is None:
            self.fail("invalid")
        return super().to_internal_value(data)


class WindowSerializer(PlainSerializer):
    """Which part of a list whose answer is a plain array."""

    limit = WholeField(min_value=1, max_value=MAX_PAGE, required=False, help_text="how many; all, if it is not given")
    offset = WholeField(min_value=0, max_value=2**62, default=0, help_text="how many to leave out first")


class LimitSerializer(PlainSerializer):
    limit = WholeField(min_value=1, max_value=MAX_PAGE, default=PAGE, help_text="how many")


class PageSerializer(LimitSerializer):
    offset = WholeField(min_value=0, max_value=2**62, default=0, help_text="how many to leave out first")


class FormatSerializer(PlainSerializer):
    format = serializers.ChoiceField(["json", "csv"], required=False, help_text="in place of an Accept header")


class TableView(View):
    """A list that may be asked for as CSV, too: `?format=csv`, or `Accept: text/csv`."""

    renderer_classes = [JSONRenderer, CsvRenderer]

    @staticmethod
    def wants_csv(request: Request) -> bool:
        return isinstance(request.accepted_renderer, CsvRenderer)


def check_exists(experiment_id: str) -> None:
    """Raises NotFound where there is no such experiment."""
    if selectors.experiment_status(experiment_id) is None:
        raise unknown_experiment(experiment_id)


def asked(request: Request, kind: type[PlainSerializer]) -> dict[str, Any]:
    """The parameters of the address as the serializer has them. Raises ValidationError, which names each wrong one."""
    fields, data, twice = kind().fields, {}, {}
    for name, values in request.query_params.lists():
        many = isinstance(fields.get(name), serializers.ListField)
        data[name] = values if many else values[-1]
        if len(values) > 1 and not many:
            twice[name] = ["is given twice"]
    if twice:
        raise ValidationError(twice)
    return checked(kind, data)


def checked(kind: type[PlainSerializer], data: Any) -> dict[str, Any]:
    """The data as the serializer has it. Raises ValidationError, which names every wrong and every unknown field."""
    serializer = kind(data=data)
    serializer.is_valid()
    errors = dict(serializer.errors)
    if isinstance(data, Mapping):
        known = ", ".join(serializer.fields)
        errors |= {str(name): [f"unknown; there is {known}"] for name in sorted(set(data) - set(serializer.fields))}
    if errors:
        raise ValidationError(errors)
    return dict(serializer.validated_data)


def address(request: Request, **changed: Any) -> str:
    """The address that was asked for, with some parameters changed."""
    parameters = request.query_params.copy()
    for name, value in changed.items():
        parameters[name] = str(value)
    return request.build_absolute_uri(f"{request.path}?{parameters.urlencode()}")


def page(request: Request, count: int, limit: int, offset: int, results: Any) -> dict[str, Any]:
    """A page with the addresses of those beside it."""
    return {
        "count": count,
        "next": address(request, limit=limit, offset=offset + limit) if offset + limit < count else None,
        "previous": address(request, limit=limit, offset=max(0, offset - limit)) if offset else None,
        "results": results,
    }


def page_of(item: type[serializers.BaseSerializer[Any]], **fields: serializers.Field[Any, Any, Any, Any]) -> Any:
    """How the schema describes a page of such items.

    Args:
        fields: what it has beside `next` and `results`.
    """
    links = {"next": serializers.URLField(allow_null=True, help_text="the address of the next page")}
    return inline_serializer(
        f"{item.__name__.removesuffix('Serializer')}Page", {**fields, **links, "results": item(many=True)}
    )


def counted_page_of(item: type[serializers.BaseSerializer[Any]]) -> Any:
    """How the schema describes what `page` makes of such items."""
    return page_of(
        item,
        count=serializers.IntegerField(help_text="of all pages"),
        previous=serializers.URLField(allow_null=True, help_text="the address of the page before"),
    )


def array(
    request: Request, items: QuerySet[Any] | Sequence[Any], show: Callable[[Any], Any], wanted: Mapping[str, Any]
) -> Response:
    """The wanted part of a list as a plain array; headers tell how many there are, and where the parts beside it are.

    Args:
        show: makes of some of the items what is shown of them.
        wanted: `limit` and `offset` of a WindowSerializer.
    """
    limit, offset = wanted.get("limit"), wanted["offset"]
    found = items[offset:] if limit is None else items[offset : offset + limit]
    count = items.count() if isinstance(items, QuerySet) else len(items)
    links = []
    if limit is not None and offset + limit < count:
        links.append(f'<{address(request, offset=offset + limit)}>; rel="next"')
    if limit is not None and offset:
        links.append(f'<{address(request, offset=max(0, offset - limit))}>; rel="prev"')
    headers = {TOTAL: str(count), **({"Link": ", ".join(links)} if links else {})}
    return Response(show(found), headers=headers)


def lists(kind: type[WindowSerializer], shown: Any) -> Callable[[Method], Method]:
    """Says for the schema that a method answers with `array`, for parameters of that kind."""
    headers = [
        OpenApiParameter(
            TOTAL, int, OpenApiParameter.HEADER, response=[200], description="how many there are in all", required=True
        ),
        OpenApiParameter(
            "Link", str, OpenApiParameter.HEADER, response=[200], description="the parts beside this one (RFC 8288)"
        ),
    ]
    return extend_schema(parameters=[kind, *headers], responses=shown)


def csv_stream(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> HttpResponseBase:
    """A file of that name, below a line of the columns' names."""
    return StreamingHttpResponse(
        _lines(columns, rows),
        content_type=f"{CSV}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


def exact_seconds(time_ns: int | None) -> str:
    """With all digits, which a float does not have; empty where there is none."""
    if time_ns is None:
        return ""
    seconds, ns = divmod(time_ns, 1_000_000_000)
    return f"{seconds}.{ns:09d}"


def _lines(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow(row)
        if number % ROWS_PER_CHUNK == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()
