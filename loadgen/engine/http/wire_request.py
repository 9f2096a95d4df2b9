"""WireRequest: the bytes and time-outs of a request. QueuedRequest: one that waits for a connection."""

from __future__ import annotations

from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Final, NamedTuple

from loadgen.engine.http.tls import TlsOptions
from loadgen.engine.primitives import numbered
from loadgen.protocol.request_ids import IdForm, id_end

# Looked up here once: access to an enum's members is slow.
DASHED: Final = IdForm.DASHED
_DOTTED: Final = IdForm.DOTTED
_TRACEPARENT: Final = IdForm.TRACEPARENT
_IDEMPOTENT: Final = tuple(f"{name} ".encode() for name in ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


@dataclass(frozen=True, slots=True)
class RedirectState:
    """The state, besides the request's bytes, for following a redirect as `requests` does.

    Attributes:
        origin: scheme and network location of the request, `http://pi:8080`.
        hops: redirects that were followed so far.
        cookies: those of the keyword and of the responses so far; None for none.
        own_host: whether the app set the Host header itself; it is kept then.
        tls: options of a hop to https.
    """

    origin: str
    hops: int
    cookies: CookieJar | None
    own_host: bool
    tls: TlsOptions


class WireRequest(NamedTuple):
    """A request's bytes for one host: client and sequence number of the request id go between `head` and `tail`."""

    head: bytes
    tail: bytes
    timeout_ns: int  # from sending to the complete response
    bodiless: bool  # no body follows the response's head, whatever the head says (HEAD)
    redirects: RedirectState | None = None  # None: a redirect is a response like any other
    tls: TlsOptions | None = None  # None: no TLS
    connect_timeout_s: float | None = None  # None: the workload's
    id_form: IdForm = DASHED
    sent: int = 0  # requests of the arrival before this one, which the end of its id counts

    @property
    def is_idempotent(self) -> bool:
        """Whether it may be sent twice without harm (RFC 9110, 9.2.2)."""
        return self.head.startswith(_IDEMPOTENT)

    def again(self) -> WireRequest:
        """Returns the request with the next id of its arrival."""
        sent = self.sent + 1
        rest = self.tail[len(id_end(self.id_form, self.sent)) :]
        return self._replace(tail=id_end(self.id_form, sent).encode() + rest, sent=sent)

    def numbered(self, client: int, sequence: int) -> bytes:
        """Returns the request's bytes with its id."""
        head, tail, form = self.head, self.tail, self.id_form
        if form is DASHED:
            return numbered(head, client, sequence, tail)
        if form is _DOTTED:
            return b"%b%d.%d%b" % (head, client, sequence, tail)
        if form is _TRACEPARENT:
            return b"%b%08x%08x-%08x%b" % (head, client, sequence, sequence, tail)
        return head + tail


class FirstRequest(NamedTuple):
    """The first request of an arrival that has several; its times and endpoint are those of the row."""

    sent_ns: int
    endpoint: str  # trace_batch.endpoint_of
    deadline_ns: int  # of the whole chain, waiting for connections included
    resent: int = 0  # 1 after a request of the arrival was sent again
    history: tuple[bytes, ...] = ()  # heads of the responses so far


class QueuedRequest(NamedTuple):
    """A request that waits for a connection."""

    intended_ns: int
    dispatched_ns: int
    client: int
    sequence: int
    routing_version: int
    wire: WireRequest
    first: FirstRequest | None = None  # None: nothing was sent for this arrival yet
