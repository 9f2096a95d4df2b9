"""The engine's requests are those of `requests`, byte for byte but for the order of headers, and end alike."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loadgen.engine.errors import AppError
from loadgen.engine.http.request import Preparer
from loadgen.engine.http.wire_request import WireRequest
from loadgen.engine.stalls import AppTime
from loadgen.protocol.enums import CookieMode
from loadgen.protocol.messages import GroupDocument
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.echo_server import EchoServer, Received, answer
from tests.support.examples import examples

CASES = 400
# The engine has a name and an id of its own; all requests go to one host.
OWN = ("host", "user-agent", "x-request-id")


@dataclass(frozen=True)
class Case:
    """A call; `kwargs` makes its keywords anew each time, as some can be read only once."""

    method: str
    endpoint: str
    kwargs: Callable[[], dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.method} {self.endpoint!r} {self.kwargs()!r}"


class Cases:
    """A request source with one case per arrival."""

    is_static = wants_responses = False
    cookie_mode: CookieMode | None = None

    def __init__(self, cases: Sequence[Case], preparer: Preparer, base_url: Callable[[str], str]) -> None:
        self.app_time = AppTime()
        self._cases = iter(cases)
        self._preparer = preparer
        self._base_url = base_url

    async def prepare(self) -> None:
        return

    def next_request(self, client: int, host: str) -> WireRequest:
        case = next(self._cases)
        return self._preparer.prepare(self._base_url(host), case.method, case.endpoint, case.kwargs())

    def on_response(self, client: int, status: int, data: bytes, history: tuple[bytes, ...]) -> None:
        return

    def close(self) -> None:
        return


class Templates:
    """Tells when a preparer writes a request from a template: the first of each shape it leaves to `requests`."""

    def __init__(self, preparer: Preparer) -> None:
        self._plain = preparer._plain
        self._make = self._plain._make
        self._plain._make = self._count
        self.firsts = 0

    def _count(self, *request: Any) -> WireRequest:
        self.firsts += 1
        return self._make(*request)

    def prime(self, base_url: str, method: str, kwargs: dict[str, Any]) -> None:
        """Has a request of the same shape made, with other contents."""
        sibling = dict(kwargs)
        for name, other in (("json", [1]), ("params", {"other": 1})):
            if name in kwargs:
                sibling[name] = other
        if type(kwargs.get("headers")) is dict:
            sibling["headers"] = dict.fromkeys(kwargs["headers"], "other")
        if "data" in kwargs:
            others = {bytes: b"other", str: "other", dict: {"other": 1}}
            sibling["data"] = others.get(type(kwargs["data"]))
        with suppress(AppError):
            self._plain.request(base_url, method, "/200/other", sibling)

    def knows(self, base_url: str, method: str, endpoint: str, kwargs: dict[str, Any]) -> bool:
        """Whether this request is written from a template."""
        before = self.firsts
        return self._plain.request(base_url, method, endpoint, kwargs) is not None and self.firsts == before


ascii_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(any_text, ascii_text, st.integers(), st.floats(allow_nan=False), st.booleans())
plain_paths = st.text("abcXYZ019._~-/:@!$&'()*+,;=?", max_size=16)
nasty_paths = st.text('ab/.%?#[]{}|\\^`"<> ~+é☃=&;41', max_size=16)
endpoints = st.builds(
    lambda status, path: f"/{status}/{path}",
    st.sampled_from([200, 200, 200, 204, 301, 304, 404, 503]),
    plain_paths | nasty_paths,
)
fields = st.one_of(
    st.dictionaries(ascii_text | any_text, scalars | st.none() | st.lists(scalars, max_size=3), max_size=3),
    st.lists(st.tuples(any_text, any_text), max_size=3),
)
values = st.text("abc XYZ;,=/\"'012é\t", max_size=10).map(str.strip) | st.binary(max_size=3).map(bytes.hex)
headers = st.dictionaries(
    st.sampled_from(["X-One", "x-two", "Accept", "Content-Type", "accept-encoding", "Cookie", "Referer", "User-Agent"]),
    values | values.map(lambda value: value.encode("latin-1")) | st.none(),
    max_size=3,
)
# JSON has no infinity: `requests` refuses it, and so do we.
json_values = st.recursive(
    scalars.filter(lambda value: not isinstance(value, float) or math.isfinite(value)) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
bodies: st.SearchStrategy[Callable[[], Any]] = st.one_of(
    st.one_of(any_text, st.binary(max_size=40), fields, st.binary(min_size=17000, max_size=17001)).map(
        lambda body: lambda: body
    ),
    st.binary(max_size=40).map(lambda body: lambda: io.BytesIO(body)),
    st.lists(st.binary(max_size=9), max_size=3).map(lambda parts: lambda: iter(parts)),
)
files = st.dictionaries(
    st.sampled_from(["one", "two"]),
    st.one_of(
        st.binary(max_size=20),
        ascii_text,
        st.tuples(ascii_text, st.binary(max_size=9)),
        st.tuples(st.just("n.png"), st.binary(max_size=9), st.just("image/png")),
    ),
    max_size=2,
)
others = st.fixed_dictionaries(
    {},
    optional={
        "params": st.one_of(fields, ascii_text, ascii_text.map(str.encode)),
        "headers": headers,
        "cookies": st.dictionaries(st.sampled_from(["a", "b", "session"]), ascii_text, max_size=2),
        "auth": st.tuples(ascii_text, ascii_text),
        "timeout": st.sampled_from([5, 2.5, (3, 4), (None, 5), None]),
        "allow_redirects": st.booleans(),
        "stream": st.booleans(),
        "verify": st.booleans(),
    },
)
# One keyword for the body is plain; two of them are the rarer case.
contents = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"data": bodies}),
    st.fixed_dictionaries({"json": json_values.map(lambda value: lambda: value)}),
    st.fixed_dictionaries({"files": files.map(lambda value: lambda: value)}),
    st.fixed_dictionaries({"data": bodies, "json": json_values.map(lambda value: lambda: value)}),
    st.fixed_dictionaries({"data": fields.map(lambda value: lambda: value), "files": files.map(lambda f: lambda: f)}),
)


def as_case(method: str, endpoint: str, chosen: dict[str, Any], content: dict[str, Callable[[], Any]]) -> Case:
    return Case(method, endpoint, lambda: {**chosen, **{name: make() for name, make in content.items()}})


cases = st.builds(
    as_case,
    st.sampled_from(["GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "get", "Purge"]),
    endpoints,
    others,
    contents,
)


@cache
def generated() -> list[Case]:
    """The same cases each time, also where hypothesis has a database of its own."""
    drawn: list[Case] = []

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    return drawn


def by_status(received: Received) -> bytes:
    status = received.target.split("/")[1]
    if status in ("204", "304"):
        return f"HTTP/1.1 {status} No Body\r\n\r\n".encode()
    return answer(int(status) if status in ("301", "404", "503") else 200, b"" if received.method == "HEAD" else b"ok")


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer(by_status) as running:
        yield running


def through_requests(server: EchoServer, case: Case) -> tuple[Received, int] | None:
    """What came of the call, and its status; None if `requests` refuses it."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            status = session.request(case.method, f"http://{server.host}{case.endpoint}", **case.kwargs()).status_code
        except (requests.RequestException, ValueError, TypeError, AttributeError, NotImplementedError):
            assert server.take() == []
            return None
    (received,) = server.take()
    return received, status


