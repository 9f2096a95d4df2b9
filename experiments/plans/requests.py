"""The request of a workload without a client app: method, path, and the keywords of `requests.request`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from experiments.plans.errors import Problems
from experiments.plans.fields import Section, check_json, child, number_reason, shown, text_reason
from experiments.plans.model import OFF
from loadgen.protocol.request_ids import TRACEPARENT

# Those of `requests.request` that data can express, and that change what is sent.
KWARGS = (
    "params", "data", "json", "files", "headers", "cookies", "auth", "timeout", "allow_redirects", "verify", "cert",
)  # fmt: skip
MAX_PATH = 2000
MAX_TIMEOUT_S = 3600
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, 5.6.2
_METHOD = re.compile(r"[A-Za-z]{1,20}")
_PATH = re.compile(r"/[!-~\u00a1-\ud7ff\ue000-\U0010ffff]*")
_HEADER_VALUE = re.compile(r"[\t -~\u00a0-\u00ff]*")
# They frame the message, or belong to the connection: the engine sets them.
_ENGINES_HEADERS = frozenset(
    {"content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"}
)


def read_method(section: Section, default: str) -> str:
    value = section.get("method")
    if value is None:
        return default
    if not isinstance(value, str) or not _METHOD.fullmatch(value) or value.upper() == "CONNECT":
        section.wrong("method", f"an HTTP method like GET or POST is needed, not {shown(value)}")
        return default
    return value.upper()


def read_path(section: Section, default: str) -> str:
    value = section.get("path")
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > MAX_PATH or not _PATH.fullmatch(value):
        section.wrong(
            "path", f"must begin with / and have no space and at most {MAX_PATH} characters, not {shown(value)}"
        )
        return default
    return value


def read_request_id_header(section: Section, default: str) -> str:
    """The header's name; "" for off."""
    value = section.get("request_id_header")
    if value is None:
        return default
    if value == OFF:
        return ""
    if isinstance(value, str) and value.lower() == TRACEPARENT:
        return TRACEPARENT  # its standard asks for lower case
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        section.wrong("request_id_header", f"the name of an HTTP header, or {OFF}, is needed, not {shown(value)}")
        return default
    if value.lower() in _ENGINES_HEADERS | {"host"}:
        section.wrong("request_id_header", f"{value} has another meaning in HTTP; take a name like X-Request-Id")
        return default
    return value


def read_kwargs(section: Section) -> dict[str, Any]:
    """The checked keywords, {} if anything is wrong with them."""
    value = section.get("kwargs")
    if value is None:
        return {}
    problems, path, before = section.problems, section.at("kwargs"), len(section.problems)
    if not isinstance(value, dict):
        section.wrong("kwargs", f"a mapping is needed, not {shown(value)}")
        return {}
    for key, item in value.items():
        if not isinstance(key, str) or key not in KWARGS:
            problems.add(child(path, key), f"not accepted; the keywords are {', '.join(KWARGS)}")
        elif item is not None:
            _CHECKS[key](item, child(path, key), problems)
    if value.get("json") is not None:
        for other in ("data", "files"):
            if value.get(other) is not None:
                problems.add(child(path, "json"), f"takes the place of {other}; give one of the two")
    if isinstance(value.get("data"), str) and value.get("files") is not None:
        problems.add(child(path, "data"), "must be a mapping beside files")
    return {key: item for key, item in value.items() if item is not None} if len(problems) == before else {}


def longest_request_s(spec: dict[str, Any]) -> float:
    """How long a request of a workload (a WorkloadSpec as a dict) may take: to wait for a connection, or to open one,
    and then to be answered."""
    timeout = spec["kwargs"].get("timeout")
    connect_s, read_s = timeout if isinstance(timeout, list) else (timeout, timeout)
    return float((connect_s or spec["connect_timeout_s"]) + 2 * (read_s or spec["request_timeout_s"]))


def _check_params(value: object, path: str, problems: Problems) -> None:
    if isinstance(value, str):
        check_json(value, path, problems)
    else:
        _check_fields(value, path, problems)


