"""Slow clients: downloads that are taken slowly, or not at all, leave the web server free for everything else."""

from __future__ import annotations

import os
import socket
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import requests

from experiments.downloads import MAX_DOWNLOADS
from tests.e2e.test_load import routes
from tests.support.archives import app_archive, member
from tests.support.galileo import Galileo
from tests.support.http_target import HttpTarget
from tests.support.plans import plan_data
from tests.support.waiting import wait_for

# More than the kernel buffers of a connection, so that the web server has to wait for its client.
ARCHIVE_BYTES = 30 << 20
PROCESSES = 2


@pytest.fixture
def archive(galileo: Galileo) -> Iterator[bytes]:
    """A large client app in the repository."""
    large = member("data.bin", method=zipfile.ZIP_STORED), os.urandom(ARCHIVE_BYTES)
    data = app_archive(large, manifest=b"name: large")
    answer = galileo.web.request("POST", "/apps", data=data)
    assert answer.status_code == 201, answer.text
    yield data
    galileo.web.request("DELETE", "/apps/large")


def begin_download(galileo: Galileo, connections: ExitStack) -> int:
    """Asks for the app, and reads nothing but the status of the response."""
    url = urlsplit(galileo.web.url)
    connection = connections.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", url.port))
    head = f"GET {url.path}/apps/large/download HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    connection.sendall(f"{head}Authorization: {galileo.web.authorization}\r\n\r\n".encode())
    return int(connection.recv(12).split()[1])


def test_slow_downloads_delay_neither_lists_nor_a_cancel(galileo: Galileo, target: HttpTarget, archive: bytes) -> None:
    experiment_id = galileo.web.begin(plan_data(duration=60, interval=60, ticks=[5], routing=routes(target.host)))
    admin = f"http://127.0.0.1:{urlsplit(galileo.web.url).port}/admin/login/"
    with ExitStack() as connections:
        statuses = [begin_download(galileo, connections) for _ in range((PROCESSES + 1) * MAX_DOWNLOADS)]
        assert set(statuses) == {200, 503}
        assert MAX_DOWNLOADS <= statuses.count(200) <= PROCESSES * MAX_DOWNLOADS
        for _ in range(10):
            assert galileo.web.request("GET", "/experiments?limit=1").status_code == 200
            assert requests.get(admin, timeout=30).status_code == 200
        assert galileo.web.cancel(experiment_id) == 202
    galileo.wait_for_status(experiment_id, "CANCELLED")

    def is_free() -> bool:
        response = galileo.web.request("GET", "/apps/large/download")
        return response.status_code == 200 and response.content == archive

    wait_for(is_free, "a download")


def test_cancel_command_needs_no_web_server(galileo: Galileo, target: HttpTarget) -> None:
    experiment_id = galileo.begin(plan_data(duration=60, interval=60, ticks=[5], routing=routes(target.host)))
    wait_for(lambda: target.ids(experiment_id), "the first request")
    printed = galileo.manage("cancel", experiment_id, "--reason", "enough").stdout
    assert experiment_id in printed
    assert galileo.wait_for_status(experiment_id, "CANCELLED") == "CANCELLED"
    assert galileo.experiment(experiment_id).reason.endswith(": enough")
