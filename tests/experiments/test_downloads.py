"""Downloads: a limited number at a time, and a client that has stalled does not keep its place."""

from __future__ import annotations

import gc
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.test import Client, RequestFactory
from rest_framework.request import Request

from experiments import downloads
from experiments.services import apps
from galileo_site.environment import PROJECT_ROOT
from tests.support import batches
from tests.support.archives import app_archive

pytestmark = pytest.mark.django_db

CSV = ("traces", "telemetry", "series")


@pytest.fixture(autouse=True)
def free_again() -> Iterator[None]:
    """Each test begins and ends with every place free; another test may have left a response that it did not read."""
    gc.collect()
    assert downloads._free._value == downloads.MAX_DOWNLOADS  # type: ignore[attr-defined]
    yield
    assert downloads._free._value == downloads.MAX_DOWNLOADS  # type: ignore[attr-defined]


def request(**meta: Any) -> Request:
    return Request(RequestFactory().get("/", **meta))


def read(response: Any) -> bytes:
    return b"".join(response.streaming_content)


@pytest.mark.parametrize("part", CSV)
def test_download_too_many_is_a_503_and_lists_go_on(api: Client, broker: redis.Redis, part: str) -> None:
    experiment = batches.make_experiment(status="FINISHED")
    path = f"/api/experiments/{experiment.id}/{part}?format=csv"
    opened = [api.get(path) for _ in range(downloads.MAX_DOWNLOADS)]
    assert {response.status_code for response in opened} == {200}
    refused = api.get(path)
    assert (refused.status_code, "try again later" in refused.json()["detail"]) == (503, True)
    assert api.get("/api/experiments?limit=1").status_code == 200
    assert api.get(path.partition("?")[0]).status_code == 200
    read(opened.pop())
    again = api.get(path)
    assert again.status_code == 200
    for response in [*opened, again]:
        read(response)


def test_download_of_an_app_counts_and_is_whole(api: Client, settings: Any, tmp_path: Path) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path
    archive = app_archive()
    apps.upload(archive, "ann")
    opened = [api.get("/api/apps/shop/download") for _ in range(downloads.MAX_DOWNLOADS)]
    assert api.get("/api/apps/shop/download").status_code == 503
    assert [read(response) for response in opened] == [archive] * downloads.MAX_DOWNLOADS


def test_missing_file_and_refused_query_free_the_place(api: Client, settings: Any, tmp_path: Path) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path
    apps.upload(app_archive(), "ann")
    for file in tmp_path.glob("*.zip"):
        file.unlink()
    experiment = batches.make_experiment()
    for _ in range(downloads.MAX_DOWNLOADS + 1):
        assert api.get("/api/apps/shop/download").status_code == 404
        assert api.get(f"/api/experiments/{experiment.id}/traces?format=csv&limit=0").status_code == 400


def test_response_that_is_never_read_frees_its_place() -> None:
    for _ in range(downloads.MAX_DOWNLOADS + 1):
        response = downloads.csv_download(request(), "x", ("a",), [(1,)])
        response.close()
        response.close()  # a second time changes nothing


def test_error_while_rows_are_read_frees_the_place() -> None:
    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        raise OSError("the database is away")

    for _ in range(downloads.MAX_DOWNLOADS + 1):
        response = downloads.csv_download(request(), "x", ("a",), rows())
        with pytest.raises(OSError, match="away"):
            read(response)
        response.close()


def test_stalled_client_loses_its_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        downloads.csv_download(request(**{"gunicorn.socket": ours}), "x", ("a",), []).close()
        assert ours.gettimeout() == downloads.STALL_S


def test_rows_are_sent_in_small_pieces() -> None:
    response: Any = downloads.csv_download(request(), "x", ("number",), ((number,) for number in range(50_000)))
    pieces = list(response.streaming_content)
    response.close()
    assert max(map(len, pieces)) < 2 * downloads.PIECE_CHARACTERS
    assert b"".join(pieces) == b"number\n" + b"".join(b"%d\n" % number for number in range(50_000))


def test_web_process_has_twice_as_many_threads_as_downloads() -> None:
    (threads,) = re.findall(r"--threads (\d+)", (PROJECT_ROOT / "bin" / "run").read_text())
    assert int(threads) == 2 * downloads.MAX_DOWNLOADS
