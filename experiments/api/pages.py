"""What the lists of many rows share: checked queries, pages of JSON, and CSV as a stream."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.http import HttpResponseBase, StreamingHttpResponse
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.views import View, unknown_experiment

if TYPE_CHECKING:
    PlainSerializer = serializers.Serializer[Any]
else:
    PlainSerializer = serializers.Serializer

MAX_PAGE = 10_000
PAGE = 1000
ROWS_PER_CHUNK = 2000


class CsvRenderer(JSONRenderer):
    """Makes CSV a format that may be asked for. The view streams the rows itself; errors are JSON all the same."""

    media_type = "text/csv"
    format = "csv"


class LimitSerializer(PlainSerializer):
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=PAGE)


class PageSerializer(LimitSerializer):
    offset = serializers.IntegerField(min_value=0, max_value=2**62, default=0)


class TableView(View):
    """A list that may be asked for as CSV, too: `?format=csv`, or `Accept: text/csv`."""

    renderer_classes = [JSONRenderer, CsvRenderer]

    @staticmethod
    def wants_csv(request: Request) -> bool:
        return isinstance(request.accepted_renderer, CsvRenderer)

    def handle_exception(self, exc: Exception) -> Response:
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(exc)


def check_exists(experiment_id: str) -> None:
    """Raises NotFound where there is no such experiment."""
    if selectors.experiment_status(experiment_id) is None:
        raise unknown_experiment(experiment_id)


def checked(kind: type[PlainSerializer], data: Any) -> dict[str, Any]:
    """The data as the serializer has it; every wrong and every unknown field is named.

    Raises:
        ValidationError
    """
    serializer = kind(data=data)
    serializer.is_valid()
    errors = [
        {"field": field, "message": str(message)}
        for field, messages in serializer.errors.items()
        for message in messages
    ]
    if isinstance(data, dict):
        known = {*serializer.fields, "format"} if issubclass(kind, LimitSerializer) else set(serializer.fields)
        unknown = sorted(set(data) - known)
        errors += [
            {"field": field, "message": f"unknown; there is {', '.join(serializer.fields)}"} for field in unknown
        ]
    if errors:
        raise ValidationError({"errors": errors})
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


def csv_stream(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> HttpResponseBase:
    """A file of that name, below a line of the columns' names."""
    return StreamingHttpResponse(
        _lines(columns, rows),
        content_type="text/csv; charset=utf-8",
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
