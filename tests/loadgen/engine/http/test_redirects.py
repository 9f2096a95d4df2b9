"""A redirect is followed as `requests` follows it: the same requests, to the same hosts, with the same end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.engine.http.redirects import RedirectError, next_hop
from loadgen.engine.http.request import Preparer
from loadgen.engine.http.wire_request import WireRequest
from loadgen.protocol.request_ids import request_id
from tests.support.echo_server import EchoServer, Received, answer
from tests.support.examples import examples

ID_HEADER = "X-Request-Id"
OWN = ("user-agent", "x-request-id")
ANSWERS: dict[str, bytes] = {}  # by path


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    def respond(received: Received) -> bytes:
        response = ANSWERS.get(received.target.partition("?")[0], answer(200, b""))
        return response.replace(b"$PORT", b"%d" % running.port)

    with EchoServer(respond) as running:
        yield running


def prepared(
    server: EchoServer, method: str, path: str, kwargs: dict[str, Any], id_header: str = "X-Request-Id"
) -> WireRequest:
    return Preparer(id_header, "group", 30).prepare(f"http://{server.host}", method, path, kwargs)


def exchange(host: str, wire: WireRequest) -> bytes:
    """The head of the response to a request."""
    name, _, port = host.rpartition(":")
    with socket.create_connection((name, int(port)), timeout=10) as sock:
        sock.sendall(wire.numbered(3, 9))
        received = b""
        while not received.partition(b"\r\n\r\n")[1]:
            received += sock.recv(65536)
    return received


def follow(server: EchoServer, wire: WireRequest) -> int | str:
    """The status at the end of the redirects, or that they do not end well."""
    host = server.host
    while True:
        head = exchange(host, wire)
        status = int(head.split(b" ", 2)[1])
        if wire.redirects is None:
            return status
        try:
            hop = next_hop(wire, head)
        except RedirectError:
            return "not followed"
        if hop is None:
            return status
        host, wire = hop


def through_requests(server: EchoServer, method: str, path: str, kwargs: dict[str, Any]) -> int | str:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.request(method, f"http://{server.host}{path}", **kwargs).status_code
        except (requests.TooManyRedirects, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
            return "not followed"


def compare(server: EchoServer, method: str, kwargs: dict[str, Any]) -> list[Received]:
    theirs = through_requests(server, method, "/0", kwargs)
    expected = server.take()
    assert follow(server, prepared(server, method, "/0", kwargs)) == theirs
    received = server.take()
    assert [one.essence(*OWN) for one in received] == [one.essence(*OWN) for one in expected]
    return received


# Where a redirect of path /n leads: mostly to /n+1, in all the ways in which that can be said.
places = st.sampled_from([
    "/{next}", "{next}", "./{next}", "../{next}", "/a/../{next}", "/{next}?q=a b", "/{next}#part", "/{next}?é=ü%zz",
    "http://127.0.0.1:$PORT/{next}", "http://127.0.0.2:$PORT/{next}", "//127.0.0.2:$PORT/{next}",
    "http://user:pw@127.0.0.2:$PORT/{next}", "HTTP://127.0.0.1:$PORT/{next}", "?again", "", "ftp://127.0.0.1/{next}",
    "http://:80:/",
])  # fmt: skip
cookies = st.sampled_from([None, "a=1", "b=2; Path=/1", "c=3; Domain=127.0.0.2", "a=; Max-Age=0", "s=4; Secure"])
hops = st.tuples(st.sampled_from([301, 302, 303, 307, 308, 300, 304]), places, cookies)


@pytest.mark.slow
@settings(max_examples=examples(200), derandomize=True, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"]),
    kwargs=st.fixed_dictionaries(
        {},
        optional={
            "data": st.sampled_from([b"body", "téxt", {"a": "b"}]),
            "params": st.just({"p": "1"}),
            "headers": st.sampled_from([
                {"Authorization": "Own"}, {"Host": "virtual.example"}, {"Cookie": "own=1"}, {"X-A": "b"},
            ]),
            "cookies": st.just({"mine": "yes"}),
            "auth": st.just(("user", "password")),
            "allow_redirects": st.sampled_from([True, True, False]),
        },
    ),
    chain=st.lists(hops, min_size=1, max_size=4),
)  # fmt: skip
def test_a_chain_of_redirects_is_followed_as_requests_does(
    server: EchoServer, method: str, kwargs: dict[str, Any], chain: list[tuple[int, str, str | None]]
) -> None:
    ANSWERS.clear()
    for number, (status, place, cookie) in enumerate(chain):
        headers = [f"Location: {place.format(next=number + 1)}", *([f"Set-Cookie: {cookie}"] if cookie else [])]
        ANSWERS[f"/{number}"] = answer(status, b"", *headers)
    compare(server, method, kwargs)


def test_each_hop_has_an_id_of_its_own_that_names_its_arrival(server: EchoServer) -> None:
    ANSWERS.update({"/0": answer(302, b"", "Location: /1"), "/1": answer(307, b"", "Location: /2"), "/2": answer(200)})
    assert follow(server, prepared(server, "GET", "/0", {})) == 200
    assert [one.header("x-request-id") for one in server.take()] == [
        request_id("group", 3, 9) + end for end in ("", "-1", "-2")
    ]


def test_without_an_id_header_a_hop_has_none(server: EchoServer) -> None:
    ANSWERS.update({"/0": answer(307, b"", "Location: /1"), "/1": answer(200)})
    assert follow(server, prepared(server, "POST", "/0", {"data": b"x"}, id_header="")) == 200
    received = server.take()
    assert [(one.target, one.body) for one in received] == [("/0", b"x"), ("/1", b"x")]
    assert not any(one.header("x-request-id") for one in received)


def test_the_thirty_first_redirect_is_not_followed(server: EchoServer) -> None:
    ANSWERS.clear()
    ANSWERS.update({"/0": answer(302, b"", "Location: /0")})
    assert len(compare(server, "GET", {})) == 31


def test_a_response_that_is_no_redirect_leads_nowhere(server: EchoServer) -> None:
    wire = prepared(server, "GET", "/", {})
    for head in (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"HTTP/1.1 301 Moved\r\nX: y\r\n\r\n", answer(200, b"x")):
        assert next_hop(wire, head) is None


def test_a_hop_to_https_has_the_ports_and_the_options_of_tls(server: EchoServer) -> None:
    wire = prepared(server, "GET", "/", {"verify": False})
    secure = next_hop(wire, answer(301, b"", "Location: https://127.0.0.1/x"))
    assert secure is not None
    assert (secure.host, secure.wire.tls is not None and secure.wire.tls.verify) == ("127.0.0.1:443", False)
    back = next_hop(secure.wire, answer(301, b"", "Location: http://[::1]/x"))
    assert back is not None
    assert (back.host, back.wire.tls) == ("[::1]:80", None)


def test_a_head_is_known_from_its_final_response(server: EchoServer) -> None:
    wire = prepared(server, "HEAD", "/", {})
    hop = next_hop(wire, answer(302, b"", "Location: /x"))
    assert hop is not None
    assert hop.wire.bodiless
    assert hop.wire.head.startswith(b"HEAD /x ")
