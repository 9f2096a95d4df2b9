"""A web server with galileo_api_auth=none: the original's command line works without a password, and web pages do not.

The workers answer a ping.
"""

import subprocess

import pytest
import requests

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.ports import pick_free
from tests.support.waiting import wait_for

APP = PROJECT_ROOT / "examples" / "apps" / "squeezenet"


@pytest.fixture
def open_web(galileo):
    """The address of the API of a second web server, which is open."""
    port = pick_free()
    url = f"http://127.0.0.1:{port}/api"
    galileo.start(
        "open-web", [str(PROJECT_ROOT / "bin" / "run"), "api"], galileo_web_port=str(port), galileo_api_auth="none"
    )

    def answers():
        try:
            return requests.get(url, timeout=10).ok
        except requests.RequestException:
            return False

    try:
        wait_for(answers, "the web server")
        yield url
    finally:
        galileo.stop("open-web")
        del galileo.children["open-web"]


def test_the_originals_command_line_needs_no_password(open_web, original, tmp_path):
    environment = {"HOME": str(tmp_path), "galileo_api_url": open_web, "PATH": "/usr/bin:/bin"}

    def run(*arguments):
        command = [original / "galileo", "app", *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Manifest OK: squeezenet" in run("deploy", "--path", APP)
    assert requests.get(f"{open_web}/apps/squeezenet/versions", timeout=10).json()[0]["creator"] == "api"
    assert run("rm", "squeezenet") == "deleted squeezenet\n"


def test_open_api_refuses_web_pages_and_wrong_tokens(galileo, open_web):
    foreign = {"Origin": "http://evil.example"}
    assert requests.post(f"{open_web}/apps", data=b"zip", headers=foreign, timeout=10).status_code == 403
    wrong = {"Authorization": "Token wrong"}
    assert requests.get(f"{open_web}/worker", headers=wrong, timeout=10).status_code == 401
    assert galileo.web.request("GET", "/worker").ok
    assert requests.get(f"{galileo.web.url}/worker", timeout=10).status_code == 401
    assert "galileo_api_auth=none: everyone" in (galileo.directory / "open-web.log").read_text()


def test_live_workers_answer_a_ping(galileo, open_web):
    answer = requests.post(f"{open_web}/worker/ping", json={"timeout_s": 5}, timeout=20).json()
    assert sorted(answer) == ["worker-a", "worker-b"]
    assert all(trip_s is not None and 0 < trip_s < 5 for trip_s in answer.values())
