"""What an app may be besides a function: a generator, shared by its clients, told of its responses; and what is done
about one that does not come back."""

from __future__ import annotations

import asyncio
import gzip
import re
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadgen.engine import AppError, Engine
from loadgen.engine.http.response import app_response as responses
from loadgen.engine.http.response.app_response import AppResponse
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, finish, play
from tests.support.echo_server import EchoServer, Received, answer
from tests.support.http_target import HttpTarget
from tests.support.ids import arrival_of, begin_of

STATEFUL = """
    import json

    token, seen = "none", []

    def next_request():
        return "get", "/", {"headers": {"X-Token": token}}

    def on_response(response):
        global token
        token = response.json()["token"]
        seen.append((response.status, response.headers["content-TYPE"], response.cookies))
"""


def write_app(folder: Path, generator: str, manifest: str = "") -> Path:
    (folder / "app").mkdir()
    (folder / "app" / "generator.py").write_text(textwrap.dedent(generator))
    (folder / "app" / "manifest.yml").write_text(manifest)
    return folder


def prepared(apps_dir: Path, **workload: Any) -> Engine:
    """An engine of the app in this folder."""
    return build("127.0.0.1:1", client_app="app", apps_dir=apps_dir, **workload)


def error_of(apps_dir: Path, **workload: Any) -> str:
    with pytest.raises(AppError) as caught:
        asyncio.run(prepared(apps_dir, **workload).prepare())
    return str(caught.value)


# --- A generator ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_generator_yields_the_requests_of_its_client(
    run: Run[Result], target: HttpTarget, group: str, tmp_path: Path
) -> None:
    write_app(
        tmp_path,
        """
        import requests as library

        def requests():
            for number in range(1_000):
                yield "get", f"/{number}"
        """,
    )
    engine = build(target.host, group=group, clients=2, client_app="app", apps_dir=tmp_path)
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 20}
    seen = {(name, path) for _, name, _, path in target.log() if name.startswith(begin_of(group))}
    assert seen == {(request_id(group, client, number), f"/{number}") for client in range(2) for number in range(10)}


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        ("yield 'GET', '/'", "requests() has ended; a generator of requests must never end"),
        ("yield 'GET'", "requests() must yield (method, endpoint, keywords), got 'GET'"),
        ("raise ValueError('none left'); yield", "requests() raised ValueError: none left"),
    ],
)
@pytest.mark.slow
def test_a_generator_that_fails_ends_the_load(
    run: Run[Result], target: HttpTarget, tmp_path: Path, generator: str, said: str
) -> None:
    write_app(tmp_path, f"def requests():\n    {generator}\n")
    result = run(play(build(target.host, clients=1, client_app="app", apps_dir=tmp_path)))
    assert result.reason.startswith(f"client app 'app', client 0: {said}")
    assert Outcome.CUT in result.outcomes()


def test_the_library_of_that_name_is_no_generator(tmp_path: Path) -> None:
    assert "defines no function next_request()" in error_of(write_app(tmp_path, "import requests"))


# --- What an app's own time is ----------------------------------------------------------------------------------------

SLEEPER = """
    import time

    calls = 0

    def next_request():
        global calls
        calls += 1
        if calls {when}:
            time.sleep({seconds})
        return "get", "/mode/{mode}/"
"""


@pytest.mark.slow
@pytest.mark.parametrize("load", [{}, {"model": "closed", "requests_per_client": 5, "schedule": [[5.0, 1.0]]}])
def test_the_time_of_an_app_is_lateness_not_connection_wait(
    run: Run[Result], target: HttpTarget, tmp_path: Path, load: dict[str, Any]
) -> None:
    write_app(tmp_path, SLEEPER.format(when="> 0", seconds=0.03, mode="ok"))
    engine = build(target.host, **{"rate": 10, "duration": 0.5, **load}, clients=1, client_app="app", apps_dir=tmp_path)
    result = run(play(engine))
    assert result.outcomes() == {Outcome.COMPLETED: 5}
    assert all(row.dispatched_ns - row.intended_ns >= 30_000_000 for row in result.rows)
    # But for the first, they had a connection at once.
    assert all(row.sent_ns - row.dispatched_ns < 30_000_000 for row in result.rows[1:])


