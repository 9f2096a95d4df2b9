"""Errors, all of one shape: problem details as RFC 9457 has them, with a field for each fault."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import kombu.exceptions
import redis.exceptions
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.views import exception_handler

from experiments.api.schema import PROBLEM_JSON
from experiments.plans import PlanInvalid
from experiments.services.apps import AppMissing
from experiments.services.events import ExperimentOver
from experiments.services.groups import GroupClosed, GroupNotReady
from experiments.services.ids import IdTaken
from experiments.services.interactive import NotRunning
from experiments.services.locks import Busy
from experiments.services.placement import NoFreeSlot, NoMatchingWorkers
from loadgen.apps.errors import AppInvalid
from routing.table import RoutingInvalid, RoutingMissing, RoutingTaken

AWAY = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, kombu.exceptions.OperationalError)

_log = logging.getLogger(__name__)


def problem(code: int, detail: str, errors: list[dict[str, str]] | None = None) -> JsonResponse:
    """A problem; `about:blank` says that there is no more to it than its status and its detail."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(code).phrase,
        "status": code,
        "detail": detail,
        "errors": errors or [],
    }
    return JsonResponse(body, status=code, content_type=PROBLEM_JSON)


def handle(error: Exception, context: dict[str, Any]) -> JsonResponse | None:
    """The answer to an exception of a view; None leaves it to Django (a programming error, see `failed`)."""
    if isinstance(error, PlanInvalid):
        return problem(
            400, "What was asked for is refused.", [_fault(each.path, each.message) for each in error.errors]
        )
    if isinstance(error, AppInvalid):
        return problem(400, "The client app is refused.", [_fault(each.field, each.message) for each in error.faults])
    if isinstance(error, RoutingInvalid):
        faults = [_fault(each.place, each.message) for each in error.field_errors]
        return problem(400, "The routing record is refused.", faults)
    if isinstance(error, exceptions.ValidationError):
        return problem(400, "What was asked for is refused.", list(_faults(error.detail)))
    if isinstance(error, RoutingMissing):
        return problem(404, str(error))
    if isinstance(error, RoutingTaken | GroupClosed | GroupNotReady | ExperimentOver | NotRunning | IdTaken):
        return problem(409, str(error))
    if isinstance(error, NoMatchingWorkers | NoFreeSlot | AppMissing | Busy):
        return problem(503, str(error))
    if isinstance(error, AWAY):
        return problem(503, "The broker does not answer; try again.")
    if isinstance(error, OperationalError | InterfaceError):
        _log.error("the database does not answer: %s", error)
        return problem(503, "The database does not answer; try again.")
    known = exception_handler(error, context)
    if known is None:
        return None
    answer = problem(known.status_code, _sentence(error))
    for name in ("WWW-Authenticate", "Retry-After"):
        if name in known.headers:
            answer[name] = known.headers[name]
    return answer


def refused(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's own 400."""
    if not _of_api(request):
        return defaults.bad_request(request, exception)
    return problem(400, "The request cannot be used: it is too large, or addresses another host.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's own 403."""
    return problem(403, "Forbidden.") if _of_api(request) else defaults.permission_denied(request, exception)


def missing(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's own 404."""
    if not _of_api(request):
        return defaults.page_not_found(request, exception)
    return problem(404, f"There is no {request.path}.")


def failed(request: HttpRequest) -> HttpResponseBase:
    """An exception that nobody has handled, which Django has logged; it is not shown."""
    if not _of_api(request):
        return defaults.server_error(request)
    return problem(500, "This is a fault of Galileo; the log of its web server has the reason.")


def _of_api(request: HttpRequest) -> bool:
    return request.path_info == "/api" or request.path_info.startswith("/api/")


def _sentence(error: Exception) -> str:
    if isinstance(error, exceptions.APIException):
        return str(error.detail)
    if isinstance(error, PermissionDenied | Http404):
        return str(error) or HTTPStatus(403 if isinstance(error, PermissionDenied) else 404).phrase
    raise TypeError(f"{type(error).__name__} has no sentence")  # DRF handles no others


def _fault(field: str, message: str) -> dict[str, str]:
    return {"field": field, "message": message}


def _faults(detail: Any, field: str = "") -> Iterator[dict[str, str]]:
    """The faults of DRF's validation, whose lists and mappings may be nested."""
    if isinstance(detail, dict):
        for name, nested in detail.items():
            place = f"{field}[{name}]" if isinstance(name, int) else f"{field}.{name}" if field else str(name)
            yield from _faults(nested, place)
    elif isinstance(detail, list):
        for index, nested in enumerate(detail):
            yield from _faults(nested, f"{field}[{index}]" if isinstance(nested, dict | list) else field)
    else:
        yield _fault(field, str(detail))
