"""The client app `alexnet`: a generator, executed once for all clients of a shard."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from loadgen.apps.manifest import read_manifest
from tests.examples.client_apps import APPS, client, needs_nothing

ALEXNET = APPS / "alexnet"


def test_the_manifest_declares_the_app_shared() -> None:
    manifest = read_manifest((ALEXNET / "manifest.yml").read_bytes())
    assert (manifest.name, manifest.shared) == ("alexnet", True)


@pytest.mark.parametrize("size", [8, 33])
def test_a_request_posts_a_colourful_image_of_the_asked_size(size: int) -> None:
    method, path, keywords = client(ALEXNET, size=size, images=1)()
    assert (method, path) == ("post", "/predictions/alexnet")
    with Image.open(io.BytesIO(keywords["data"])) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (size, size))
        assert len(image.getcolors(size * size) or []) > size


def test_an_image_of_the_usual_size_is_as_large_as_a_photograph() -> None:
    data = client(ALEXNET, images=1)()[2]["data"]
    assert 50_000 < len(data) < 150_000


def test_the_same_images_are_sent_in_turn_for_ever() -> None:
    first, second = client(ALEXNET, size=8, images=2), client(ALEXNET, size=8, images=2)
    sent = [first()[2]["data"] for _ in range(4)]
    assert len(set(sent)) == 2
    assert sent[:2] == sent[2:] == [second()[2]["data"] for _ in range(2)]


def test_the_app_needs_nothing_but_the_standard_library() -> None:
    assert needs_nothing(ALEXNET)
