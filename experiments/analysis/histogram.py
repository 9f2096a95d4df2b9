"""Histograms of durations that merge by addition: log-linear buckets over whole nanoseconds.

Each power of two is divided into 64 equal buckets, and values below 128 ns have a bucket each. A bucket is named by its
middle, which is at most 1/128 (0.78 %) away from any value in it, up to 2**53 ns (104 days); longer counts as that.
The count, the sum and the maximum are kept apart and exact.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SUB_BUCKET_BITS = 6
SUB_BUCKETS = 1 << SUB_BUCKET_BITS
MAX_VALUE_NS = (1 << 53) - 1  # up to here the exponent of a float64 is that of the integer
BUCKETS = (53 - SUB_BUCKET_BITS - 1) * SUB_BUCKETS + 2 * SUB_BUCKETS
MAX_RELATIVE_ERROR = 1 / (2 * SUB_BUCKETS)

_FORMAT = 1
_HEAD = struct.Struct("<QQI")  # sum, maximum, number of buckets that are not empty

Integers = NDArray[np.int64]


class HistogramError(ValueError):
    """Stored bytes are no histogram of a known form."""


def bucket_of(values_ns: Integers) -> Integers:
    """The bucket index of each value; negative ones count as 0."""
    values = np.clip(values_ns, 0, MAX_VALUE_NS)
    # frexp: values = m * 2**e with 0.5 <= m < 1, so e - 1 is the position of the highest bit.
    exponents = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    shifts = np.maximum(exponents - 1 - SUB_BUCKET_BITS, 0)
    buckets: Integers = shifts * SUB_BUCKETS + (values >> shifts)
    return buckets


def middle_of(bucket: int) -> float:
    """The value in ns that stands for a bucket: the mean of the least and the greatest in it."""
    if bucket < 2 * SUB_BUCKETS:
        return float(bucket)
    shift = bucket // SUB_BUCKETS - 1
    least = (bucket - shift * SUB_BUCKETS) << shift
    return least + ((1 << shift) - 1) / 2


def counts(values_ns: Integers) -> Integers:
    """How many of the values each of the BUCKETS holds."""
    return np.bincount(bucket_of(values_ns), minlength=BUCKETS).astype(np.int64)


class Histogram:
    """Durations in ns. `add`, `add_equal` and `merge` change it in place."""

    __slots__ = ("_counts", "max_ns", "sum_ns")

    def __init__(self) -> None:
        self._counts: Integers = np.zeros(BUCKETS, dtype=np.int64)
        self.sum_ns = 0
        self.max_ns = 0

    @classmethod
    def of(cls, values_ns: Integers) -> Histogram:
        histogram = cls()
        histogram.add(values_ns)
        return histogram

    @classmethod
    def merged(cls, parts: Iterable[bytes | memoryview | Histogram]) -> Histogram:
        """The sum of histograms, each as an object or as its stored bytes."""
        histogram = cls()
        for part in parts:
            histogram.merge(part if isinstance(part, Histogram) else cls.from_bytes(part))
        return histogram

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    @property
    def mean_ns(self) -> float | None:
        count = self.count
        return self.sum_ns / count if count else None

    def add(self, values_ns: Integers) -> None:
        """Adds values; negative ones count as 0."""
        if not len(values_ns):
            return
        values = np.clip(values_ns, 0, MAX_VALUE_NS)
        self._counts += counts(values)
        # Halves apart, so that no sum of int64 can overflow.
        self.sum_ns += (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
        self.max_ns = max(self.max_ns, int(values.max()))

    def add_equal(self, value_ns: int, number: int) -> None:
        """Adds a value so many times."""
        if number:
            value = min(max(value_ns, 0), MAX_VALUE_NS)
            self._counts += number * counts(np.array([value]))
            self.sum_ns += number * value
            self.max_ns = max(self.max_ns, value)

    def merge(self, other: Histogram) -> None:
        self._counts += other._counts
        self.sum_ns += other.sum_ns
        self.max_ns = max(self.max_ns, other.max_ns)

    def quantile(self, q: float) -> float | None:
        """The q-quantile (0 <= q <= 1) in ns by nearest rank, None without values; q = 1 is the exact maximum.

        The relative error is at most MAX_RELATIVE_ERROR.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile lies between 0 and 1, not at {q}")
        cumulative = self._counts.cumsum()
        count = int(cumulative[-1])
        if count == 0:
            return None
        rank = max(1, -int(-q * count // 1))
        if rank >= count:
            return float(self.max_ns)
        return min(middle_of(int(np.searchsorted(cumulative, rank))), float(self.max_ns))

    def to_bytes(self) -> bytes:
        """Compact form: a format byte, then zlib over the head, the non-empty buckets' distances and their counts."""
        filled = np.flatnonzero(self._counts)
        distances = np.diff(filled, prepend=0).astype("<u2")
        body = (
            _HEAD.pack(self.sum_ns, self.max_ns, len(filled))
            + distances.tobytes()
            + self._counts[filled].astype("<u8").tobytes()
        )
        return bytes([_FORMAT]) + zlib.compress(body, 1)

    @classmethod
    def from_bytes(cls, stored: bytes | memoryview) -> Histogram:
        """Raises HistogramError for what `to_bytes` did not make."""
        data = bytes(stored)
        if data[:1] != bytes([_FORMAT]):
            raise HistogramError(f"a histogram of an unknown form: {data[:1]!r}")
        try:
            body = zlib.decompress(data[1:])
            sum_ns, max_ns, filled = _HEAD.unpack_from(body)
            distances = np.frombuffer(body, "<u2", filled, _HEAD.size)
            values = np.frombuffer(body, "<u8", filled, _HEAD.size + 2 * filled)
            histogram = cls()
            histogram._counts[distances.astype(np.int64).cumsum()] = values
        except (zlib.error, struct.error, ValueError, IndexError) as error:
            raise HistogramError(f"a histogram that cannot be read: {error}") from error
        histogram.sum_ns, histogram.max_ns = sum_ns, max_ns
        return histogram
