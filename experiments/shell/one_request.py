"""One request from this computer, to the target of the service's router."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping
from typing import Any

import requests
from django.conf import settings
from requests.cookies import cookiejar_from_dict
from requests.hooks import default_hooks
from requests.structures import CaseInsensitiveDict

from experiments import selectors
from experiments.plans import GroupWorkload
from experiments.services import apps
from experiments.shell import app_process
from experiments.shell.errors import ShellError
from loadgen.apps.one_request import AppQuestion, AppRequest
from routing import routers
from routing.errors import Code, FieldError, InvalidInput
from routing.redis import redis_client
from routing.redis.table import RedisRoutingTable

_NOT_KEYWORDS = ("self", "method", "url")
_KEYWORDS = [name for name in inspect.signature(requests.Session.request).parameters if name not in _NOT_KEYWORDS]


def check_kwargs(value: object, field: str) -> dict[str, Any]:
    """Returns the keywords of `requests.request`, which checks their values itself. Raises InvalidInput."""
    if not isinstance(value, Mapping):
        raise InvalidInput.of(field, Code.TYPE, f"must be a mapping, got a {type(value).__name__}")
    message = f"is unknown; known are {', '.join(_KEYWORDS)}"
    if unknown := [FieldError(f"{field}.{name}", Code.UNKNOWN, message) for name in value if name not in _KEYWORDS]:
        raise InvalidInput(unknown)
    kwargs = dict(value)
    if isinstance(kwargs.get("auth"), list):  # as in a plan, where JSON has no tuples
        kwargs["auth"] = tuple(kwargs["auth"])
    return kwargs


def send(workload: GroupWorkload, kwargs: dict[str, Any]) -> requests.Response:
    """Makes a workload's request to one of its service's hosts, drawn by weight.

    As on a worker, settings of the environment are ignored, such as proxies.

    Args:
        kwargs: those of requests.request, without a client app.

    Raises:
        ShellError: the service has no host, or `requests` does not accept the keywords.
        requests.RequestException
    """
    router = routers.router_of(workload.router or routers.HOST)
    base_url = _base_url(workload, router)
    asked = None if workload.client is None else _request_of_app(workload, base_url)
    if router == routers.DEBUG:
        return _debug_response()
    with requests.Session() as session:
        session.trust_env = False
        if asked is not None:
            return _send_prepared(session, asked, workload)
        try:
            timeout = (workload.connect_timeout_s, workload.request_timeout_s)
            return session.request(workload.method, base_url + workload.path, **{"timeout": timeout, **kwargs})
        except requests.RequestException:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            raise ShellError(f"kwargs: not accepted by requests: {error}") from error


def _request_of_app(workload: GroupWorkload, base_url: str) -> AppRequest:
    """Returns the request of the workload's client app. Raises AppFailed, AppMissing, InvalidInput."""
    (spec,) = apps.resolved([workload.spec()], place="")
    name, digest, apps_dir = spec.client_app, spec.client_app_digest, settings.SITE.apps_dir
    assert name is not None
    question = AppQuestion(name, spec.client_parameters, None if apps_dir is None else str(apps_dir), base_url)
    packed = None
    if digest is not None and not selectors.has_local_app(name):
        packed = apps.read_archive(digest, name)
    return app_process.request_of(question, packed)


def _send_prepared(session: requests.Session, asked: AppRequest, workload: GroupWorkload) -> requests.Response:
    request = requests.PreparedRequest()
    request.method, request.url, request.body = asked.method, asked.url, asked.body
    request.headers = CaseInsensitiveDict(asked.headers)
    request.hooks = default_hooks()
    jar = cookiejar_from_dict(asked.cookies)  # type: ignore[no-untyped-call]
    vars(request)["_cookies"] = jar  # redirects send it
    return session.send(
        request,
        timeout=(
            asked.connect_timeout_s or workload.connect_timeout_s,
            asked.read_timeout_s or workload.request_timeout_s,
        ),
        allow_redirects=asked.follow,
        verify=asked.bundle or asked.verify,
        cert=(asked.cert[0], asked.cert[1]) if len(asked.cert) == 2 else (asked.cert[0] if asked.cert else None),
    )


def _base_url(workload: GroupWorkload, router: str) -> str:
    if router == routers.DEBUG:
        return f"{workload.scheme}://{routers.DEBUG_HOST}"
    if router == routers.STATIC:
        return routers.parse_static_host(workload.static_host or routers.DEFAULT_STATIC_HOST, workload.scheme).root
    host = _host_of(workload.service)
    return f"{workload.scheme}://{host}" + (f"/{workload.service}" if router == routers.SERVICE else "")


def _host_of(service: str) -> str:
    record = RedisRoutingTable(redis_client()).read(service)
    if record is None or not any(record.weights):
        raise ShellError(f"service {service!r} has no host; set one with rtbl.set({service!r}, ['host:80'])")
    return random.choices(record.hosts, record.weights)[0]


def _debug_response() -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    response._content = b""
    return response
