"""A prepared request is what `requests` would have sent, with the request id in it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httptools
import pytest
import requests
from requests.auth import AuthBase, HTTPDigestAuth

from loadgen.engine.errors import AppError
from loadgen.engine.request import Preparer, Wire

BASE = "http://pi:8080"


class Parsed:
    """What a server reads from a wire."""

    def __init__(self, wire: Wire, client: int = 3, sequence: int = 9) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(b"%b%d.%d%b" % (wire.head, client, sequence, wire.tail))
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name.decode() not in self.headers
        self.headers[name.decode()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def preparer(timeout_s: float = 30) -> Preparer:
    return Preparer("X-Request-Id", "group.", timeout_s)


def prepare(method: Any = "GET", endpoint: Any = "/", base: str = BASE, **kwargs: Any) -> Parsed:
    parsed = Parsed(preparer().wire(base, method, endpoint, kwargs))
    assert parsed.complete
    return parsed


def test_a_plain_request_carries_its_host_and_its_id() -> None:
    parsed = prepare(endpoint="/a/b")
    assert (parsed.method, parsed.url, parsed.body) == (b"GET", b"/a/b", b"")
    assert parsed.headers["Host"] == "pi:8080"
    assert parsed.headers["X-Request-Id"] == "group.3.9"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"params": {"q": "ä b", "n": [1, 2]}},
        {"data": {"field": "value & more"}},
        {"data": "täxt"},
        {"data": b"\x00\xff"},
        {"data": io.BytesIO(b"from a file")},
        {"json": {"a": [1, None, "ü"]}},
        {"headers": {"Accept": "image/png", "X-Own": b"bytes"}},
        {"cookies": {"session": "abc"}},
        {"auth": ("user", "password")},
        {"auth": ["user", "password"]},
        {"json": [], "params": {"x": 1}},
    ],
    ids=lambda kwargs: " ".join(f"{name}-{type(value).__name__}" for name, value in kwargs.items()),
)
@pytest.mark.parametrize("method", ["post", "PUT", "PATCH", "DELETE"])
def test_keywords_mean_what_they_mean_to_requests(method: str, kwargs: dict[str, Any]) -> None:
    if isinstance(kwargs.get("data"), io.BytesIO):
        kwargs["data"].seek(0)  # earlier parameters read it
    parsed = prepare(method, "/path", **kwargs)
    if isinstance(kwargs.get("data"), io.BytesIO):
        kwargs = {"data": io.BytesIO(b"from a file")}
    if isinstance(kwargs.get("auth"), list):
        kwargs = {"auth": tuple(kwargs["auth"])}
    expected = requests.Session().prepare_request(requests.Request(method, f"{BASE}/path", **kwargs))
    assert parsed.method.decode() == expected.method
    assert parsed.url.decode() == expected.path_url
    body = expected.body or b""
    if isinstance(body, io.BytesIO):
        body = body.read()
    assert parsed.body == (body.encode() if isinstance(body, str) else body)
    headers = {name: value if isinstance(value, str) else value.decode() for name, value in expected.headers.items()}
    headers["User-Agent"] = "galileo"
    assert parsed.headers == {**headers, "Host": "pi:8080", "X-Request-Id": "group.3.9"}


def test_files_are_posted_as_a_form() -> None:
    parsed = prepare("POST", "/", files={"image": ("a.png", b"PNG", "image/png")})
    assert parsed.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'filename="a.png"' in parsed.body


def test_an_auth_object_sees_the_whole_request() -> None:
    class Signed(AuthBase):
        def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
            r.headers["Signature"] = f"{r.method} {r.url}"
            return r

    assert prepare(endpoint="/x", auth=Signed()).headers["Signature"] == "GET http://pi:8080/x"


def test_an_endpoint_without_a_slash_is_a_path_too() -> None:
    assert prepare(endpoint="a?b=c#part").url == b"/a?b=c"
    assert prepare(endpoint="").url == b"/"


def test_a_host_header_of_ones_own_replaces_the_hosts_name() -> None:
    assert prepare(headers={"host": "virtual.example"}).headers["Host"] == "virtual.example"


def test_an_id_header_of_ones_own_does_not_replace_the_request_id() -> None:
    assert prepare(headers={"x-request-id": "mine"}).headers["X-Request-Id"] == "group.3.9"


def test_head_has_a_response_without_a_body() -> None:
    assert preparer().wire(BASE, "head", "/", {}).bodiless
    assert not preparer().wire(BASE, "GET", "/", {}).bodiless


def test_a_time_out_of_its_own_replaces_the_workloads() -> None:
    assert preparer(30).wire(BASE, "GET", "/", {}).timeout_ns == 30_000_000_000
    assert preparer(30).wire(BASE, "GET", "/", {"timeout": 0.5}).timeout_ns == 500_000_000
    assert preparer(30).wire(BASE, "GET", "/", {"timeout": None}).timeout_ns == 30_000_000_000


def test_keywords_with_the_value_that_the_engine_works_by_are_accepted() -> None:
    assert prepare(allow_redirects=False, stream=False, verify=True, proxies=None, cert=None, hooks=None).complete


def generated() -> Iterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    ("method", "endpoint", "kwargs", "named"),
    [
        ("GET", "/", {"allow_redirects": True}, "allow_redirects"),
        ("GET", "/", {"proxies": {"http": "http://proxy"}}, "proxies"),
        ("GET", "/", {"cert": "file"}, "cert"),
        ("GET", "/", {"hooks": {"response": print}}, "hooks"),
        ("GET", "/", {"stream": True}, "stream"),
        ("GET", "/", {"verify": False}, "verify"),
        ("GET", "/", {"colour": "red"}, "colour"),
        ("GET", "/", {"timeout": 0}, "timeout"),
        ("GET", "/", {"timeout": (1, 2)}, "timeout"),
        ("GET", "/", {"timeout": float("nan")}, "timeout"),
        ("GET", "/", {"auth": HTTPDigestAuth("user", "password")}, "auth"),
        ("GET", "/", {"data": generated()}, "data"),
        ("GET", "/", {"headers": {"A": "b\r\nInjected: yes"}}, "header"),
        ("GET", "/", {"headers": {"A": 1}}, "[Hh]eader"),
        ("GET", "/", {"json": object()}, "JSON"),
        ("GET", "/", "text", "keywords"),
        ("GET", "http://elsewhere/", {}, "endpoint"),
        ("GET", None, {}, "endpoint"),
        ("GET /", "/", {}, "method"),
        (None, "/", {}, "method"),
        ("CONNECT", "/", {}, "CONNECT"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_name(method: Any, endpoint: Any, kwargs: Any, named: str) -> None:
    with pytest.raises(AppError, match=named):
        preparer().wire(BASE, method, endpoint, kwargs)


def test_equal_requests_are_prepared_once() -> None:
    one = preparer()
    first = one.wire(BASE, "POST", "/", {"data": b"x" * 100, "headers": {"A": "b"}})
    assert one.wire(BASE, "POST", "/", {"data": b"x" * 100, "headers": {"A": "b"}}) is first
    assert one.wire("http://other", "POST", "/", {"data": b"x" * 100, "headers": {"A": "b"}}) is not first


def test_a_changed_dictionary_is_another_request() -> None:
    one = preparer()
    headers = {"A": "b"}
    first = one.wire(BASE, "GET", "/", {"headers": headers})
    headers["A"] = "c"
    assert b"A: c" in one.wire(BASE, "GET", "/", {"headers": headers}).head
    assert b"A: b" in first.head


@pytest.mark.parametrize(
    ("one", "other"),
    [({"n": 1}, {"n": True}), ({"n": 1}, {"n": 1.0}), ({"n": [1]}, {"n": (1, 2)}), ({"n": "1"}, {"n": 1})],
)
def test_equal_values_of_different_types_are_different_requests(one: dict[str, Any], other: dict[str, Any]) -> None:
    both = preparer()
    first = both.wire(BASE, "POST", "/", {"json": one})
    assert both.wire(BASE, "POST", "/", {"json": other}) is not first


def test_an_open_file_is_read_each_time() -> None:
    one = preparer()
    tails = {one.wire(BASE, "POST", "/", {"data": io.BytesIO(text)}).tail for text in (b"first", b"again")}
    assert tails == {b"\r\n\r\nfirst", b"\r\n\r\nagain"}


def test_the_cache_of_prepared_requests_is_bounded() -> None:
    one = preparer()
    for number in range(3000):
        one.wire(BASE, "GET", f"/{number}", {})
    assert len(one._cache) <= 1024
    for number in range(20):
        one.wire(BASE, "POST", f"/large/{number}", {"data": b"x" * (2 << 20)})
    assert sum(len(wire.head) + len(wire.tail) for wire in one._cache.values()) == one._cache_bytes <= 16 << 20
