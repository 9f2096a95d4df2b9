"""A response as a client app gets it: cookies as the jar of `requests` keeps them, and bodies as it decodes them."""

from __future__ import annotations

import gzip
import io
import random
import zlib

import pytest
import urllib3

from loadgen.engine.http.response import app_response
from loadgen.engine.http.response.app_response import AppResponse

FOUND = b"HTTP/1.1 302 Found\r\nLocation: /home\r\n"


def with_headers(*lines: bytes, body: bytes = b"ok") -> AppResponse:
    return AppResponse(200, b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body)


@pytest.mark.parametrize(
    ("value", "cookies"),
    [
        (b"sid=abc; Path=/; Secure; HttpOnly; SameSite=None; Partitioned", {"sid": "abc"}),
        (b"sid=abc; Path=/; SameParty", {"sid": "abc"}),
        (b"sid=abc; Path=/; Priority=High", {"sid": "abc"}),
        (b'p={"a":1,"b":"x"}; Path=/', {"p": '{"a":1,"b":"x"}'}),
        (b'sid="abc"; Path=/', {"sid": '"abc"'}),
        (b"name=John Smith; Path=/", {"name": "John Smith"}),
        (b"a[b]=1; Path=/", {"a[b]": "1"}),
        (b"a=1, b=2", {"a": "1, b=2"}),
        (b"u=caf\xc3\xa9", {"u": b"caf\xc3\xa9".decode("latin-1")}),  # sent again, it has the same bytes
        (b"sid=abc; Domain=shop.example; Path=/cart", {"sid": "abc"}),
        (b"sid=abc; Expires=Wed, 01 Jan 2070 00:00:00 GMT", {"sid": "abc"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"empty=", {"empty": ""}),
        (b"sid=gone; Max-Age=0; Path=/", {}),
        (b"sid=gone; Expires=Thu, 01 Jan 1970 00:00:00 GMT", {}),
    ],
)
def test_cookies_are_read_as_by_requests(value: bytes, cookies: dict[str, str]) -> None:
    assert with_headers(b"Set-Cookie: " + value).cookies == cookies


def test_each_set_cookie_header_is_a_cookie() -> None:
    response = with_headers(b"Set-Cookie: a=1; Path=/", b"set-cookie: b=2", b"Set-Cookie: a=3; Path=/")
    assert response.cookies == {"a": "3", "b": "2"}


def test_cookies_of_redirects_are_those_of_the_last_response() -> None:
    history = (
        FOUND + b"Set-Cookie: sid=1; Path=/\r\nSet-Cookie: step=1\r\n\r\n",
        FOUND + b"Set-Cookie: step=2\r\nSet-Cookie: sid=0; Max-Age=0; Path=/\r\nSet-Cookie: new=3\r\n\r\n",
    )
    response = AppResponse(200, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nSet-Cookie: last=4\r\n\r\nhome", history)
    assert response.cookies == {"step": "2", "new": "3", "last": "4"}
    assert [(past.status, past.headers["Location"], past.cookies) for past in response.history] == [
        (302, "/home", {"sid": "1", "step": "1"}),
        (302, "/home", {"step": "2", "new": "3"}),
    ]
    assert [(past.body, past.history) for past in response.history] == [(b"", []), (b"", [])]


def deflated(data: bytes) -> bytes:
    """Without zlib's header, as some servers send it."""
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return raw.compress(data) + raw.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(b"hello", mtime=0)),
        (b"x-gzip", gzip.compress(b"hello", mtime=0)),
        (b"GZip", gzip.compress(b"hello", mtime=0)),
        (b"gzip", gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0)),
        (b"deflate", zlib.compress(b"hello")),
        (b"deflate", deflated(b"hello")),
        (b"deflate, gzip", gzip.compress(zlib.compress(b"hello"), mtime=0)),
        (b"identity", b"hello"),
        (b"gzip", b"hello"),
        (b"unknown", b"hello"),
    ],
)
def test_a_body_is_decoded_as_by_requests(coding: bytes, body: bytes) -> None:
    response = with_headers(b"Content-Encoding: " + coding, b"Content-Length: %d" % len(body), body=body)
    assert (response.body, response.truncated) == (b"hello", False)
    chunks = b"%x\r\n" % 3 + body[:3] + b"\r\n%x\r\n" % len(body[3:]) + body[3:] + b"\r\n0\r\n\r\n"
    response = with_headers(b"Content-Encoding: " + coding, b"Transfer-Encoding: chunked", body=chunks)
    assert (response.body, response.truncated) == (b"hello", False)


def test_several_content_encodings_are_joined_as_by_urllib3() -> None:
    body = gzip.compress(zlib.compress(b"hello"), mtime=0)
    received = urllib3.HTTPHeaderDict([("Content-Encoding", "deflate"), ("Content-Encoding", "gzip")])
    assert urllib3.HTTPResponse(io.BytesIO(body), received).data == b"hello"
    response = with_headers(
        b"Content-Encoding: deflate", b"content-encoding: gzip", b"Content-Length: %d" % len(body), body=body
    )
    assert response.body == b"hello"


def test_a_compressed_body_that_was_cut_keeps_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(1).randbytes(5000)
    packed = gzip.compress(content)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    data = (head + packed)[:300]
    monkeypatch.setattr(app_response, "MAX_RESPONSE_BYTES", 300)
    response = AppResponse(200, data)
    assert response.truncated
    assert response.body and content.startswith(response.body)
