"""The example service over real HTTP, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from examples.apps.squeezenet.shapes import KINDS, png

pytestmark = pytest.mark.slow
PICTURE = png("square", 32, 1)


class Service:
    """One running instance."""

    def __init__(self, directory: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / f"{self.port}.log"
        command = [sys.executable, "-m", "examples.service", "--port", str(self.port), "--log", str(self.log), *options]
        self.process = subprocess.Popen(command)
        end_s = time.monotonic() + 30
        while True:
            try:
                requests.get(self.url, timeout=1)
                return
            except requests.ConnectionError:
                assert self.process.poll() is None and time.monotonic() < end_s, "the service did not start"
                time.sleep(0.05)

    def post(self, data: bytes = PICTURE, path: str = "/predictions/squeezenet", **headers: str) -> requests.Response:
        return requests.post(self.url + path, data=data, headers=headers, timeout=20)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service"), "--service-time-ms", "1", "--name", "tested")
    yield running
    assert running.stop() == 0


def test_a_posted_image_is_answered_with_class_probabilities(service: Service) -> None:
    response = service.post()
    assert response.status_code == 200
    answer = response.json()
    assert answer["model"] == "squeezenet"
    assert answer["prediction"] == "square"
    assert set(answer["probabilities"]) == set(KINDS)


def test_the_root_describes_the_service(service: Service) -> None:
    state = requests.get(service.url, timeout=5).json()
    assert state["name"] == "tested"
    assert state["classes"] == list(KINDS)
    assert state["received"] >= 1


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "reason"),
    [
        ("POST", "/predictions/squeezenet", b"no image", 400, "not a PNG or JPEG"),
        ("POST", "/predictions/squeezenet", PICTURE[:200], 400, "damaged"),
        ("POST", "/predictions/squeezenet", b"\0" * (1 << 20) + b"\0", 413, "larger than 1048576 bytes"),
        ("GET", "/predictions/squeezenet", None, 405, "POST an image"),
        ("DELETE", "/", None, 405, "DELETE is not served"),
        ("GET", "/nowhere", None, 404, "not found"),
        ("POST", "/predictions/", PICTURE, 404, "not found"),
        ("POST", "/predictions/a/b", PICTURE, 404, "not found"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    service: Service, method: str, path: str, data: bytes | None, status: int, reason: str
) -> None:
    response = requests.request(method, service.url + path, data=data, timeout=10)
    assert response.status_code == status
    assert reason in response.json()["error"]


def test_the_log_has_each_requests_arrival_time_and_id(service: Service) -> None:
    before = len(service.lines())
    started_s = time.time()
    service.post(**{"X-Request-Id": "run1-7"})
    service.post(b"no image", **{"X-Request-Id": "run1-8"})
    requests.get(service.url + "/nowhere", timeout=5)
    requests.get(service.url + "/nowhere", headers={"traceparent": "00-1-2-01"}, timeout=5)
    lines = service.lines()[before:]
    assert all(re.fullmatch(r"\d+\.\d{6} \S+ [A-Z]+ /\S*", line) for line in lines)
    fields = [line.split() for line in lines]
    assert [field[1:] for field in fields] == [
        ["run1-7", "POST", "/predictions/squeezenet"],
        ["run1-8", "POST", "/predictions/squeezenet"],
        ["-", "GET", "/nowhere"],
        ["00-1-2-01", "GET", "/nowhere"],
    ]
    times = [float(field[0]) for field in fields]
    assert times == sorted(times)
    assert started_s - 1 < times[0] <= time.time() + 1


def test_no_client_can_forge_a_line_or_a_column_of_the_log(service: Service) -> None:
    before = len(service.lines())
    with socket.create_connection(("127.0.0.1", service.port)) as raw:
        raw.sendall(b"GET /a%0Ab HTTP/1.1\r\nHost: x\r\nX-Request-Id: one two\xff\r\nConnection: close\r\n\r\n")
        while raw.recv(4096):
            pass
    assert [line.split()[1:] for line in service.lines()[before:]] == [["one?two?", "GET", "/a%0Ab"]]


def test_requests_queue_when_more_arrive_than_there_are_servers(tmp_path: Path) -> None:
    service = Service(tmp_path, "--concurrency", "1", "--service-time-ms", "30", "--seed", "1")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: service.post().status_code, range(12)))
    state = requests.get(service.url, timeout=5).json()
    assert answers == [200] * 12
    assert state["served"] == 12
    assert state["longest_queue"] >= 6, "the later ones have waited for those before them"
    assert (state["busy"], state["waiting"]) == (0, 0)
    assert service.stop() == 0


def test_a_full_queue_is_answered_with_503_and_counted(tmp_path: Path) -> None:
    options = ("--concurrency", "1", "--queue-length", "2", "--service-time-ms", "200", "--seed", "1")
    service = Service(tmp_path, *options)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: service.post().status_code, range(12)))
    refused = requests.get(service.url, timeout=5).json()["refused"]
    assert set(answers) == {200, 503}
    assert answers.count(503) == refused
    assert len([line for line in service.lines() if "POST" in line]) == 12, "what is refused has arrived, too"
    assert service.stop() == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_no_line_of_the_log_is_lost_however_the_service_ends(tmp_path: Path, number: int, status: int) -> None:
    service = Service(tmp_path, "--service-time-ms", "1")
    before = len(service.lines())
    for request in range(20):
        service.post(**{"X-Request-Id": str(request)})
    assert service.stop(number) == status
    assert [line.split()[1] for line in service.lines()[before:]] == [str(request) for request in range(20)]


def test_a_wrong_option_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.service", "--port", "1", "--log", str(tmp_path / "log")]
    ran = subprocess.run([*command, "--concurrency", "0"], capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 2
    assert "--concurrency: must be at least 1" in ran.stderr
