"""Cookie jars: what they keep of a response, and what they add to a request, without a network."""

from __future__ import annotations

import http.client
import io
from http.cookiejar import CookieJar
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.cookies import extract_cookies_to_jar

from loadgen.engine.http.cookies import MAX_COOKIE_BYTES, MAX_COOKIES, CookieJars
from loadgen.engine.http.request import Preparer
from loadgen.engine.http.wire_request import WireRequest
from tests.support.examples import examples

NODE = "node-1:8080"
SESSION = b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=1; Path=/\r\n\r\n"


def wire(path: str = "/", host: str = NODE, **headers: str) -> WireRequest:
    return Preparer("X-Request-Id", "group", 30).prepare(f"http://{host}", "GET", path, {"headers": headers})


def cookies_of(request: WireRequest) -> str:
    _, _, rest = request.head.partition(b"\r\nCookie: ")
    return rest.partition(b"\r\n")[0].decode()


def test_cookie_is_sent_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr("http.cookiejar.time.time", lambda: now_s)
    jars = CookieJars({"node-1"})
    jars.store(0, wire(), b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Max-Age=60\r\n\r\n")
    assert cookies_of(jars.applied(0, wire())) == "a=1"
    now_s += 61
    assert cookies_of(jars.applied(0, wire())) == ""


@pytest.mark.parametrize("header", ["X-Request-Id", "traceparent", ""])
def test_request_keeps_its_id(header: str) -> None:
    plain = Preparer(header, "group", 30).prepare(f"http://{NODE}", "POST", "/", {"data": "body"})
    jars = CookieJars({"node-1"})
    jars.store(0, plain, SESSION)
    lines = plain.numbered(3, 9).split(b"\r\n")
    lines.insert(-3 if header else -2, b"Cookie: sid=1")
    assert jars.applied(0, plain).numbered(3, 9).split(b"\r\n") == lines


steps = st.tuples(
    st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b?q=1", "/ab", "/%41/b", "/c;x=1/d"]),
    st.lists(
        st.builds(
            "{}{}{}{}".format,
            st.sampled_from(["n=1", "n=2", "m=1", 'm="q q"', "m", "=v", "n=1,2", ""]),
            st.sampled_from(["", "; Path=/", "; Path=/a", "; path=/a/b", "; Path=c", "; Path"]),
            st.sampled_from(
                ["", "; Secure", "; Domain=127.0.0.1", "; Domain=.0.1", "; Domain=example.com", "; Domain"]
            ),
            st.sampled_from(
                ["", "; Max-Age=0", "; max-age=9", "; Max-Age=-1", "; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
            ),
        ),
        max_size=3,
    ),
)


@settings(max_examples=examples(100), derandomize=True, deadline=None)
@given(st.lists(steps, max_size=6), st.sampled_from(["http", "https"]))
def test_jar_of_one_host_is_that_of_requests(visits: list[tuple[str, list[str]]], scheme: str) -> None:
    preparer, session, jars = Preparer("X-Request-Id", "group", 30), requests.Session(), CookieJars({"127.0.0.1"})
    for path, values in visits:
        theirs = session.prepare_request(requests.Request("GET", f"{scheme}://127.0.0.1:80{path}"))
        ours = preparer.prepare(f"{scheme}://127.0.0.1:80", "GET", path, {})
        assert cookies_of(jars.applied(0, ours)) == theirs.headers.get("Cookie", "")
        head = b"HTTP/1.1 200 OK\r\n%b\r\n" % b"".join(f"Set-Cookie: {value}\r\n".encode() for value in values)
        jars.store(0, ours, head)
        message = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))
        response = SimpleNamespace(_original_response=SimpleNamespace(msg=message))
        extract_cookies_to_jar(session.cookies, theirs, response)


def test_cookies_beyond_the_limit_replace_the_oldest() -> None:
    jars = CookieJars({"node-1"})
    for number in [*range(MAX_COOKIES), 0, MAX_COOKIES]:
        jars.store(0, wire(), f"HTTP/1.1 200 OK\r\nSet-Cookie: c{number}=x\r\n\r\n".encode())
    names = {pair.partition("=")[0] for pair in cookies_of(jars.applied(0, wire())).split("; ")}
    assert names == {f"c{number}" for number in range(MAX_COOKIES + 1)} - {"c1"}


def test_changes_apply_to_requests_that_were_made_before() -> None:
    nodes = {"node-1"}
    jars = CookieJars(nodes)
    for value in ("1", "2"):
        jars.store(0, wire(), f"HTTP/1.1 200 OK\r\nSet-Cookie: sid={value}; Path=/\r\n\r\n".encode())
        for path in ["/", *(f"/{number}" for number in range(20)), "/"]:
            assert cookies_of(jars.applied(0, wire(path))) == f"sid={value}"
    assert cookies_of(jars.applied(0, wire(host="node-2"))) == ""
    nodes.add("node-2")
    assert cookies_of(jars.applied(0, wire(host="node-2"))) == "sid=2"


