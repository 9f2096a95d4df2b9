"""A prepared request is what `requests` would have sent, with the request id in it."""

from __future__ import annotations

import io
from typing import Any

import httptools
import pytest
import requests
from requests.auth import AuthBase, HTTPDigestAuth

from loadgen.engine.errors import AppError
from loadgen.engine.http.request import Preparer
from loadgen.engine.http.wire_request import WireRequest
from loadgen.protocol.request_ids import IdForm, request_id

BASE = "http://pi:8080"
ID = request_id("group", 3, 9)


class Parsed:
    """What a server reads from a wire."""

    def __init__(self, wire: WireRequest, client: int = 3, sequence: int = 9) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(wire.numbered(client, sequence))
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
    return Preparer("X-Request-Id", "group", timeout_s)


def prepare(method: Any = "GET", endpoint: Any = "/", base: str = BASE, **kwargs: Any) -> Parsed:
    parsed = Parsed(preparer().prepare(base, method, endpoint, kwargs))
    assert parsed.complete
    return parsed


def test_a_plain_request_carries_its_host_and_its_id() -> None:
    parsed = prepare(endpoint="/a/b")
    assert (parsed.method, parsed.url, parsed.body) == (b"GET", b"/a/b", b"")
    assert parsed.headers["Host"] == "pi:8080"
    assert parsed.headers["X-Request-Id"] == ID


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
def test_keywords_have_the_meaning_of_requests(method: str, kwargs: dict[str, Any]) -> None:
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
    assert parsed.headers == {**headers, "Host": "pi:8080", "X-Request-Id": ID}


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
    headers = prepare(headers={"host": "virtual.example"}).headers
    assert headers["host"] == "virtual.example"
    assert "Host" not in headers


def test_an_apps_own_id_header_does_not_replace_the_id() -> None:
    assert prepare(headers={"x-request-id": "mine"}).headers["X-Request-Id"] == ID


def test_head_has_a_response_without_a_body() -> None:
    assert preparer().prepare(BASE, "head", "/", {}).bodiless
    assert not preparer().prepare(BASE, "GET", "/", {}).bodiless


@pytest.mark.parametrize(
    ("timeout", "timeout_s", "connect_timeout_s"),
    [(0.5, 0.5, 0.5), (None, 30, None), ((1, 2), 2, 1), ([1, 2], 2, 1), ((None, 2), 2, None), ((1, None), 30, 1)],
)
def test_a_time_out_of_its_own_replaces_the_workloads(
    timeout: Any, timeout_s: float, connect_timeout_s: float | None
) -> None:
    wire = preparer(30).prepare(BASE, "GET", "/", {"timeout": timeout})
    assert (wire.timeout_ns, wire.connect_timeout_s) == (timeout_s * 10**9, connect_timeout_s)


def test_redirects_are_followed_unless_they_are_forbidden() -> None:
    followed = preparer().prepare(BASE, "GET", "/", {}).redirects
    assert followed is not None
    assert (followed.origin, followed.hops, followed.own_host) == (BASE, 0, False)
    assert preparer().prepare(BASE, "GET", "/", {"allow_redirects": False}).redirects is None
    host = preparer().prepare(BASE, "GET", "/", {"headers": {"Host": "x"}}).redirects
    assert host is not None
    assert host.own_host


def test_keywords_that_change_nothing_are_accepted() -> None:
    assert prepare(stream=True, verify=None, proxies={}, cert=None, hooks={"response": []}).complete


def test_without_an_id_header_the_request_has_no_id() -> None:
    for _ in range(2):  # from the library, then from a template
        wire = NAMELESS.prepare(BASE, "POST", "/", {"json": 1})
        assert wire.id_form is IdForm.NONE
        parsed = Parsed(wire)
        assert parsed.complete
        assert "X-Request-Id" not in parsed.headers
        assert parsed.body == b"1"


NAMELESS = Preparer("", "group", 30)


def test_ids_take_the_form_of_a_trace_context() -> None:
    traced = Preparer("traceparent", "group", 30)
    for path in ("/first", "/second"):  # from the library, then from a template
        parsed = Parsed(traced.prepare(BASE, "POST", path, {"json": 1, "headers": {"X-Own": "1"}}), 3, 9)
        assert (parsed.url, parsed.body, parsed.complete) == (path.encode(), b"1", True)
        assert parsed.headers["traceparent"] == request_id("group", 3, 9, IdForm.TRACEPARENT)


