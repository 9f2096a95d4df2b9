"""`g.request`: one request with the keywords of `requests`, with and without a client app."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from requests.auth import HTTPDigestAuth

from experiments.plans import PlanInvalid
from experiments.services import apps
from experiments.shell import g
from experiments.shell.app_process import request_of
from experiments.shell.errors import AppFailed, ShellError
from loadgen.apps.one_request import AppQuestion
from routing.errors import InvalidInput
from routing.services import set_record
from tests.support.archives import app_archive
from tests.support.echo_server import EchoServer, Received, answer
from tests.support.process_tree import is_living

pytestmark = pytest.mark.django_db(transaction=True)

MANIFEST = "name: {}\n"


def respond(received: Received) -> bytes:
    if received.target.startswith("/moved"):
        return answer(307, b"", "Location: /there")
    return answer(200, b"served", "X-Served: yes")


@pytest.fixture
def server(broker: redis.Redis, settings: Any, tmp_path: Path) -> Iterator[EchoServer]:
    """A target, which the service `shop` leads to."""
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "repository"
    with EchoServer(respond) as running:
        set_record("shop", [running.host], None, "test")
        yield running


def upload(name: str, generator: str, **manifest: str) -> None:
    lines = "".join(f"{key}: {value}\n" for key, value in {"name": name, **manifest}.items())
    apps.upload(app_archive(manifest=lines.encode(), generator=generator.encode()), "ann")


class Signed(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Signed"] = str(request.method)
        return request


# Functions, because files and generators are read only once.
KWARGS: dict[str, Any] = {
    "none": lambda: {},
    "bytes": lambda: {"data": b"\x00\xff"},
    "an open file": lambda: {"data": io.BytesIO(b"from a file")},
    "chunks": lambda: {"data": iter([b"one", b"two"])},
    "files": lambda: {
        "files": {"image": ("a.png", io.BytesIO(b"\x89PNG"), "image/png"), "b": b"raw"},
        "data": {"a": 1},
    },
    "a name and a password": lambda: {"auth": ("ann", "secret")},
    "an auth object": lambda: {"auth": Signed()},
    "cookies and a redirect": lambda: {"cookies": {"a": "1"}, "data": b"again"},
    "no redirect": lambda: {"allow_redirects": False},
    "json and params": lambda: {"json": {"a": [1]}, "params": {"b": ["1", "2"]}, "headers": {"X-A": "ä"}},
}
# The same in an app's words.
PRELUDE = """
import io, requests
class Signed(requests.auth.AuthBase):
    def __call__(self, request):
        request.headers['X-Signed'] = str(request.method)
        return request
