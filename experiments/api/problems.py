"""Problem documents (RFC 9457): the one form of every error under /api."""

from __future__ import annotations

import logging
from collections.abc import Iterable
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
from experiments.models import Experiment
from routing.errors import FieldError, InvalidInput, NotFound, RequestRefused

BROKER_ERRORS = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, kombu.exceptions.OperationalError)

_log = logging.getLogger(__name__)


def problem(status: int, detail: str, errors: Iterable[FieldError] = ()) -> JsonResponse:
    """Returns a problem document; its type `about:blank` means that the status says what kind of problem it is."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": [{"field": error.path, "code": error.code, "message": error.message} for error in errors],
    }
    return JsonResponse(body, status=status, content_type=PROBLEM_JSON)


def handle(error: Exception, context: dict[str, Any]) -> JsonResponse | None:
    """Returns the response to an exception of a view; None for a programming error, which `failed` answers."""
    if isinstance(error, Experiment.DoesNotExist) and "experiment_id" in context["kwargs"]:  # raised by services
        error = NotFound(f"The experiment {context['kwargs']['experiment_id']} does not exist.")
    if isinstance(error, InvalidInput):
        return problem(400, "The request is invalid; see `errors`.", error.errors)
    if isinstance(error, RequestRefused):
        return problem(error.status, str(error))
    if isinstance(error, BROKER_ERRORS):
        return problem(503, "The broker does not answer. Try again later.")
    if isinstance(error, OperationalError | InterfaceError):
        _log.error("the database does not answer: %s", error)
        return problem(503, "The database does not answer. Try again later.")
    known = exception_handler(error, context)
    if known is None:
        return None
    answer = problem(known.status_code, _detail_of(error))
    for name in ("WWW-Authenticate", "Retry-After"):
        if name in known.headers:
            answer[name] = known.headers[name]
    return answer


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler400."""
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return problem(400, "The request is too large, or its Host header is not one of galileo_allowed_hosts.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler403."""
    return problem(403, "Permission denied.") if _is_api(request) else defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler404."""
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    return problem(404, f"The resource {request.path} does not exist.")


def failed(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500, for exceptions that Django has logged; they are not shown."""
    if not _is_api(request):
        return defaults.server_error(request)
    return problem(500, "Internal error of Galileo. The log of its web server gives the reason.")


def _is_api(request: HttpRequest) -> bool:
    return request.path_info == "/api" or request.path_info.startswith("/api/")


def _detail_of(error: Exception) -> str:
    if isinstance(error, exceptions.APIException):
        return str(error.detail)
    if isinstance(error, PermissionDenied | Http404):
        return str(error) or HTTPStatus(403 if isinstance(error, PermissionDenied) else 404).phrase
    raise TypeError(f"unexpected {type(error).__name__}")  # DRF's handler knows no others
