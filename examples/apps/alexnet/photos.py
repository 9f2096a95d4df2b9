"""Colourful pictures without a subject, as PNG, from the standard library alone.

A picture is a coarse grid of random colours, blended from one to the next, with the noise of a camera on it: it
compresses about as well as a photograph, which is what matters to who has to carry and to decode it.
"""

from __future__ import annotations

import random
import struct
import zlib

_CELLS = 7  # of the coarse grid, in each direction
_NOISE_BITS = 3


def png(size: int, seed: int) -> bytes:
    """An 8-bit RGB PNG of `size` × `size` pixels; the same arguments give the same bytes."""
    rng = random.Random(f"{size}/{seed}")
    grid = [[[rng.randint(8, 240) for _ in "rgb"] for _ in range(_CELLS + 1)] for _ in range(_CELLS + 1)]
    mask = int.from_bytes(bytes([(1 << _NOISE_BITS) - 1]) * size * 3, "big")
    rows = bytearray()
    for y in range(size):
        cell, part = divmod(y * _CELLS, size)
        smooth = _row(_blend(grid[cell], grid[cell + 1], part / size), size)
        # All bytes of the row at once: a value's low bits give way to noise.
        value = int.from_bytes(smooth, "big") & ~mask | rng.getrandbits(len(smooth) * 8) & mask
        rows.append(0)  # PNG filter type of the row: none
        rows += value.to_bytes(len(smooth), "big")
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(rows), 6)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _blend(upper: list[list[int]], lower: list[list[int]], part: float) -> list[list[float]]:
    """A line of the grid's colours, `part` of the way from one to the next."""
    return [
        [a + (b - a) * part for a, b in zip(one, other, strict=True)] for one, other in zip(upper, lower, strict=True)
    ]


def _row(colours: list[list[float]], size: int) -> bytes:
    """The bytes of a row of pixels whose colour goes from one of the given to the next."""
    row = bytearray(size * 3)
    for channel in range(3):
        values = [colour[channel] for colour in colours]
        places = (divmod(x * _CELLS, size) for x in range(size))
        row[channel::3] = bytes(
            int(values[cell] + (values[cell + 1] - values[cell]) * part / size) for cell, part in places
        )
    return bytes(row)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
