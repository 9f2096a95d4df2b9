"""The example service's classifier and the pictures that it learns from."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from examples.apps.squeezenet.shapes import KINDS, png
from examples.service.classifier import Classifier, NotAnImage, train

pytestmark = pytest.mark.costly


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return train()


@pytest.mark.parametrize("size", [32, 64])
def test_more_than_nine_of_ten_unseen_pictures_are_recognised(classifier: Classifier, size: int) -> None:
    pictures = [(kind, png(kind, size, seed)) for kind in KINDS for seed in range(40)]
    right = sum(next(iter(classifier.predict(data))) == kind for kind, data in pictures)
    assert right > 0.9 * len(pictures)


def test_predictions_are_sorted_by_probability(classifier: Classifier) -> None:
    chances = classifier.predict(png("ring", 32, 3))
    assert set(chances) == set(KINDS)
    assert list(chances.values()) == sorted(chances.values(), reverse=True)
    assert sum(chances.values()) == pytest.approx(1, abs=1e-5)


def test_a_jpeg_in_colour_is_recognised_too(classifier: Classifier) -> None:
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(png("cross", 64, 1))).convert("RGB").save(jpeg, "JPEG")
    assert next(iter(classifier.predict(jpeg.getvalue()))) == "cross"


def test_a_uniform_picture_is_classified_without_a_warning(classifier: Classifier) -> None:
    plain = io.BytesIO()
    Image.new("L", (20, 30), 90).save(plain, "PNG")
    assert sum(classifier.predict(plain.getvalue()).values()) == pytest.approx(1, abs=1e-5)


def damaged() -> bytes:
    whole = png("disc", 32, 1)
    return whole[: len(whole) // 2]


def too_large() -> bytes:
    large = io.BytesIO()
    Image.new("L", (600, 600)).save(large, "PNG")
    return large.getvalue()


def gif() -> bytes:
    other = io.BytesIO()
    Image.new("L", (8, 8)).save(other, "GIF")
    return other.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a PNG or JPEG"),
        (b"hello", "not a PNG or JPEG"),
        (zlib.compress(b"hello"), "not a PNG or JPEG"),
        (gif(), "not a PNG or JPEG"),
        (damaged(), "damaged"),
        (too_large(), "600 × 600 pixels"),
    ],
)
def test_what_is_no_usable_image_is_refused_with_the_reason(classifier: Classifier, data: bytes, reason: str) -> None:
    with pytest.raises(NotAnImage, match=reason):
        classifier.predict(data)


def test_a_picture_is_a_valid_png_and_fixed_by_its_arguments() -> None:
    data = png("triangle", 24, 9)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (24, 24), "L")
        image.load()
    assert data == png("triangle", 24, 9)
    assert data != png("triangle", 24, 10)


@pytest.mark.parametrize(("kind", "size", "field"), [("star", 32, "kind"), ("disc", 8, "size")])
def test_a_picture_that_cannot_be_made_is_refused_by_field(kind: str, size: int, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        png(kind, size, 1)