def test_a_body_of_unknown_length_is_sent_in_chunks() -> None:
    parsed = prepare("POST", data=iter([b"one", b"", b"two"]))
    assert parsed.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in parsed.headers
    assert parsed.body == b"onetwo"


def test_a_text_file_is_sent_with_the_length_of_its_bytes() -> None:
    parsed = prepare("POST", data=io.StringIO("äöü"))
    assert (parsed.headers["Content-Length"], parsed.body) == ("6", "äöü".encode())


@pytest.mark.parametrize(
    ("method", "endpoint", "kwargs", "named"),
    [
        ("GET", "/", {"proxies": {"http": "http://proxy"}}, "proxies"),
        ("GET", "/", {"cert": 5}, "cert"),
        ("GET", "/", {"cert": ("a", "b", "c")}, "cert"),
        ("GET", "/", {"hooks": {"response": print}}, "hooks"),
        ("GET", "/", {"verify": 1}, "verify"),
        ("GET", "/", {"verify": ""}, "verify"),
        ("GET", "/", {"colour": "red"}, "colour"),
        ("GET", "/", {"timeout": 0}, "timeout"),
        ("GET", "/", {"timeout": (1, 2, 3)}, "timeout"),
        ("GET", "/", {"timeout": (1, True)}, "timeout"),
        ("GET", "/", {"timeout": float("nan")}, "timeout"),
        ("GET", "/", {"auth": HTTPDigestAuth("user", "password")}, "auth"),
        ("POST", "/", {"data": iter([object()])}, "cannot be prepared"),
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
        preparer().prepare(BASE, method, endpoint, kwargs)


def test_equal_requests_that_are_not_plain_are_prepared_once() -> None:
    one = preparer()
    first = one.prepare(BASE, "POST", "/ä", {"data": b"x" * 100, "headers": {"A": "b"}})
    assert one.prepare(BASE, "POST", "/ä", {"data": b"x" * 100, "headers": {"A": "b"}}) is first
    assert one.prepare("http://other", "POST", "/ä", {"data": b"x" * 100, "headers": {"A": "b"}}) is not first


def test_a_large_body_is_found_rather_than_copied() -> None:
    one, body = preparer(), b"x" * 100_000
    assert one.prepare(BASE, "POST", "/", {"data": body}) is one.prepare(BASE, "POST", "/", {"data": body})


def test_a_changed_dictionary_is_another_request() -> None:
    one = preparer()
    headers = {"A": "b", "B": "ü"}
    first = one.prepare(BASE, "GET", "/", {"headers": headers})
    headers["A"] = "c"
    assert b"A: c" in one.prepare(BASE, "GET", "/", {"headers": headers}).head
    assert b"A: b" in first.head


def test_the_templates_of_plain_requests_are_bounded() -> None:
    one = preparer()
    for number in range(1100):
        one.prepare(BASE, "GET", "/", {"headers": {f"X-{number}": "y"}})
    assert len(one._plain._templates) <= 512


def test_headers_with_a_meaning_of_their_own_have_no_template() -> None:
    one = preparer()
    for name in ("Host", "Cookie", "x-request-id", "Content-Length"):
        one.prepare(BASE, "GET", "/", {"headers": {name: "1"}})
    assert set(one._plain._templates.values()) == {None}


@pytest.mark.parametrize(
    ("one", "other"),
    [({"n": 1}, {"n": True}), ({"n": 1}, {"n": 1.0}), ({"n": [1]}, {"n": (1, 2)}), ({"n": "1"}, {"n": 1})],
)
def test_equal_values_of_different_types_are_different_requests(one: dict[str, Any], other: dict[str, Any]) -> None:
    both = preparer()
    for path in ("/", "/ä"):  # plain, and one that is kept
        first = both.prepare(BASE, "POST", path, {"json": one})
        assert both.prepare(BASE, "POST", path, {"json": other}).tail != first.tail


def test_an_open_file_is_read_each_time() -> None:
    one = preparer()
    tails = {one.prepare(BASE, "POST", "/", {"data": io.BytesIO(text)}).tail for text in (b"first", b"again")}
    assert tails == {b"\r\n\r\nfirst", b"\r\n\r\nagain"}


def test_the_cache_of_prepared_requests_is_bounded() -> None:
    one = preparer()
    for number in range(1100):
        one.prepare(BASE, "GET", f"/ä{number}", {})
    assert len(one._cache) <= 1024
    for number in range(20):
        one.prepare(BASE, "POST", f"/large/{number}", {"data": b"x" * (2 << 20)})
    assert sum(len(wire.head) + len(wire.tail) for wire in one._cache.values()) == one._cache_bytes <= 16 << 20
