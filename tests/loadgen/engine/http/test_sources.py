"""Client apps decide what their client sends, each in a module of its own."""

from __future__ import annotations

import asyncio
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from loadgen.engine import AppError
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.http_target import HttpTarget
from tests.support.ids import begin_of

COUNTING = """
    from dataclasses import dataclass

    @dataclass
    class State:
        count: "int" = 0

    state = State()

    def next_request():
        state.count += 1
        word = context.parameters["word"]
        return "post", f"/{word}/{context.manifest['kind']}/{state.count}", {"json": {"n": state.count}}
"""


def write_app(apps_dir: Path, name: str, generator: str, manifest: str = "kind: test\n") -> Path:
    (apps_dir / name).mkdir()
    (apps_dir / name / "generator.py").write_text(textwrap.dedent(generator))
    (apps_dir / name / "manifest.yml").write_text(manifest)
    return apps_dir


@pytest.mark.slow
def test_each_client_has_a_module_of_its_own(run: Run[Result], target: HttpTarget, group: str, tmp_path: Path) -> None:
    write_app(tmp_path, "counting", COUNTING)
    engine = build(
        target.host,
        group=group,
        clients=4,
        client_app="counting",
        client_parameters={"word": "hello"},
        apps_dir=tmp_path,
    )
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 20}
    seen = {(name, method, path) for _, name, method, path in target.log() if name.startswith(begin_of(group))}
    # Its own count is the client's sequence number: no other client counts in it.
    assert seen == {(request_id(group, c, s), "POST", f"/hello/test/{s + 1}") for c in range(4) for s in range(5)}
    assert not [name for name in sys.modules if name.startswith("galileo_app_")]


@pytest.mark.slow
def test_an_app_needs_no_manifest_and_no_keywords(run: Run[Result], target: HttpTarget, tmp_path: Path) -> None:
    write_app(tmp_path, "short", "def next_request(): return ['GET', '/']")
    (tmp_path / "short" / "manifest.yml").unlink()
    assert run(play(build(target.host, client_app="short", apps_dir=tmp_path))).outcomes() == {Outcome.COMPLETED: 20}


@pytest.mark.slow
def test_the_example_app_posts_its_images(run: Run[Result], target: HttpTarget, group: str) -> None:
    apps_dir = Path(__file__).parents[4] / "examples" / "apps"
    engine = build(
        target.host, group=group, client_app="squeezenet", client_parameters={"images": 3}, apps_dir=apps_dir
    )
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 20}
    seen = Counter((method, path) for _, name, method, path in target.log() if name.startswith(begin_of(group)))
    assert seen == {("POST", "/predictions/squeezenet"): 20}


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        ("x = (", "generator.py is not Python"),
        ("import no_such_module_anywhere", "generator.py raised ModuleNotFoundError"),
        ("import sys; sys.exit(3)", "generator.py raised SystemExit: 3"),
        ("1 / 0", "line 1, in <module>"),
        ("x = 1", r"defines no function next_request\(\)"),
        ("next_request = 5", r"defines no function next_request\(\)"),
        ("x = '\0'", "generator.py is not Python"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_an_error_of_prepare(tmp_path: Path, generator: str, said: str) -> None:
    write_app(tmp_path, "bad", generator)
    with pytest.raises(AppError, match=said) as caught:
        asyncio.run(build("127.0.0.1:1", client_app="bad", apps_dir=tmp_path).prepare())
    assert "client app 'bad'" in str(caught.value)
    assert not [name for name in sys.modules if name.startswith("galileo_app_")]


@pytest.mark.parametrize(("manifest", "said"), [("- a\n- b\n", "must hold a mapping"), ("a: [", "not valid YAML")])
def test_a_manifest_that_is_no_mapping_is_an_error_of_prepare(tmp_path: Path, manifest: str, said: str) -> None:
    write_app(tmp_path, "bad", "def next_request(): return 'GET', '/', {}", manifest)
    with pytest.raises(AppError, match=said):
        asyncio.run(build("127.0.0.1:1", client_app="bad", apps_dir=tmp_path).prepare())


@pytest.mark.parametrize("name", ["missing", "../bad", "", "."])
def test_an_app_that_does_not_exist_is_an_error_of_prepare(tmp_path: Path, name: str) -> None:
    with pytest.raises(AppError, match="does not contain it"):
        asyncio.run(build("127.0.0.1:1", client_app=name, apps_dir=tmp_path).prepare())


def test_an_app_on_a_worker_without_apps_names_the_setting() -> None:
    with pytest.raises(AppError, match="galileo_apps_dir"):
        asyncio.run(build("127.0.0.1:1", client_app="any").prepare())


def test_a_wrong_request_of_the_workload_is_an_error_of_prepare() -> None:
    with pytest.raises(AppError, match="the workload's request to service: proxies"):
        asyncio.run(build("127.0.0.1:1", kwargs={"proxies": {"http": "x"}}).prepare())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("raise ValueError('out of images')", "next_request.. raised ValueError: out of images"),
        ("sys.exit(1)", "raised SystemExit"),
        ("return None", "must return .method, endpoint, keywords., got None"),
        ("return 'GET'", "must return"),
        ("return 'GET', '/', {'verify': 5}", "returned an invalid request: verify"),
        ("return 'GET', '/', {'json': {1, 2}}", "cannot be prepared"),
        ("return 'GET', 'http://elsewhere/', {}", "endpoint"),
    ],
)
def test_a_failing_app_ends_the_load_with_a_row_per_arrival(
    run: Run[Result], target: HttpTarget, tmp_path: Path, last: str, said: str
) -> None:
    lines = ["import sys", "n = 0", "def next_request():", "    global n", "    n += 1"]
    lines += ["    if n > 3:", f"        {last}", "    return 'GET', '/', {}"]
    write_app(tmp_path, "failing", "\n".join(lines))
    result = run(play(build(target.host, clients=1, client_app="failing", apps_dir=tmp_path)))
    outcomes = result.outcomes()
    assert 17 <= outcomes.pop(Outcome.CUT) <= 20  # of the three before it, one may have waited for a connection yet
    assert set(outcomes) <= {Outcome.COMPLETED, Outcome.ABORTED}
    assert result.reason.startswith("client app 'failing', client 0: next_request()")
    assert re.search(said, result.reason)