def _check_data(value: object, path: str, problems: Problems) -> None:
    """A text as it is, or the fields of a form."""
    _check_params(value, path, problems)


def _check_fields(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, dict):
        problems.add(path, f"a mapping or a text is needed, not {shown(value)}")
    elif check_json(value, path, problems):
        for key, item in value.items():
            for each in item if isinstance(item, list | tuple) else [item]:
                if isinstance(each, dict | list | tuple):
                    problems.add(child(path, key), "a text, a number or a list of those is needed")


def _check_files(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, dict):
        problems.add(path, f"a mapping of names is needed, not {shown(value)}")
        return
    for key, item in value.items():
        parts = item if isinstance(item, list | tuple) else [item]
        if not 1 <= len(parts) <= 3 or (parts is item and len(parts) == 1) or not _all_texts(parts):
            problems.add(
                child(path, key), "the content, [file name, content] or [file name, content, content type] is needed"
            )
        elif not isinstance(key, str) or not all(_HEADER_VALUE.fullmatch(part) for part in (key, *parts[2:])):
            problems.add(child(path, key), "name and content type must be texts of one line")
        else:
            check_json(list(parts), child(path, key), problems)


def _all_texts(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _check_headers(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, dict):
        problems.add(path, f"a mapping is needed, not {shown(value)}")
        return
    for name, item in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            problems.add(child(path, name), "this is no name of an HTTP header")
        elif name.lower() in _ENGINES_HEADERS:
            problems.add(child(path, name), "is set by the engine, and cannot be given")
        elif not isinstance(item, str) or not _HEADER_VALUE.fullmatch(item) or item != item.strip():
            problems.add(child(path, name), f"a text of one line is needed (in quotation marks), not {shown(item)}")


def _check_cookies(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, dict):
        problems.add(path, f"a mapping is needed, not {shown(value)}")
        return
    for name, item in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            problems.add(child(path, name), "this is no name of a cookie")
        elif not isinstance(item, str) or not _HEADER_VALUE.fullmatch(item) or ";" in item:
            problems.add(child(path, name), f"a text without ; is needed (in quotation marks), not {shown(item)}")


def _check_auth(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        problems.add(path, f"a list [user, password] is needed, not {shown(value)}")
        return
    for index, item in enumerate(value):
        reason = text_reason(item, most=1000)
        if reason is None and not _HEADER_VALUE.fullmatch(str(item)):
            reason = "must be of Latin-1 characters"
        if reason:
            problems.add(f"{path}[{index}]", reason)


def _check_timeout(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, list | tuple):
        if reason := number_reason(value, 0.001, MAX_TIMEOUT_S):
            problems.add(path, reason)
    elif len(value) != 2:
        problems.add(path, f"a number of seconds, or [connect, read], is needed, not {shown(value)}")
    else:
        for index, item in enumerate(value):
            if item is not None and (reason := number_reason(item, 0.001, MAX_TIMEOUT_S)):
                problems.add(f"{path}[{index}]", reason)


def _check_allow_redirects(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, bool):
        problems.add(path, f"true or false is needed, not {shown(value)}")


def _check_verify(value: object, path: str, problems: Problems) -> None:
    if not isinstance(value, bool) and (not isinstance(value, str) or text_reason(value, most=4096)):
        problems.add(path, f"true, false or the path of a bundle on the workers is needed, not {shown(value)}")


def _check_cert(value: object, path: str, problems: Problems) -> None:
    paths = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if not all(isinstance(item, str) and not text_reason(item, most=4096) for item in paths):
        problems.add(path, f"a path on the workers, or [certificate, key], is needed, not {shown(value)}")


_CHECKS = {
    "params": _check_params,
    "data": _check_data,
    "json": check_json,
    "files": _check_files,
    "headers": _check_headers,
    "cookies": _check_cookies,
    "auth": _check_auth,
    "timeout": _check_timeout,
    "allow_redirects": _check_allow_redirects,
    "verify": _check_verify,
    "cert": _check_cert,
}