"""
WORDS = {
    "none": "{}",
    "bytes": r"{'data': b'\x00\xff'}",
    "an open file": "{'data': io.BytesIO(b'from a file')}",
    "chunks": "{'data': iter([b'one', b'two'])}",
    "files": r"{'files': {'image': ('a.png', io.BytesIO(b'\x89PNG'), 'image/png'), 'b': b'raw'}, 'data': {'a': 1}}",
    "a name and a password": "{'auth': ('ann', 'secret')}",
    "an auth object": "{'auth': Signed()}",
    "cookies and a redirect": "{'cookies': {'a': '1'}, 'data': b'again'}",
    "no redirect": "{'allow_redirects': False}",
    "json and params": "{'json': {'a': [1]}, 'params': {'b': ['1', '2']}, 'headers': {'X-A': 'ä'}}",
}


def as_requests_sends(server: EchoServer, name: str) -> tuple[list[Any], requests.Response]:
    path = "/moved" if "redirect" in name else "/x"
    response = requests.request("POST", f"http://{server.host}{path}", **KWARGS[name]())
    return essences(server), response


def essences(server: EchoServer) -> list[Any]:
    return [received.essence("user-agent") for received in server.take()]


@pytest.mark.parametrize("name", KWARGS)
def test_keywords_are_those_of_requests(server: EchoServer, name: str) -> None:
    expected, like = as_requests_sends(server, name)
    path = "/moved" if "redirect" in name else "/x"
    response = g.request("shop", parameters={"method": "post", "path": path, "kwargs": KWARGS[name]()})
    assert essences(server) == expected
    assert (response.status_code, response.content) == (like.status_code, like.content)
    assert response.headers.get("X-Served") == like.headers.get("X-Served")


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_the_app_of_the_services_name_makes_the_request(server: EchoServer, name: str) -> None:
    expected, like = as_requests_sends(server, name)
    path = "/moved" if "redirect" in name else "/x"
    upload("shop", f"{PRELUDE}\ndef next_request():\n    return 'post', '{path}', {WORDS[name]}\n")
    response = g.request("shop")
    assert essences(server) == expected
    assert (response.status_code, response.content) == (like.status_code, like.content)


@pytest.mark.slow
def test_an_app_is_given_its_parameters_and_its_time_out_holds(server: EchoServer) -> None:
    upload(
        "basket",
        "def next_request():\n    return 'get', f\"/{context.parameters['what']}/{context.name}\", {'timeout': 0.25}\n",
        parameters="{what: nothing}",
    )
    assert g.request("shop", client="basket", parameters={"what": "apples"}).status_code == 200
    assert g.request("shop", "basket", router_type="SymmetryServiceRouter").status_code == 200
    assert [received.target for received in server.take()] == ["/apples/basket", "/shop/nothing/basket"]
    with pytest.raises(PlanInvalid, match=r"client_parameters\.which: "):
        g.request("shop", client="basket", parameters={"which": 1})
    set_record("shop", ["127.0.0.1:1"], None, "test")
    with pytest.raises(requests.ConnectionError):
        g.request("shop", client="basket")


@pytest.mark.slow
def test_an_app_of_the_folder_comes_first(server: EchoServer, settings: Any, tmp_path: Path) -> None:
    upload("shop", "def next_request():\n    return 'get', '/repository'\n")
    (tmp_path / "own" / "shop").mkdir(parents=True)
    (tmp_path / "own" / "shop" / "generator.py").write_text("def requests():\n    yield 'get', '/own'\n")
    settings.SITE = dataclasses.replace(settings.SITE, apps_dir=tmp_path / "own")
    g.request("shop")
    assert [received.target for received in server.take()] == ["/own"]


BROKEN = {
    "def next_request():\n    return basket\n": r"NameError: .*\n.*\n  generator.py, line 2, in next_request: return",
    "import nowhere": "generator.py raised ModuleNotFoundError",
    "def next_request(:\n": "generator.py is not Python",
    "def next_request():\n    return 'get'\n": r"must return \(method, endpoint, keywords\), got 'get'",
    "def next_request():\n    return 'get', '/', {'nonsense': 1}\n": "an invalid request: nonsense: not a keyword",
    "def next_request():\n    return 'get', '/', {'data': (1 for _ in 'a')}\n": "the body cannot be read: TypeError",
    "def next_request():\n    while True:\n        pass\n": r"within 3 s\n.*\n.*\n  generator.py, line [23]",
    "import os\nos._exit(7)\n": "its process ended with exit status 7 without a request",
    "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n": "exit status -11",
    "x = 1": "defines no function next_request",
}


@pytest.mark.slow
@pytest.mark.parametrize("generator", BROKEN)
def test_a_broken_app_raises_its_last_lines(server: EchoServer, generator: str) -> None:
    upload("shop", generator)
    with pytest.raises(AppFailed, match=BROKEN[generator]) as failed:
        g.request("shop")
    assert "client app 'shop'" in str(failed.value)
    assert server.take() == []


@pytest.mark.slow
def test_a_time_out_kills_the_app_and_its_children(tmp_path: Path) -> None:
    (tmp_path / "deaf").mkdir()
    (tmp_path / "deaf" / "generator.py").write_text(
        "import pathlib, signal, subprocess, time\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    question = AppQuestion("deaf", {}, str(tmp_path), "http://localhost")
    with pytest.raises(AppFailed, match="client app 'deaf': its process did not end within 6 s"):
        request_of(question, timeout_s=6)
    child = int((tmp_path / "child").read_text())
    ends_s = time.monotonic() + 5
    while is_living(child):
        assert time.monotonic() < ends_s
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"service": ""}, "service"),
        ({"service": 3}, "service"),
        ({"client": ""}, "client"),
        ({"client": 3}, "client"),
        ({"parameters": "path"}, "client_parameters"),
        ({"parameters": {"path": "x"}}, "client_parameters.path"),
        ({"parameters": {"kwargs": [1]}}, "client_parameters.kwargs"),
        ({"parameters": {"kwargs": {"dato": 1}}}, "client_parameters.kwargs.dato"),
        ({"kwargs": {1: 2}}, "kwargs.1"),
        ({"router_type": "nobody"}, "router"),
        ({"scheme": "ftp"}, "scheme"),
        ({"ticks": [1]}, "ticks"),
    ],
)
def test_invalid_arguments_are_named_and_nothing_is_sent(
    server: EchoServer, arguments: dict[str, Any], path: str
) -> None:
    with pytest.raises((InvalidInput, PlanInvalid)) as refused:
        g.request(**{"service": "shop", **arguments})
    assert [error.path for error in refused.value.errors] == [path]
    assert server.take() == []


def test_keywords_that_requests_rejects_are_a_shell_error(server: EchoServer) -> None:
    with pytest.raises(ShellError, match=r"^kwargs: "):
        g.request("shop", kwargs={"data": "text", "files": {"a": "b"}})
    with pytest.raises(ShellError, match=r"'unrouted'"):
        g.request("unrouted")
    assert g.request("unrouted", router_type="DebugRouter").status_code == 200
    digest = g.request("shop", kwargs={"auth": HTTPDigestAuth("ann", "secret")})
    assert digest.status_code == 200


# An app that sends everything it finds: its environment, its arguments, and the files that it can read beside it, and
# through its descriptors.
CURIOUS = """
import os, sys
from pathlib import Path

