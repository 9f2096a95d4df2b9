"""RequestKeys: the request of a workload without a client app (method, path, and keywords of `requests.request`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from experiments.plans.fields import Reason, checked, json_errors, number_reason, text_reason
from experiments.plans.parsing import PlanErrors, Section, refused
from loadgen.protocol.messages import DATA_KEYWORDS, WorkloadSpec
from loadgen.protocol.request_ids import TRACEPARENT
from routing.errors import Code, Place, shown

OFF = "off"  # in a plan: requests carry no id
MAX_PATH = 2000
MAX_TIMEOUT_S = 3600
_DEFAULTS = WorkloadSpec(index=0, service="", schedule=[])
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, 5.6.2
_METHOD = re.compile(r"[A-Za-z]{1,20}")
_PATH = re.compile(r"/[!-~\u00a1-\ud7ff\ue000-\U0010ffff]*")
_HEADER_VALUE = re.compile(r"[\t -~\u00a0-\u00ff]*")
# The engine sets these headers: they frame the message, or belong to the connection.
_ENGINES_HEADERS = frozenset(
    {"content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"}
)


def _read_method(value: object) -> str:
    if not isinstance(value, str) or not _METHOD.fullmatch(value) or value.upper() == "CONNECT":
        raise refused(_string_code(value), f"must be an HTTP method like GET or POST, got {shown(value)}")
    return value.upper()


def _path_reason(value: object) -> Reason | None:
    if isinstance(value, str) and len(value) <= MAX_PATH and _PATH.fullmatch(value):
        return None
    message = f"must begin with / and have at most {MAX_PATH} characters and no space, got {shown(value)}"
    return _string_code(value), message


def _read_request_id_header(value: object) -> str:
    """The header's name; "" for off."""
    if value == OFF:
        return ""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise refused(_string_code(value), f"must be the name of an HTTP header, or {OFF}, got {shown(value)}")
    if value.lower() in _ENGINES_HEADERS | {"host"}:
        raise refused(Code.CONFLICT, f"{value} has another meaning in HTTP; take a name like X-Request-Id")
    return TRACEPARENT if value.lower() == TRACEPARENT else value  # its standard asks for lower case


def _string_code(value: object) -> Code:
    return Code.FORMAT if isinstance(value, str) else Code.TYPE


def _read_kwargs(value: object) -> dict[str, Any]:
    """The checked keywords, without those that are null."""
    if not isinstance(value, dict):
        raise refused(Code.TYPE, f"must be a mapping, got {shown(value)}")
    errors = PlanErrors()
    for key, item in value.items():
        if not isinstance(key, str) or key not in DATA_KEYWORDS:
            place = key if isinstance(key, str) else shown(key)
            errors.add((place,), Code.UNKNOWN, f"not accepted; the keywords are {', '.join(DATA_KEYWORDS)}")
        elif item is not None:
            _CHECKS[key](item, (key,), errors)
    if value.get("json") is not None:
        for other in ("data", "files"):
            if value.get(other) is not None:
                errors.add(("json",), Code.CONFLICT, f"has no effect beside {other}; remove one of them")
    if isinstance(value.get("data"), str) and value.get("files") is not None:
        errors.add(("data",), Code.TYPE, "must be a mapping beside files")
    errors.raise_in_model()
    return {key: item for key, item in value.items() if item is not None}


def time_outs_s(spec: dict[str, Any]) -> tuple[float, float]:
    """The limits of a connect and of a response, in a workload without a client app (a WorkloadSpec as a dict)."""
    timeout = spec["kwargs"].get("timeout")
    connect_s, read_s = timeout if isinstance(timeout, list) else (timeout, timeout)
    return float(connect_s or spec["connect_timeout_s"]), float(read_s or spec["request_timeout_s"])


def longest_request_s(spec: dict[str, Any]) -> float:
    """The longest time that a request of a workload (a WorkloadSpec as a dict) may take.

    It is the time to wait for a connection or to open one, and then to receive the response.
    """
    connect_s, read_s = time_outs_s(spec)
    return connect_s + 2 * read_s


# Each check adds what is wrong with a keyword's value at its place.


def _check_fields(value: object, place: Place, errors: PlanErrors) -> None:
    """A string as it is, or the fields of a form or of a query."""
    if isinstance(value, str):
        json_errors(value, errors, place)
    elif not isinstance(value, dict):
        errors.add(place, Code.TYPE, f"must be a mapping or a string, got {shown(value)}")
    elif json_errors(value, errors, place):
        for key, item in value.items():
            for each in item if isinstance(item, list | tuple) else [item]:
                if isinstance(each, dict | list | tuple):
                    message = f"must be a string, a number or a list of those, got {shown(item)}"
                    errors.add((*place, key), Code.TYPE, message)


def _check_files(value: object, place: Place, errors: PlanErrors) -> None:
    for key, item, at in _items(value, place, errors):
        parts = item if isinstance(item, list | tuple) else [item]
        if (
            not 1 <= len(parts) <= 3
            or (parts is item and len(parts) == 1)
            or not all(isinstance(part, str) for part in parts)
        ):
            message = "must be the content, [file name, content] or [file name, content, content type]"
            errors.add(at, Code.FORMAT, message)
        elif not isinstance(key, str) or not all(_HEADER_VALUE.fullmatch(part) for part in (key, *parts[2:])):
            errors.add(at, Code.FORMAT, "the name and the content type must be strings of one line")
        else:
            json_errors(list(parts), errors, at)


