"""Raw HTTP replies with the oddities and faults of real servers, drawn from a grammar by a seeded source."""

from __future__ import annotations

import random

_ENDS = [b"\r\n"] * 12 + [b"\n", b"\n", b"\r\r\n", b" \r\n"]
_VERSIONS = (
    [b"HTTP/1.1"] * 20 + [b"HTTP/1.0"] * 4 + [b"HTTP/1.2", b"HTTP/1.", b"HTTP/0.9", b"HTTP/2", b"http/1.1", b"ICY", b""]
)
_BLANKS = [b" "] * 15 + [b"  ", b"\t", b""]
_STATUSES = [b"200"] * 12 + [
    b"404", b"503", b"204", b"304", b"301", b"307", b"100", b"101", b"102", b"103", b"199", b"99", b"999",
    b"1000", b"20x", b"+200", b"0200", b"2_00", b"-200", b"",
]  # fmt: skip
_REASONS = [b" OK"] * 6 + [b"", b" ", b" Not  Found", b" caf\xc3\xa9", b" a\x01b", b" \x85", b" \x00"]
_CODINGS = [b"chunked"] * 6 + [
    b"Chunked",
    b"chunked ",
    b"gzip, chunked",
    b"identity",
    b"chunked, identity",
    b"xchunked",
    b"",
]
_CONNECTIONS = [b"close", b"keep-alive", b"Keep-Alive", b"close, x", b"upgrade", b"", b"x\x0bclose"]
_OTHERS = [
    b"Server: nginx", b"X: a\x01b", b"X: a\r\n b", b"X: a\r\n\tb: c", b"X:", b": x", b"no colon", b"X Y: z",
    b"X : y", b" leading: blank", b"X: \xff\x80", b"X: a\rContent-Length: 1", b"X: a\x0bContent-Length: 1",
    b"Upgrade: websocket", b"Proxy-Connection: keep-alive", b"Keep-Alive: timeout=5", b"X: " + b"a" * 300,
    b"\x00: nul", b"From x", b"X: a\x85b", b"Trailer: X", b"Content-Type: multipart/form-data; boundary=x",
    b"Content-Length\t: 3",
]  # fmt: skip
_SIZES = [b"%x"] * 12 + [
    b"%X;ext=1", b"%x ", b" %x", b"0x%x", b"+%x", b"-%x", b"%x_0", b"0%x", b"", b"g", b"%x;", b"%x\x0b",
]  # fmt: skip
_INTERIMS = [
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100\r\nX: y\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n",
]  # fmt: skip


def reply(source: random.Random) -> bytes:
    """Returns one reply; more data, or the end of the connection, may follow it."""
    data = _interims(source) + _head_and_body(source)
    if source.random() < 0.15:
        data = _damaged(source, data)
    return data


def pieces(source: random.Random, data: bytes) -> list[bytes]:
    """Returns the data in pieces, as a network may deliver it."""
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(source.choice([0, 0, 1, 2, 5, 20])))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < stop]


def _interims(source: random.Random) -> bytes:
    return b"" if source.random() < 0.9 else source.choice(_INTERIMS)


def _head_and_body(source: random.Random) -> bytes:
    end = source.choice(_ENDS)
    chosen = source.choice
    status_line = chosen(_VERSIONS) + chosen(_BLANKS) + chosen(_STATUSES) + chosen(_REASONS)
    body, fields = _plain_body(source) if source.random() < 0.5 else _chunked_body(source)
    fields += [chosen(_OTHERS) for _ in range(source.choice([0, 0, 1, 1, 2, 3]))]
    if source.random() < 0.3:
        fields.append(b"Connection: " + chosen(_CONNECTIONS))
    if source.random() < 0.02:
        fields += [b"X-%d: y" % number for number in range(chosen([96, 97, 98, 99, 100, 101, 120]))]
    source.shuffle(fields)
    lines = [status_line, *fields]
    head = b"".join(line + (end if source.random() < 0.95 else chosen(_ENDS)) for line in lines)
    return head + chosen([b"\r\n"] * 8 + [b"\n", b""]) + body


def _plain_body(source: random.Random) -> tuple[bytes, list[bytes]]:
    body = source.randbytes(source.choice([0, 1, 2, 5, 40]))
    lengths = [b"%d" % len(body)] * 8 + [
        b"", b"abc", b"-1", b"+2", b"2_0", b" 2 ", b"0", b"2", b"7", b"2, 3", b"2, x",
        b"%d, %d" % (len(body), len(body)), b"99999999999999999999", b"1" * 5000, b"\xb2", b"2;", b"0x2",
        b"00%d" % len(body),
    ]  # fmt: skip
    names = [b"Content-Length: "] * 8 + [b"content-length:", b"CONTENT-LENGTH:\t", b"Content-Length : "]
    fields = [source.choice(names) + source.choice(lengths) for _ in range(source.choice([0, 1, 1, 1, 1, 1, 2]))]
    if source.random() < 0.1:
        fields.append(b"Transfer-Encoding: " + source.choice([b"identity", b"gzip", b""]))
    return body + source.choice([b"", b"", b"", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]), fields


def _chunked_body(source: random.Random) -> tuple[bytes, list[bytes]]:
    end = source.choice(_ENDS)
    parts = []
    for _ in range(source.choice([0, 1, 1, 2, 3])):
        data = source.randbytes(source.choice([1, 2, 10, 20]))
        size = source.choice(_SIZES)
        line = size % len(data) if b"%" in size else size
        line_break = b"\r\n" if source.random() < 0.95 else source.choice([b"\n", b"", b"xx", b"\r"])
        parts.append(line + end + data + line_break)
    parts.append(source.choice([b"0", b"0", b"0", b"00", b"0;x", b"-0", b" 0", b""]) + end)
    parts += source.choice([[], [], [b"X: y\r\n"], [b"X: y\n"], [b"\n"]])
    parts.append(source.choice([b"\r\n"] * 6 + [b"\n", b"", b"\r\nrest"]))
    fields = [b"Transfer-Encoding: " + source.choice(_CODINGS)]
    if source.random() < 0.2:
        fields.append(b"Content-Length: " + source.choice([b"2", b"0", b"x", b"2, 3"]))
    if source.random() < 0.05:
        fields.append(b"Transfer-Encoding: " + source.choice(_CODINGS))
    return b"".join(parts), fields


def _damaged(source: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice([1, 1, 2])):
        at, length = source.randrange(len(changed) + 1), source.randrange(1, 5)
        match source.randrange(4):
            case 0:
                changed[at : at + length] = b""
            case 1:
                changed[at:at] = source.randbytes(length)
            case 2:
                changed[at:at] = changed[at : at + 10 * length]
            case 3:
                del changed[at:]
    return bytes(changed)
