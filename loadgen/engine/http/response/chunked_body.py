"""ChunkedBody: finds the end of a body that comes in chunks, as urllib3 does (HTTPResponse.read_chunked)."""

from __future__ import annotations

from typing import Final

from loadgen.engine.http.response.head import MAX_HEAD_BYTES, MalformedError
from loadgen.protocol.outcomes import MalformedReason

_LINE_BREAK_BYTES: Final = 2  # behind each chunk; urllib3 skips them whatever they are
_MAX_SIZE: Final = 1 << 62


class ChunkedBody:
    """Is fed with a body's bytes piece by piece.

    Args:
        content: receives the bytes of the chunks; None: they are only counted.

    Attributes:
        size: bytes of the chunks so far.
    """

    __slots__ = ("_content", "_in_trailers", "_left", "_line", "_skip", "_trailer_bytes", "size")

    def __init__(self, content: bytearray | None = None) -> None:
        self.size = 0
        self._content = content
        self._left = 0  # bytes that the present chunk still lacks
        self._skip = 0  # bytes that the line break behind it still lacks
        self._line = b""  # the beginning of a line whose end has not come yet
        self._in_trailers = False
        self._trailer_bytes = 0

    def feed(self, data: bytes, position: int) -> int:
        """Reads on at a position in the data; returns where the body ends in it, -1 if more has to come.

        Raises:
            MalformedError: a chunk has no valid size, or a line is too long.
        """
        length = len(data)
        while position < length:
            if self._left:
                step = min(self._left, length - position)
                if self._content is not None:
                    self._content += data[position : position + step]
                self.size += step
                self._left -= step
                position += step
                if not self._left:
                    self._skip = _LINE_BREAK_BYTES
            elif self._skip:
                step = min(self._skip, length - position)
                self._skip -= step
                position += step
            else:
                end = data.find(b"\n", position) + 1
                self._line += data[position : end or length]
                if len(self._line) + self._trailer_bytes > MAX_HEAD_BYTES:
                    raise MalformedError(MalformedReason.CHUNK)
                if not end:
                    return -1
                position = end
                line, self._line = self._line, b""
                if self._in_trailers:
                    if line == b"\r\n":
                        return position
                    self._trailer_bytes += len(line)
                else:
                    self._begin_chunk(line)
        return -1

    def ends_with_connection(self) -> bool:
        """Returns whether the body is complete if the connection ends now: only trailers may be missing."""
        if self._line and not (self._in_trailers or self._left or self._skip):
            try:
                self._begin_chunk(self._line)
            except MalformedError:
                return False
        return self._in_trailers

    def _begin_chunk(self, line: bytes) -> None:
        try:
            size = int(line.split(b";", 1)[0], 16)
        except ValueError:
            size = -1
        if size < 0:
            raise MalformedError(MalformedReason.CHUNK)
        self._left = min(size, _MAX_SIZE)
        self._in_trailers = size == 0