def _check_headers(value: object, place: Place, errors: PlanErrors) -> None:
    for name, item, at in _items(value, place, errors):
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            errors.add(at, Code.FORMAT, "not a valid name of an HTTP header")
        elif name.lower() in _ENGINES_HEADERS:
            errors.add(at, Code.CONFLICT, "the engine sets this header; remove it")
        elif not isinstance(item, str) or not _HEADER_VALUE.fullmatch(item) or item != item.strip():
            message = f"must be a string of one line (in quotation marks), got {shown(item)}"
            errors.add(at, _string_code(item), message)


def _check_cookies(value: object, place: Place, errors: PlanErrors) -> None:
    for name, item, at in _items(value, place, errors):
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            errors.add(at, Code.FORMAT, "not a valid name of a cookie")
        elif not isinstance(item, str) or not _HEADER_VALUE.fullmatch(item) or ";" in item:
            errors.add(at, _string_code(item), f"must be a string without ; (in quotation marks), got {shown(item)}")


def _items(value: object, place: Place, errors: PlanErrors) -> list[tuple[Any, Any, Place]]:
    """The keys, values and places of a mapping; none, and an error, where it is not one."""
    if isinstance(value, dict):
        return [(key, item, (*place, key if isinstance(key, str) else shown(key))) for key, item in value.items()]
    errors.add(place, Code.TYPE, f"must be a mapping, got {shown(value)}")
    return []


def _check_auth(value: object, place: Place, errors: PlanErrors) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        errors.add(place, Code.FORMAT, f"must be a list [user, password], got {shown(value)}")
        return
    for index, item in enumerate(value):
        reason = text_reason(item, most=1000)
        if reason is None and not _HEADER_VALUE.fullmatch(str(item)):
            reason = Code.FORMAT, "must have only characters of Latin-1"
        if reason:
            errors.add((*place, index), *reason)


def _check_timeout(value: object, place: Place, errors: PlanErrors) -> None:
    if not isinstance(value, list | tuple):
        if reason := number_reason(value, 0.001, MAX_TIMEOUT_S):
            errors.add(place, *reason)
    elif len(value) != 2:
        errors.add(place, Code.FORMAT, f"must be a number of seconds or [connect, read], got a list of {len(value)}")
    else:
        for index, item in enumerate(value):
            if item is not None and (reason := number_reason(item, 0.001, MAX_TIMEOUT_S)):
                errors.add((*place, index), *reason)


def _check_allow_redirects(value: object, place: Place, errors: PlanErrors) -> None:
    if not isinstance(value, bool):
        errors.add(place, Code.TYPE, f"must be true or false, got {shown(value)}")


def _check_verify(value: object, place: Place, errors: PlanErrors) -> None:
    if not isinstance(value, bool) and text_reason(value, most=4096):
        errors.add(place, Code.FORMAT, f"must be true, false or a bundle's path on the workers, got {shown(value)}")


def _check_cert(value: object, place: Place, errors: PlanErrors) -> None:
    paths = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if any(text_reason(path, most=4096) for path in paths):
        errors.add(place, Code.FORMAT, f"must be a path on the workers or [certificate, key], got {shown(value)}")


_CHECKS: dict[str, Callable[[Any, Place, PlanErrors], object]] = {
    "params": _check_fields,
    "data": _check_fields,
    "json": lambda value, place, errors: json_errors(value, errors, place),
    "files": _check_files,
    "headers": _check_headers,
    "cookies": _check_cookies,
    "auth": _check_auth,
    "timeout": _check_timeout,
    "allow_redirects": _check_allow_redirects,
    "verify": _check_verify,
    "cert": _check_cert,
}

RequestIdHeader = Annotated[
    str,
    PlainValidator(_read_request_id_header, json_schema_input_type=Annotated[str, Field(min_length=1, max_length=100)]),
    PlainSerializer(lambda name: name or OFF),
]
_Method = Annotated[
    str, PlainValidator(_read_method, json_schema_input_type=Annotated[str, Field(pattern="^[A-Za-z]{1,20}$")])
]
_Path = Annotated[str, checked(_path_reason, Annotated[str, Field(pattern="^/", max_length=MAX_PATH)])]
_Kwargs = Annotated[
    dict[str, Any],
    PlainValidator(_read_kwargs),
    WithJsonSchema({"type": "object", "properties": {key: {} for key in DATA_KEYWORDS}, "additionalProperties": False}),
]


class RequestKeys(Section):
    """The request, where there is no client app."""

    method: _Method = Field(_DEFAULTS.method, description="The HTTP method.")
    path: _Path = Field(_DEFAULTS.path, description="The path of the request, with its query.")
    kwargs: _Kwargs = Field(
        default_factory=dict, description="Keywords of `requests.request`; [see below](#the-request)."
    )
