"""A small real image classifier: multinomial logistic regression on 8 × 8 grey values.

It is trained at the start of the service with a few hundred generated pictures of five shapes (`shapes.py` of the
client app `squeezenet`). It is not a neural network and recognises these shapes only. It replaces a model
that an edge device would serve: it decodes the posted image, computes features, and returns a probability per class.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from examples.apps.squeezenet.shapes import KINDS, png

MAX_PIXELS = 512 * 512  # decoding runs on the event loop and must be short
_COARSE = 16
_FINE = 8
Matrix = NDArray[np.float64]


class NotAnImage(Exception):
    """The bytes cannot be classified; the message says why."""


def features(data: bytes) -> Matrix:
    """Returns a vector of 8 × 8 grey values (mean 0, deviation 1) of the brightest object, cut out, of a PNG or JPEG.

    Raises:
        NotAnImage: not a PNG or JPEG, damaged, or more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotAnImage(f"{image.width} × {image.height} pixels are more than {MAX_PIXELS}")
            grey = image.convert("L")
    except UnidentifiedImageError as error:
        raise NotAnImage("the body is not a PNG or JPEG image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # raised by Pillow's decoders
        raise NotAnImage(f"the image is damaged: {error}") from error
    coarse = np.asarray(grey.resize((_COARSE, _COARSE), Image.Resampling.BOX), dtype=np.float64)
    bright = coarse > (coarse.min() + coarse.max()) / 2
    if bright.any():
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        scale_x, scale_y = grey.width / _COARSE, grey.height / _COARSE
        box = (columns[0] * scale_x, rows[0] * scale_y, (columns[-1] + 1) * scale_x, (rows[-1] + 1) * scale_y)
    else:  # all pixels have the same grey value
        box = (0.0, 0.0, float(grey.width), float(grey.height))
    fine = np.asarray(grey.resize((_FINE, _FINE), Image.Resampling.BOX, box=box), dtype=np.float64).ravel()
    centred = fine - fine.mean()
    scaled: Matrix = centred / (centred.std() + 1e-9)
    return scaled


class Classifier:
    """Classes and weights (features + 1 × classes; the last row is the bias)."""

    def __init__(self, classes: tuple[str, ...], weights: Matrix) -> None:
        self.classes = classes
        self._weights = weights

    def predict(self, data: bytes) -> dict[str, float]:
        """Returns class → probability, the most probable first. Raises NotAnImage."""
        chances = _softmax(np.append(features(data), 1.0)[None, :] @ self._weights)[0]
        order = np.argsort(chances)[::-1]
        return {self.classes[i]: round(float(chances[i]), 6) for i in order}


def train(samples_per_class: int = 60, size: int = 32, seed: int = 0, steps: int = 200) -> Classifier:
    """Fits a classifier to generated pictures by gradient descent on the cross entropy, with slight weight decay."""
    first = seed * 1_000_000 + 500_000  # far from the seeds that the client app uses: it sends unseen pictures
    labels = np.repeat(np.arange(len(KINDS)), samples_per_class)
    inputs = np.stack([features(png(KINDS[label], size, first + i)) for i, label in enumerate(labels)])
    inputs = np.hstack([inputs, np.ones((len(inputs), 1))])
    targets = np.eye(len(KINDS))[labels]
    weights = np.zeros((inputs.shape[1], len(KINDS)))
    for _ in range(steps):
        gradient = inputs.T @ (_softmax(inputs @ weights) - targets) / len(inputs)
        weights -= 0.2 * (gradient + 0.002 * weights)
    return Classifier(KINDS, weights)


def _softmax(scores: Matrix) -> Matrix:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return chances