@pytest.mark.slow
def test_a_response_received_during_a_slow_app_call_is_in_time(
    run: Run[Result], target: HttpTarget, tmp_path: Path
) -> None:
    # The target answers after a tenth of a second, amid the second call, which outlasts the first request's time-out.
    write_app(tmp_path, SLEEPER.format(when="== 2", seconds=0.8, mode="slow"))
    engine = build(
        target.host, rate=50, duration=0.04, clients=1, client_app="app", apps_dir=tmp_path, request_timeout_s=0.5
    )
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 2}


# --- Shared by all clients --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_shared_app_is_executed_once_for_all_clients(
    run: Run[Result], target: HttpTarget, group: str, tmp_path: Path
) -> None:
    numbers = """
        import itertools
        numbers = itertools.count()
        def next_request():
            return "get", f"/{next(numbers)}"
    """
    write_app(tmp_path, numbers, "shared: true")
    engine = build(target.host, group=group, clients=4, client_app="app", apps_dir=tmp_path)
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 20}
    paths = [path for _, name, _, path in target.log() if name.startswith(begin_of(group))]
    assert sorted(paths, key=lambda path: int(path[1:])) == [f"/{number}" for number in range(20)]


def test_an_error_of_a_shared_app_names_no_client(tmp_path: Path) -> None:
    said = error_of(write_app(tmp_path, "1 / 0", "shared: true"), clients=3)
    assert said.startswith("client app 'app': generator.py raised ZeroDivisionError")


# --- Parameters -------------------------------------------------------------------------------------------------------


def test_the_context_has_defaults_and_plan_parameters(tmp_path: Path) -> None:
    write_app(tmp_path, "raise ValueError(context.parameters)", "parameters: {size: 32, colour: {default: red}}")
    assert "{'size': 8, 'colour': 'red'}" in error_of(tmp_path, client_parameters={"size": 8})


def test_prepare_raises_an_error_naming_invalid_parameters(tmp_path: Path) -> None:
    write_app(tmp_path, "", "parameters: {size: {type: integer, minimum: 1}}")
    said = error_of(tmp_path, client_parameters={"colour": "red"})
    assert "client_parameters.colour: the client app has no such parameter; it has size" in said
    assert "client_parameters.size: is missing" in said


# --- Told of responses ------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[EchoServer]:
    def respond(received: Received) -> bytes:
        if received.target == "/first":
            return answer(302, b"", "Location: /second")
        _, number = arrival_of(received.header("x-request-id"))
        body = b'{"token": "after-%d"}' % number
        return answer(201, body, "Content-Type: application/json", "Set-Cookie: session=s1; Path=/; HttpOnly")

    with EchoServer(respond) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("capture", ["none", "full"])
@pytest.mark.parametrize("load", [{}, {"model": "closed", "requests_per_client": 5, "schedule": [[5.0, 2.0]]}])
def test_on_response_is_called_before_the_next_request(
    run: Run[Any], server: EchoServer, tmp_path: Path, capture: str, load: dict[str, Any]
) -> None:
    write_app(tmp_path, STATEFUL)

    async def scenario() -> tuple[Result, int]:
        load_of = {"rate": 50, "duration": 0.2, **load}
        engine = build(server.host, clients=2, client_app="app", apps_dir=tmp_path, capture=capture, **load_of)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await engine.wait()
        captures = len(engine.take_captures())
        return await finish(engine), captures

    result, captures = run(scenario())
    assert (result.reason, result.counters.completed, captures) == ("", 10, 10 if capture == "full" else 0)
    sent = {received.header("x-request-id"): received.header("x-token") for received in server.take()}
    assert sent == {
        request_id("group", client, number): f"after-{number - 1}" if number else "none"
        for client in range(2)
        for number in range(5)
    }


@pytest.mark.slow
def test_on_response_gets_the_last_response_after_redirects(
    run: Run[Result], server: EchoServer, tmp_path: Path
) -> None:
    write_app(
        tmp_path,
        """
        def next_request():
            return "get", "/first"

        def on_response(response):
            raise ValueError(f"{response.status} {response.text} {response.cookies}")
        """,
    )
    result = run(play(build(server.host, clients=1, client_app="app", apps_dir=tmp_path)))
    assert "on_response() raised ValueError: 201 {\"token\": \"after-1\"} {'session': 's1'}" in result.reason
    assert "generator.py, line 6, in on_response" in result.reason


