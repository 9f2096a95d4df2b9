"""Clients with `cookies: keep` send the cookies that they were sent, as a session of `requests` does."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from loadgen.engine import Engine
from loadgen.protocol.enums import CookieMode
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, finish, play
from tests.support.certificates import make_certificates
from tests.support.echo_server import EchoServer, Received, answer

pytestmark = pytest.mark.slow

KEEP = CookieMode.KEEP
Sent = list[tuple[str, str]]


def closed(host: str, requests_per_client: int, **workload: Any) -> Engine:
    """An engine whose clients send so many requests each, one after the other."""
    settings = {"clients": 1, "model": "closed", "requests_per_client": requests_per_client, "cookies": KEEP}
    settings["schedule"] = [[5.0, float(workload.get("clients", 1))]]
    return build(host, **{**settings, **workload})


def sent(server: EchoServer) -> Sent:
    """Target and cookies of each request, in the order in which they came."""
    return [(one.target, one.header("cookie")) for one in server.take()]


def completed(result: Result, count: int) -> None:
    assert (result.reason, result.outcomes()) == ("", {Outcome.COMPLETED: count})


def write_app(folder: Path, generator: str, manifest: str = "") -> Path:
    (folder / "app").mkdir()
    (folder / "app" / "generator.py").write_text(textwrap.dedent(generator))
    (folder / "app" / "manifest.yml").write_text(manifest)
    return folder


class Pages:
    """Responds with the headers of a path."""

    def __init__(self, pages: dict[str, tuple[str, ...]]) -> None:
        self.pages = pages

    def __call__(self, received: Received) -> bytes:
        headers = self.pages.get(received.target, ())
        status = 302 if any(header.startswith("Location:") for header in headers) else 200
        return answer(status, b"ok", *headers)


def visit(*paths: str, keywords: str = "{}") -> str:
    """A client app that requests these paths, again and again."""
    return f"""
        import itertools
        paths = itertools.cycle({paths!r})
        def next_request():
            return "get", next(paths), {keywords}
    """


# --- Requests one after the other


def test_session_cookie_is_sent_with_later_requests(run: Run[Result]) -> None:
    with EchoServer(Pages({"/": ("Set-Cookie: sid=1; Path=/; HttpOnly",)})) as server:
        completed(run(play(closed(server.host, 3))), 3)
        assert sent(server) == [("/", ""), ("/", "sid=1"), ("/", "sid=1")]


def test_open_model_and_new_connections_keep_cookies(run: Run[Result]) -> None:
    with EchoServer(Pages({"/": ("Set-Cookie: sid=1",)})) as server:
        engine = build(server.host, clients=1, rate=10, duration=0.3, connection="new", cookies=KEEP)
        completed(run(play(engine)), 3)
        assert sent(server) == [("/", ""), ("/", "sid=1"), ("/", "sid=1")]


@pytest.mark.parametrize("mode", [None, CookieMode.IGNORE])
def test_cookies_are_not_kept_by_default(run: Run[Result], mode: CookieMode | None) -> None:
    with EchoServer(Pages({"/": ("Set-Cookie: sid=1",)})) as server:
        completed(run(play(closed(server.host, 3, cookies=mode))), 3)
        assert sent(server) == [("/", "")] * 3


def test_clients_have_separate_jars(run: Run[Result]) -> None:
    def respond(received: Received) -> bytes:
        _, client, sequence = received.header("x-request-id").rsplit("-", 2)
        return answer(200, b"ok", *(() if int(sequence) else (f"Set-Cookie: client={client}",)))

    with EchoServer(respond) as server:
        completed(run(play(closed(server.host, 3, clients=2))), 6)
        received = server.take()
    for client in ("0000000000", "0000000001"):
        own = [one.header("cookie") for one in received if one.header("x-request-id").rsplit("-", 2)[1] == client]
        assert own == ["", f"client={client}", f"client={client}"]


def test_expired_cookies_are_deleted(run: Run[Result], tmp_path: Path) -> None:
    pages = {
        "/in": ("Set-Cookie: sid=1; Path=/", "Set-Cookie: theme=dark; Path=/"),
        "/out": ("Set-Cookie: sid=; Path=/; Max-Age=0",),
        "/past": ("Set-Cookie: theme=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",),
    }
    app = write_app(tmp_path, visit("/in", "/a", "/out", "/b", "/past", "/c"))
    with EchoServer(Pages(pages)) as server:
        completed(run(play(closed(server.host, 6, client_app="app", apps_dir=app))), 6)
        both = "sid=1; theme=dark"
        assert sent(server) == [
            ("/in", ""), ("/a", both), ("/out", both), ("/b", "theme=dark"), ("/past", "theme=dark"), ("/c", ""),
        ]  # fmt: skip


@pytest.mark.parametrize("capture", ["none", "full"])
def test_cookies_of_a_redirect_are_sent_to_its_target(run: Run[Any], tmp_path: Path, capture: str) -> None:
    pages = {
        "/login": ("Location: /home", "Set-Cookie: sid=1; Path=/", "Set-Cookie: step=1; Path=/"),
        "/home": ("Set-Cookie: step=; Path=/; Max-Age=0",),
    }
    app = write_app(tmp_path, visit("/login", "/me"))

    async def scenario(host: str) -> tuple[Result, list[bytes]]:
        engine = closed(host, 2, client_app="app", apps_dir=app, capture=capture)
        captured: list[bytes] = []

        async def take(engine: Engine) -> None:
            await engine.wait()
            captured.extend(capture.request for capture in engine.take_captures())

        return await play(engine, take), captured

    with EchoServer(Pages(pages)) as server:
        result, captured = run(scenario(server.host))
        completed(result, 2)
        assert sent(server) == [("/login", ""), ("/home", "sid=1; step=1"), ("/me", "sid=1")]
    assert [b"\r\nCookie: sid=1" in request for request in captured] == ([True, True] if capture == "full" else [])


def test_cookies_of_a_failed_redirect_are_kept(run: Run[Result], tmp_path: Path) -> None:
    pages = {"/login": ("Location: ftp://nowhere/", "Set-Cookie: sid=1; Path=/")}
    app = write_app(tmp_path, visit("/login", "/me"))
    with EchoServer(Pages(pages)) as server:
        result = run(play(closed(server.host, 2, client_app="app", apps_dir=app)))
        assert result.outcomes() == {Outcome.REDIRECT: 1, Outcome.COMPLETED: 1}
        assert sent(server) == [("/login", ""), ("/me", "sid=1")]


def test_unfollowed_redirect_sets_cookies(run: Run[Result]) -> None:
    with EchoServer(Pages({"/": ("Location: /home", "Set-Cookie: sid=1")})) as server:
        completed(run(play(closed(server.host, 2, kwargs={"allow_redirects": False}))), 2)
        assert sent(server) == [("/", ""), ("/", "sid=1")]


def test_cookie_that_each_redirect_changes_is_sent_once(run: Run[Result]) -> None:
    pages = {
        "/": ("Location: /1", "Set-Cookie: n=0; Path=/"),
        "/1": ("Location: /2", "Set-Cookie: n=1; Path=/"),
        "/2": ("Set-Cookie: n=2; Path=/",),
    }
    with EchoServer(Pages(pages)) as server:
        completed(run(play(closed(server.host, 2, kwargs={"cookies": {"own": "x"}}))), 2)
        assert sent(server) == [
            ("/", "own=x"), ("/1", "own=x; n=0"), ("/2", "own=x; n=1"),
            ("/", "own=x; n=2"), ("/1", "own=x; n=0"), ("/2", "own=x; n=1"),
        ]  # fmt: skip


# --- Several nodes of a service


@pytest.fixture
def two_nodes() -> Iterator[tuple[EchoServer, list[str]]]:
    """A server on two addresses, as two nodes with names of their own."""
    pages = Pages({"/": ("Set-Cookie: sid=1; Path=/",)})
    with EchoServer(pages) as server:
        pages.pages["/across"] = (f"Location: http://127.0.0.2:{server.port}/arrived", "Set-Cookie: crossed=1; Path=/")
        yield server, [f"127.0.0.1:{server.port}", f"127.0.0.2:{server.port}"]


def test_nodes_of_a_service_share_its_cookies(run: Run[Result], two_nodes: tuple[EchoServer, list[str]]) -> None:
    server, nodes = two_nodes
    engine = build(*nodes, clients=1, rate=20, duration=0.2, cookies=KEEP)
    completed(run(play(engine)), 4)
    received = server.take()
    assert {one.header("host") for one in received} == set(nodes)
    assert [one.header("cookie") for one in received] == ["", "sid=1", "sid=1", "sid=1"]


def test_redirect_between_nodes_carries_cookies(run: Run[Result], two_nodes: tuple[EchoServer, list[str]]) -> None:
    server, nodes = two_nodes
    for hosts, cookies in ((nodes, "crossed=1"), (nodes[:1], "")):  # the other is a node of the service, or is not
        engine = build(*hosts, path="/across", clients=1, rate=10, duration=0.1, cookies=KEEP)
        completed(run(play(engine)), 1)
        assert sent(server) == [("/across", ""), ("/arrived", cookies)]


# --- As `requests` does it

PLACES = ["/", "/shop", "/shop/", "/shop/cart", "/shopping", "/other/page?q=1"]
SETTINGS = [
    "a=1", "a=1; Path=/", "a=1; Path=/shop", "a=1; Path=/shop/", "a=1; Path=/other", "a=1; Path=relative",
    "a=1; Secure", "a=1; Path=/; Secure; HttpOnly; SameSite=Lax", "a=1; Domain=127.0.0.1", "a=1; Domain=.example.com",
    "a=1; Max-Age=100", "a=1; Max-Age=0", "a=1; Max-Age=x", "a=1; Expires=Wed, 01 Jan 2200 00:00:00 GMT",
    'a="quoted value"', "a", "=1", "a=", "a=1=2; Path=/", "a=b,c", "a=\xfc; Path=/", "a=1; Version=1", "; Path=/",
]  # fmt: skip


@pytest.mark.parametrize("value", SETTINGS)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_rules_are_those_of_requests(value: str, secure: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    pages = Pages({"/shop/set": (f"Set-Cookie: {value}", "Set-Cookie: other=2; Path=/")})
    paths = ["/shop/set", *PLACES]
    folder = tmp_path_factory.mktemp("rules")
    app = write_app(folder, visit(*paths, keywords="{'verify': False}"))
    context = make_certificates(folder).server_context() if secure else None
    scheme = "https" if secure else "http"
    with EchoServer(pages, context) as server:
        with requests.Session() as session, pytest.MonkeyPatch.context() as patch:
            patch.setattr("urllib3.connectionpool.warnings.warn", lambda *args: None)
            session.trust_env = False
            for path in paths:
                session.get(f"{scheme}://{server.host}{path}", verify=False)
        expected = sent(server)
        engine = closed(server.host, len(paths), client_app="app", apps_dir=app, scheme=scheme)
        completed(asyncio.run(play(engine)), len(paths))
        assert sent(server) == expected
        assert any("other=2" in cookies for _, cookies in expected)


# --- Cookies that the app sets


@pytest.mark.parametrize(
    "keywords", ["{'cookies': {'sid': 'own'}}", "{'headers': {'cookie': 'sid=own'}}"], ids=["keyword", "header"]
)
def test_own_cookie_takes_precedence(run: Run[Result], tmp_path: Path, keywords: str) -> None:
    app = write_app(tmp_path, visit("/", keywords=keywords))
    with EchoServer(Pages({"/": ("Set-Cookie: sid=kept", "Set-Cookie: theme=dark")})) as server:
        completed(run(play(closed(server.host, 2, client_app="app", apps_dir=app))), 2)
        assert sent(server) == [("/", "sid=own"), ("/", "sid=own; theme=dark")]


def test_own_cookies_are_not_stored(run: Run[Result], tmp_path: Path) -> None:
    generator = """
        keywords = iter([{"cookies": {"own": "1"}}, {}])
        def next_request():
            return "get", "/", next(keywords)
    """
    app = write_app(tmp_path, generator)
    with EchoServer(Pages({"/": ("Set-Cookie: sid=1",)})) as server:
        completed(run(play(closed(server.host, 2, client_app="app", apps_dir=app))), 2)
        assert sent(server) == [("/", "own=1"), ("/", "sid=1")]


@pytest.mark.parametrize(
    ("manifest", "plan", "cookies"),
    [("keep", None, "sid=1"), ("keep", CookieMode.IGNORE, ""), ("ignore", KEEP, "sid=1"), ("ignore", None, "")],
)
def test_plan_takes_precedence_over_the_manifest(
    run: Run[Result], tmp_path: Path, manifest: str, plan: CookieMode | None, cookies: str
) -> None:
    app = write_app(tmp_path, visit("/"), f"cookies: {manifest}")
    with EchoServer(Pages({"/": ("Set-Cookie: sid=1",)})) as server:
        completed(run(play(closed(server.host, 2, client_app="app", apps_dir=app, cookies=plan))), 2)
        assert sent(server) == [("/", ""), ("/", cookies)]


def test_app_reads_responses_and_cookies_are_kept(run: Run[Result], tmp_path: Path) -> None:
    generator = (
        visit("/")
        + """
        def on_response(response):
            assert response.cookies == {"sid": "1"} and len(response.body) == 200_000
    """
    )
    app = write_app(tmp_path, generator, "shared: true")
    with EchoServer(lambda _: answer(200, bytes(200_000), "Set-Cookie: sid=1")) as server:
        completed(run(play(closed(server.host, 2, clients=2, client_app="app", apps_dir=app))), 4)
        assert sorted(sent(server)) == [("/", ""), ("/", ""), ("/", "sid=1"), ("/", "sid=1")]


# --- Other ways of a request


def test_request_sent_again_has_the_cookies_of_that_time(run: Run[Result]) -> None:
    async def scenario() -> tuple[Result, list[bytes]]:
        heads: list[bytes] = []
        served: list[Any] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(asyncio.current_task())
            while head := await reader.readline():
                head += await reader.readuntil(b"\r\n\r\n")
                heads.append(head)
                if len(heads) == 2:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=1\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            engine = closed(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", 2)
            result = await play(engine)
            await asyncio.gather(*served)
        return result, heads

    result, heads = run(scenario())
    completed(result, 2)
    assert [row.resent for row in result.rows] == [0, 1]
    assert [head.count(b"Cookie: sid=1\r\n") for head in heads] == [0, 1, 1]


def test_cookies_of_an_incomplete_response_are_kept(run: Run[Result]) -> None:
    def respond(received: Received) -> bytes:
        head = "HTTP/1.1 200 OK\r\nSet-Cookie: sid=1\r\n"
        first = received.header("x-request-id").endswith("-0000000000")
        return (head + ("Content-Length: 5\r\n\r\nab" if first else "Content-Length: 0\r\n\r\n")).encode()

    with EchoServer(respond) as server:
        result = run(play(closed(server.host, 2, request_timeout_s=0.1)))
        assert result.outcomes() == {Outcome.TIMEOUT: 1, Outcome.COMPLETED: 1}
        assert sent(server) == [("/", ""), ("/", "sid=1")]


def test_only_workloads_that_keep_cookies_have_other_connections(tmp_path: Path) -> None:
    async def kind(**workload: Any) -> str:
        engine = closed("127.0.0.1:1", 1, **workload)
        await engine.prepare()
        name = engine._pool.connection_kind.__name__
        await engine.close()
        return name

    assert asyncio.run(kind(cookies=None)) == "Connection"
    assert asyncio.run(kind(cookies=CookieMode.IGNORE, capture="full")) == "CapturingConnection"
    assert asyncio.run(kind()) == "CookieConnection"


def test_jars_are_dropped_at_the_end(run: Run[Any]) -> None:
    async def scenario(host: str) -> list[int]:
        engine = closed(host, 2, clients=3)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await engine.wait()
        assert engine._cookies is not None
        jars = [len(engine._cookies)]
        await finish(engine)
        return [*jars, len(engine._cookies)]

    with EchoServer(Pages({"/": ("Set-Cookie: sid=1",)})) as server:
        assert run(scenario(server.host)) == [3, 0]