@pytest.mark.parametrize(("path", "calls"), [("/", 2), ("/1", 303)])
def test_cookies_of_the_whole_site_are_chosen_once(monkeypatch: pytest.MonkeyPatch, path: str, calls: int) -> None:
    """For all paths of a host; where a cookie has a path of its own, they are chosen for each request."""
    chosen: list[Any] = []
    choose = CookieJar.add_cookie_header

    is_counting = False  # `requests` makes each request with a jar of its own

    def counted(jar: CookieJar, request: Any) -> None:
        if is_counting:
            chosen.append(request)
        choose(jar, request)

    monkeypatch.setattr(CookieJar, "add_cookie_header", counted)
    jars = CookieJars({"node-1"})
    jars.store(0, wire(), SESSION)
    jars.store(0, wire(), f"HTTP/1.1 200 OK\r\nSet-Cookie: more=2; Path={path}\r\n\r\n".encode())
    for number in range(101):
        own = "sid=1; more=2" if path == "/" else "more=2; sid=1" if number == 1 else "sid=1"
        requests_of_path = wire(f"/{number}"), wire(f"/{number}", host="other"), wire(f"/{number}", Cookie="sid=own")
        is_counting = True
        assert [cookies_of(jars.applied(0, one)) for one in requests_of_path] == [
            own, "", "sid=own" + "; more=2" * ("more" in own),
        ]  # fmt: skip
        is_counting = False
    assert len(chosen) == calls


def test_deleted_cookies_make_room() -> None:
    jars = CookieJars({"node-1"})
    jars.store(0, wire(), SESSION)
    for number in range(2 * MAX_COOKIES):
        for rest in ("", "; Max-Age=0"):
            jars.store(0, wire(), f"HTTP/1.1 200 OK\r\nSet-Cookie: c{number}=x{rest}\r\n\r\n".encode())
    assert cookies_of(jars.applied(0, wire())) == "sid=1"


@pytest.mark.costly
def test_jar_keeps_nothing_of_paths_and_domains_without_cookies() -> None:
    jars = CookieJars({"node-1"})
    jars.store(0, wire(), SESSION)
    for number in range(1500):
        host = f"d{number % 200}.example"
        values = [f"c=x; Path=/{number}" + f"; Domain={host}" * (number % 2)]
        if number % 3 == 0:
            values.append(values[0] + "; Max-Age=0")
        head = "".join(f"Set-Cookie: {value}\r\n" for value in values)
        jars.store(0, wire(f"/{number}", Host=host), f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
    domains: dict[str, dict[str, dict[str, Any]]] = vars(jars._jars[0])["_cookies"]
    assert sum(len(names) for paths in domains.values() for names in paths.values()) == MAX_COOKIES
    assert all(paths and all(paths.values()) for paths in domains.values())


@pytest.mark.parametrize("value", ["x" * MAX_COOKIE_BYTES, "a\tb", "a\r\n b"])
def test_large_or_unprintable_cookies_are_not_stored(value: str) -> None:
    jars = CookieJars({"node-1"})
    jars.store(0, wire(), f"HTTP/1.1 200 OK\r\nSet-Cookie: sid={value}; Path=/\r\n\r\n".encode())
    assert len(jars) == 0


def test_cookies_of_other_hosts_are_sent_to_them_alone() -> None:
    jars = CookieJars({"node-1", "[::1]"})
    jars.store(0, wire(host="auth.example:9000"), SESSION)
    for host, cookies in {"auth.example": "sid=1", NODE: "", "[::1]:80": "", "other.example": ""}.items():
        assert cookies_of(jars.applied(0, wire(host=host))) == cookies


def test_cookies_with_a_domain_are_sent_to_its_hosts() -> None:
    jars = CookieJars({"a.shop.example", "b.shop.example", "node-1"})
    jars.store(
        0,
        wire(host="a.shop.example"),
        b"HTTP/1.1 200 OK\r\nSet-Cookie: wide=1; Domain=shop.example\r\nSet-Cookie: bad=1; Domain=other.example\r\n"
        b"Set-Cookie: worse=1; Domain=service.invalid\r\nSet-Cookie: sid=1\r\n\r\n",
    )
    expected = {"b.shop.example": {"wide=1", "sid=1"}, NODE: {"sid=1"}, "login.shop.example": {"wide=1"}}
    for host, cookies in expected.items():
        assert set(cookies_of(jars.applied(0, wire(host=host))).split("; ")) == cookies


def test_own_host_header_is_the_host_of_the_cookies() -> None:
    jars = CookieJars({"node-1"})
    jars.store(0, wire(Host="shop.example"), b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=1; Domain=shop.example\r\n\r\n")
    assert cookies_of(jars.applied(0, wire(Host="www.shop.example"))) == "sid=1"
    assert cookies_of(jars.applied(0, wire())) == ""


@pytest.mark.parametrize("host", ["", "[", "[1]", "a b", "user@host", "h\xfc", "a/b"])
def test_unusable_host_header_counts_as_the_service(host: str) -> None:
    jars = CookieJars({"node-1"})
    request = wire()._replace(head=wire().head.replace(b"Host: node-1:8080", f"Host: {host}".encode("latin-1")))
    jars.store(0, request, SESSION)
    assert cookies_of(jars.applied(0, request)) == cookies_of(jars.applied(0, wire())) == "sid=1"