@pytest.mark.slow
def test_an_error_in_on_response_ends_the_load(run: Run[Result], server: EchoServer, tmp_path: Path) -> None:
    write_app(tmp_path, "def next_request(): return 'GET', '/'\ndef on_response(response): return response.nothing")
    engine = build(server.host, clients=3, client_app="app", apps_dir=tmp_path, capture="full")
    result = run(play(engine))
    assert re.match(r"client app 'app', client \d: on_response\(\) raised AttributeError", result.reason)
    assert {Outcome.COMPLETED, Outcome.CUT} <= set(result.outcomes())


def test_on_response_must_be_a_function(tmp_path: Path) -> None:
    write_app(tmp_path, "def next_request(): return 'GET', '/'\non_response = 5")
    assert "on_response must be a function of one response, got 5" in error_of(tmp_path)


@pytest.mark.slow
def test_only_an_app_that_asks_for_responses_pays_for_them(tmp_path: Path) -> None:
    async def kinds() -> list[str]:
        found = []
        for end in ("", "\ndef on_response(response): pass"):
            (tmp_path / end.strip()[:3]).mkdir(exist_ok=True)
            folder = write_app(tmp_path / end.strip()[:3], "def next_request(): return 'GET', '/'" + end)
            engine = prepared(folder)
            await engine.prepare()
            found.append(engine._pool.connection_kind.__name__)
            await engine.close()
        return found

    assert asyncio.run(kinds()) == ["Connection", "CapturingConnection"]


HEAD = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\n"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (HEAD + b"Content-Length: 2\r\n\r\nokEXCESS", b"ok"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n", b"ok!"),
        (HEAD + b"\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 103 Early Hints\r\nX-A: 9\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok", b"ok"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"ok", mtime=0), b"ok"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\nno gzip", b"no gzip"),
        (HEAD + b"Content-Length: 2000\r\n\r\n", b""),  # of HEAD
    ],
)
def test_a_response_is_parsed_from_its_bytes(data: bytes, body: bytes) -> None:
    response = AppResponse(200, data)
    assert (response.status, response.headers["x-A"], response.body) == (200, "1, 2", body)
    assert not response.truncated


def test_of_a_response_that_is_too_large_the_beginning_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_RESPONSE_BYTES", 100)
    data = (HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)[:100]
    response = AppResponse(200, data)
    assert (response.truncated, set(response.text)) == (True, {"x"})
    with pytest.raises(ValueError, match="Expecting value"):
        response.json()


def test_a_body_is_unpacked_up_to_a_limit_and_marked_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    head = HEAD + b"Content-Encoding: gzip\r\n\r\n"
    whole = AppResponse(200, head + gzip.compress(bytes(3 << 20)))  # larger than what is kept of it as it is sent
    assert (len(whole.body), whole.truncated) == (3 << 20, False)
    monkeypatch.setattr(responses, "MAX_BODY_BYTES", 1000)
    cut = AppResponse(200, head + gzip.compress(bytes(3 << 20)))
    assert (len(cut.body), cut.truncated) == (1000, True)


@pytest.mark.slow
def test_an_app_gets_the_cookies_and_responses_on_the_way(run: Run[Result], tmp_path: Path) -> None:
    def respond(received: Received) -> bytes:
        if received.target == "/login":
            return answer(302, b"moved", "Location: /home", "Set-Cookie: sid=1; Path=/")
        return answer(200 if received.target == "/home" or received.header("cookie") == "sid=1" else 401, b"ok")

    write_app(
        tmp_path,
        """
        jar = {}
        paths = iter(["/login", "/me", "/me"])

        def next_request():
            return "get", next(paths), {"cookies": dict(jar)}

        def on_response(response):
            jar.update(response.cookies)
            assert [past.status for past in response.history] in ([302], [])
        """,
    )
    with EchoServer(respond) as server:
        engine = build(server.host, client_app="app", apps_dir=tmp_path, clients=1, rate=10, duration=0.3)
        result = run(play(engine))
        received = [(one.target, one.header("cookie")) for one in server.take()]
    assert [row.status for row in result.rows] == [200, 200, 200]
    assert received == [("/login", ""), ("/home", "sid=1"), ("/me", "sid=1"), ("/me", "sid=1")]


