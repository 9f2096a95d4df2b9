"""Serializers and fields that several resources share."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from experiments.models import Event
from loadgen.protocol.topics import MAX_NS

# DRF's own classes take no type parameters at run time.
if TYPE_CHECKING:
    TimeField = serializers.Field[datetime, Any, float, Any]
    ModelSerializer = serializers.ModelSerializer[Any]
    PlainSerializer = serializers.Serializer[Any]
else:
    TimeField = serializers.Field
    ModelSerializer = serializers.ModelSerializer
    PlainSerializer = serializers.Serializer

MAX_PAGE = 10_000
PAGE = 1000

_WHOLE = re.compile("-?[0-9]{1,20}")


@extend_schema_field(OpenApiTypes.DOUBLE)
class TimestampField(TimeField):
    """Seconds since the Unix epoch, as a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: datetime) -> float:
        return value.timestamp()


class TextField(serializers.CharField):
    """Accepts strings alone; DRF's own field also accepts numbers."""

    default_error_messages = {"type": "Not a valid string."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        return super().to_internal_value(data)


class NumberField(serializers.FloatField):
    """Accepts numbers alone; DRF's own field also accepts strings and booleans."""

    default_error_messages = {"type": "A valid number is required."}

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or abs(data) > MAX_NS:
            self.fail("type")
        return super().to_internal_value(data)


class FilterField(serializers.CharField):
    """The exact value of a column, including leading and trailing spaces."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, trim_whitespace=False, **options)


class WholeField(serializers.IntegerField):
    """Accepts digits alone; DRF's own field also accepts `+1.0` and `1_000`."""

    def to_internal_value(self, data: Any) -> int:
        if _WHOLE.fullmatch(str(data)) is None:
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field(OpenApiTypes.OBJECT)
class FreeField(serializers.JSONField):
    """A mapping with any content."""


class WindowSerializer(PlainSerializer):
    """The part of a list to return, for lists that are plain arrays."""

    limit = WholeField(min_value=1, max_value=MAX_PAGE, required=False, help_text="maximum number of items")
    offset = WholeField(min_value=0, max_value=2**62, default=0, help_text="number of items to skip")


class LimitSerializer(PlainSerializer):
    limit = WholeField(min_value=1, max_value=MAX_PAGE, default=PAGE, help_text="maximum number of items")


class PageSerializer(LimitSerializer):
    offset = WholeField(min_value=0, max_value=2**62, default=0, help_text="number of items to skip")


class FormatSerializer(PlainSerializer):
    format = serializers.ChoiceField(["json", "csv"], required=False, help_text="overrides the Accept header")


class EventSerializer(ModelSerializer):
    """An event on the timeline of an experiment."""

    timestamp = TimestampField()

    class Meta:
        model = Event
        fields = read_only_fields = ["timestamp", "name", "value"]