def found():
    yield repr(dict(os.environ))
    yield Path('/proc/self/cmdline').read_text()
    for folder in [Path(context.path).parent, *map(Path, sys.argv[1:])]:
        for file in folder.rglob('*'):
            if file.is_file():
                yield f'{file}: {file.read_bytes()!r}'
    for descriptor in os.listdir('/proc/self/fd'):
        try:
            yield os.readlink(f'/proc/self/fd/{descriptor}')
        except OSError:
            pass

def next_request():
    return 'post', '/', {'data': '\\n'.join(found()).encode(errors='replace')}
"""


@pytest.mark.slow
def test_app_gets_no_secret_of_the_controller(
    server: EchoServer, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = {
        "galileo_secret_key": "hidden-key",
        "galileo_redis_password": "hidden-redis",
        "galileo_expdb_postgres_password": "hidden-database",
        "galileo_admin_password": "hidden-admin",
        "DATABASE_URL": "postgres://galileo:hidden-url@db/galileo",
        "SOME_SERVICE_LOGIN": "hidden-login",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "open").open("w") as file:  # inheritable, as a library may leave one
        os.set_inheritable(file.fileno(), True)
        upload("shop", CURIOUS)
        assert g.request("shop").status_code == 200
    (received,) = server.take()
    text = received.body.decode()
    assert "generator.py" in text and "PATH" in text
    for value in (*secrets.values(), settings.SITE.redis.password, settings.SECRET_KEY, str(tmp_path / "open")):
        assert value not in text


@pytest.mark.slow
def test_app_of_the_repository_needs_no_broker(server: EchoServer, broker: redis.Redis) -> None:
    upload("shop", "def next_request():\n    return 'get', '/here'\n")
    g.request("shop")
    assert [received.target for received in server.take()] == ["/here"]
    assert broker.keys("galileo:app:*") == []


def test_missing_archive_is_named_before_anything_is_sent(server: EchoServer, settings: Any) -> None:
    upload("shop", "def next_request():\n    return 'get', '/'\n")
    (file,) = Path(settings.GALILEO_APPS_REPO_DIR).glob("*.zip")
    file.unlink()
    with pytest.raises(apps.AppMissing, match=f"client app shop: its archive {file.name} cannot be read"):
        g.request("shop")
    assert server.take() == []