@pytest.mark.slow
def test_a_large_response_is_truncated_but_counted_whole(run: Run[Result], tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        def next_request():
            return "get", "/"

        def on_response(response):
            assert response.truncated and response.headers["X-Large"] == "yes"
            assert 1_048_000 < len(response.body) < 1_048_576, len(response.body)
        """,
    )
    with EchoServer(lambda _: answer(200, bytes(3 << 20), "X-Large: yes")) as large:
        engine = build(large.host, clients=2, rate=10, duration=1, client_app="app", apps_dir=tmp_path)
        result = run(play(engine))
    assert set(result.outcomes()) == {Outcome.COMPLETED}, result.reason
    assert {row.size for row in result.rows} == {3 << 20}


# --- An app that does not come back -----------------------------------------------------------------------------------


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.engine.client_app._LOAD_LIMIT_NS", 300_000_000)
    monkeypatch.setattr("loadgen.engine.client_app._CALL_LIMIT_NS", 300_000_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loop", "where"),
    [
        ("while True: pass", "generator.py, line 1, in <module>: while True: pass"),
        ("import time; time.sleep(1000)", "time.sleep"),
        ("while True:\n    try:\n        1 / 0\n    except Exception:\n        pass", "in <module>"),
    ],
)
def test_a_module_that_does_not_end_is_interrupted(tmp_path: Path, loop: str, where: str, short_limits: None) -> None:
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0] > 0
    began = time.monotonic()
    said = error_of(write_app(tmp_path, loop))
    assert "generator.py did not end within 5 s" in said
    assert where in said
    assert time.monotonic() - began < 5
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0] > 0) == before


@pytest.mark.slow
@pytest.mark.parametrize("what", ["next_request", "on_response"])
def test_an_endless_call_is_interrupted_and_ends_the_load(
    run: Run[Result], server: EchoServer, tmp_path: Path, short_limits: None, what: str
) -> None:
    generator = """
        calls = 0

        def loop_at(number):
            global calls
            calls += 1
            while calls >= number:
                pass

        def next_request():
            NEXT
            return "get", "/"

        def on_response(response):
            RESPONSE
    """
    words = {
        "NEXT": "pass",
        "RESPONSE": "pass",
        what.split("_")[-1 if what == "on_response" else 0].upper(): "loop_at(2)",
    }
    for word, statement in words.items():
        generator = generator.replace(word, statement)
    write_app(tmp_path, generator)
    result = run(play(build(server.host, clients=1, rate=5, duration=1, client_app="app", apps_dir=tmp_path)))
    assert result.reason.startswith(f"client app 'app', client 0: {what}() did not return within 3 s\n")
    assert "in loop_at: while calls >= number:" in result.reason
    assert Outcome.COMPLETED in result.outcomes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("returned", "where"),
    [
        ("{'data': itertools.repeat(b'more')}", "prepared"),
        ("{'data': endless()}", "in endless: "),
        ("{'auth': loops}", "in loops: "),
        ("{'data': Endless()}", "in read: "),
    ],
)
def test_an_endless_preparation_is_interrupted_and_ends_the_load(
    run: Run[Result], server: EchoServer, tmp_path: Path, short_limits: None, returned: str, where: str
) -> None:
    generator = f"""
        import itertools

        def endless():
            while True:
                pass
            yield b""

        def loops(request):
            while True:
                pass

        class Endless:
            def __iter__(self):
                return self

            def read(self, size=-1):
                while True:
                    pass

        def next_request():
            return "post", "/", {returned}
    """
    write_app(tmp_path, generator)
    result = run(play(build(server.host, clients=1, rate=5, duration=1, client_app="app", apps_dir=tmp_path)))
    what = "client app 'app', client 0: the request of next_request() was not prepared within 3 s\n"
    assert result.reason.startswith(what)
    assert where in result.reason
    assert set(result.outcomes()) == {Outcome.CUT}


@pytest.mark.slow
def test_an_app_is_left_alone_between_its_calls(
    run: Run[Result], target: HttpTarget, tmp_path: Path, short_limits: None
) -> None:
    write_app(tmp_path, "def next_request(): return 'GET', '/'")
    engine = build(target.host, rate=2, duration=1.5, clients=1, client_app="app", apps_dir=tmp_path)
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 3}
