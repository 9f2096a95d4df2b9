"""Errors as JSON responses."""

from __future__ import annotations

from typing import Any

import redis.exceptions
from rest_framework import status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from experiments.plans import PlanInvalid
from experiments.services.apps import AppMissing
from experiments.services.exclusion import Busy
from experiments.services.groups import GroupClosed, GroupNotReady
from experiments.services.placement import NoFreeSlot, NoMatchingWorkers
from loadgen.apps.faults import AppInvalid
from routing.table import RoutingInvalid, RoutingMissing, RoutingTaken


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an exception of a view; None leaves it to Django (a programming error)."""
    if isinstance(error, PlanInvalid):
        errors = [{"field": each.path, "message": each.message} for each in error.errors]
        return Response({"errors": errors}, status.HTTP_400_BAD_REQUEST)
    if isinstance(error, AppInvalid):
        faults = [{"field": fault.field, "message": fault.message} for fault in error.faults]
        return _problem(status.HTTP_400_BAD_REQUEST, "The client app is refused.", str(error), faults)
    if isinstance(error, RoutingInvalid):
        faults = [{"field": each.place, "message": each.message} for each in error.field_errors]
        return _problem(status.HTTP_400_BAD_REQUEST, "The routing record is refused.", str(error), faults)
    if isinstance(error, RoutingMissing):
        return _problem(status.HTTP_404_NOT_FOUND, "There is no such record.", str(error), [])
    if isinstance(error, RoutingTaken):
        return _problem(status.HTTP_409_CONFLICT, "There is such a record.", str(error), [])
    if isinstance(error, GroupClosed | GroupNotReady):
        return Response({"detail": str(error)}, status.HTTP_409_CONFLICT)
    if isinstance(error, NoMatchingWorkers | NoFreeSlot | AppMissing | Busy):
        return Response({"detail": str(error)}, status.HTTP_503_SERVICE_UNAVAILABLE)
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
        return Response({"detail": "The broker does not answer; try again."}, status.HTTP_503_SERVICE_UNAVAILABLE)
    return exception_handler(error, context)


def _problem(code: int, title: str, detail: str, errors: list[dict[str, str]]) -> Response:
    """A problem as RFC 9457 has it, with a field for each fault."""
    body = {"type": "about:blank", "title": title, "status": code, "detail": detail, "errors": errors}
    return Response(body, code, content_type="application/problem+json")
