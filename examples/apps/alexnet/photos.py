"""Generates colourful pictures without a subject, as PNG, with the standard library only.

A picture is a coarse grid of random colours, blended from one to the next, with the noise of a camera on it. It
compresses about as well as a photograph, so that transferring and decoding it costs as much.
"""

from __future__ import annotations

import random
import struct
import zlib

_CELLS = 7  # of the coarse grid, in each direction
_NOISE_BITS = 3


def png(size: int, seed: int) -> bytes:
    """Returns an 8-bit RGB PNG of `size` × `size` pixels; the same arguments give the same bytes."""
    rng = random.Random(f"{size}/{seed}")
    grid = [[[rng.randint(8, 240) for _ in "rgb"] for _ in range(_CELLS + 1)] for _ in range(_CELLS + 1)]
    mask = int.from_bytes(bytes([(1 << _NOISE_BITS) - 1]) * size * 3, "big")
    rows = bytearray()
    for y in range(size):
        cell, part = divmod(y * _CELLS, size)
        smooth = _row(_blend(grid[cell], grid[cell + 1], part / size), size)
        # All bytes of the row at once: noise replaces the low bits of each value.
        value = int.from_bytes(smooth, "big") & ~mask | rng.getrandbits(len(smooth) * 8) & mask
        rows.append(0)  # PNG filter type of the row: none
        rows += value.to_bytes(len(smooth), "big")
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(rows), 6)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _blend(upper: list[list[int]], lower: list[list[int]], part: float) -> list[list[float]]:
    """Returns a line of colours, `part` of the way from the upper line of the grid to the lower one."""
    return [
        [a + (b - a) * part for a, b in zip(one, other, strict=True)] for one, other in zip(upper, lower, strict=True)
    ]


def _row(colours: list[list[float]], size: int) -> bytes:
    """Returns the bytes of a row of pixels whose colour changes gradually through `colours`."""
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