@pytest.mark.slow
def test_the_engine_sends_what_requests_sends(run: Run[Result], server: EchoServer) -> None:
    drawn = generated()
    preparer = Preparer("X-Request-Id", "group", 30)
    sent: list[Case] = []
    expected: list[tuple[Received, int]] = []
    base_url, templates = f"http://{server.host}", Templates(preparer)
    for case in drawn:
        outcome = through_requests(server, case)
        if outcome is None:
            with pytest.raises(AppError):
                preparer.prepare(base_url, case.method, case.endpoint, case.kwargs())
            continue
        templates.prime(base_url, case.method, case.kwargs())
        sent.append(case)
        expected.append(outcome)
    assert len(sent) >= 200
    primed = templates.firsts

    def source(document: GroupDocument, clients: Sequence[int], base_url: Callable[[str], str]) -> Cases:
        return Cases(sent, preparer, base_url)

    result = run(play(build(server.host, clients=1, rate=1000, duration=len(sent) / 1000, source=source)))
    assert result.outcomes() == {Outcome.COMPLETED: len(sent)}
    received = {one.header("x-request-id"): one for one in server.take()}
    assert set(received) == {request_id("group", 0, number) for number in range(len(sent))}
    statuses = {row.sequence: row.status for row in result.rows}
    for number, (case, (theirs, status)) in enumerate(zip(sent, expected, strict=True)):
        assert received[request_id("group", 0, number)].essence(*OWN) == theirs.essence(*OWN), str(case)
        assert statuses[number] == status, str(case)
    firsts = templates.firsts - primed
    known = sum(templates.knows(base_url, case.method, case.endpoint, case.kwargs()) for case in sent)
    assert known - firsts >= 50  # the templates, too, are proved


def test_a_template_gives_what_the_library_would_give() -> None:
    base_url = "http://pi:8080/service"
    preparer = Preparer("X-Request-Id", "group", 30)
    templates = Templates(preparer)
    known = 0

    @settings(max_examples=examples(300), derandomize=True, deadline=None)
    @given(
        st.sampled_from(["GET", "POST"]),
        plain_paths.map("/".__add__) | nasty_paths.map("/".__add__),
        st.none() | st.dictionaries(any_text, scalars, max_size=3),
        st.none() | st.dictionaries(st.sampled_from(["X-One", "Accept", "Content-Type"]), values, max_size=2),
        st.one_of(
            st.just({}),
            st.fixed_dictionaries({"data": any_text | st.binary() | st.dictionaries(ascii_text, scalars, min_size=1)}),
            st.fixed_dictionaries({"json": json_values}),
        ),
    )
    def compare(method: str, endpoint: str, params: Any, headers: Any, content: dict[str, Any]) -> None:
        nonlocal known
        kwargs = {"params": params, "headers": headers, **content}
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        templates.prime(base_url, method, kwargs)
        ours = preparer.prepare(base_url, method, endpoint, kwargs)
        known += templates.knows(base_url, method, endpoint, kwargs)
        slow = preparer._prepare(base_url, method, endpoint, kwargs)
        assert sorted(ours.head.split(b"\r\n")) == sorted(slow.head.split(b"\r\n"))
        assert ours.head.rpartition(b"\r\n")[2] == b"X-Request-Id: galileo-request-group-"
        assert ours._replace(head=b"") == slow._replace(head=b"", redirects=ours.redirects)

    compare()
    assert known >= examples(50)
