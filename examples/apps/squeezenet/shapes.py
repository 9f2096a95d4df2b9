"""Generates labelled pictures of geometric shapes, as PNG, with the standard library only.

A picture is grey, noisy, and shows one bright shape on a dark ground; place, size and brightness vary with the seed.
The client app sends such pictures, and the example service learns from them.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

# Each function returns whether the point (x, y), in units of the shape's half width, belongs to the shape.
_INSIDE: dict[str, Callable[[float, float], bool]] = {
    "disc": lambda x, y: x * x + y * y <= 1,
    "ring": lambda x, y: 0.36 <= x * x + y * y <= 1,
    "square": lambda x, y: abs(x) <= 0.9 and abs(y) <= 0.9,
    "triangle": lambda x, y: -1 <= y <= 1 and abs(x) <= (y + 1) / 2,
    "cross": lambda x, y: min(abs(x), abs(y)) <= 0.3 and max(abs(x), abs(y)) <= 1,
}
KINDS = tuple(_INSIDE)
MIN_SIZE = 16
_NOISE = 72  # grey levels


def png(kind: str, size: int, seed: int) -> bytes:
    """Returns an 8-bit grey PNG of `size` × `size` pixels that shows a `kind`; the same arguments give the same bytes.

    Raises:
        ValueError: `kind` is not one of `KINDS`, or `size` is below `MIN_SIZE`.
    """
    if kind not in _INSIDE:
        raise ValueError(f"kind: must be one of {', '.join(KINDS)}, got {kind!r}")
    if size < MIN_SIZE:
        raise ValueError(f"size: must be at least {MIN_SIZE} pixels, got {size}")
    inside = _INSIDE[kind]
    rng = random.Random(f"{kind}/{size}/{seed}")
    radius = size * rng.uniform(0.24, 0.42)
    centre_x, centre_y = (rng.uniform(radius, size - radius) for _ in "xy")
    ground, shade = rng.randint(10, 60), rng.randint(130, 180)
    noise = rng.randbytes(size * size)
    columns = [(column + 0.5 - centre_x) / radius for column in range(size)]
    rows = bytearray()
    for row in range(size):
        y = (row + 0.5 - centre_y) / radius
        rows.append(0)  # PNG filter type of the row: none
        start = row * size
        rows.extend(
            (shade if inside(x, y) else ground) + noise[start + column] * _NOISE // 256
            for column, x in enumerate(columns)
        )
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(rows), 6)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
