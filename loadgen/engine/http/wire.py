"""A request as it goes out, and what its response may ask for next."""

from __future__ import annotations

from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Final, NamedTuple

from loadgen.engine.http.tls import TlsOptions
from loadgen.engine.primitives import numbered
from loadgen.protocol.request_ids import IdForm

# Looked up here once: an enum's members take long to find.
DOTTED: Final = IdForm.DOTTED
_TRACEPARENT: Final = IdForm.TRACEPARENT


@dataclass(frozen=True, slots=True)
class Follow:
    """What is needed, besides the request's bytes, to follow a redirect as `requests` does.

    Attributes:
        origin: scheme and network location of the request, `http://pi:8080`.
        hops: redirects that led here.
        cookies: those of the keyword and of the responses so far; None for none.
        own_host: the request has a Host header of its own, which stays.
        tls: for a hop to https.
    """

    origin: str
    hops: int
    cookies: CookieJar | None
    own_host: bool
    tls: TlsOptions


class Wire(NamedTuple):
    """A request's bytes for one host: `head` ends where the client and sequence number of the request id belong."""

    head: bytes
    tail: bytes
    timeout_ns: int  # from sending to the complete response
    bodiless: bool  # no body follows the response's head, whatever the head says (HEAD)
    follow: Follow | None = None  # None: a redirect is a response like any other
    tls: TlsOptions | None = None  # None: no TLS
    connect_timeout_s: float | None = None  # None: the workload's
    id_form: IdForm = DOTTED

    def written(self, client: int, sequence: int) -> bytes:
        """The request as it goes out."""
        head, tail, form = self.head, self.tail, self.id_form
        if form is DOTTED:
            return numbered(head, client, sequence, tail)
        if form is _TRACEPARENT:
            return b"%b%08x%08x-%08x%b" % (head, client, sequence, sequence, tail)
        return head + tail
