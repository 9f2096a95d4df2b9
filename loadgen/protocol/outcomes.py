"""Outcome: how an arrival ended. Every planned arrival ends as one row with exactly one outcome. MalformedReason."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """How an arrival ended. 0 is completed, 1-15 are errors of a sent request, from 16 on it was not sent."""

    COMPLETED = 0
    TIMEOUT = 1  # no complete response within the request's time-out
    RESET = 2  # the connection was reset
    CLOSED = 3  # the peer closed before the response was complete
    MALFORMED = 4  # the response is not one that `requests` accepts; the row has a MalformedReason
    ABORTED = 5  # in flight when the load was aborted, or when a stop's grace ended
    REDIRECT = 6  # more than 30 redirects, or to a host that could not be connected
    DROPPED = 16  # max_in_flight reached
    LATE = 17  # the generator reached it more than max_lateness after its intended time
    CONNECT_REFUSED = 18
    CONNECT_TIMEOUT = 19
    CONNECT_DNS = 20  # the host's name could not be resolved
    CONNECT_NO_DESCRIPTOR = 21  # the worker ran out of file descriptors
    CONNECT_NO_PORT = 22  # the worker ran out of ephemeral ports
    CONNECT_OTHER = 23
    NO_ROUTE = 24  # the service had no host with a weight above 0
    CUT = 25  # planned, but the load was stopped or aborted before it was sent
    CONNECT_TLS = 26  # the connection was made, but no TLS on it


class MalformedReason(IntEnum):
    """Why a response is malformed; of a row with another outcome, 0."""

    NONE = 0
    STATUS_LINE = 1  # the first line is not the status line of an HTTP response
    VERSION = 2  # HTTP, but not version 0.9, 1.0 or 1.1
    HEAD_TOO_LONG = 3  # more than 64 KiB, or more than 100 headers
    CONTENT_LENGTHS = 4  # several that differ
    CHUNK = 5  # a chunk's size is not a hexadecimal number, or the trailers are longer than 64 KiB


FIRST_NOT_SENT = 16
CONNECT_OUTCOMES = frozenset({*range(Outcome.CONNECT_REFUSED, Outcome.NO_ROUTE + 1), Outcome.CONNECT_TLS})


def account_line(outcome: int) -> str:
    """The line of the account that an outcome belongs to: completed, errors, dropped, late, connect_failed or cut."""
    if outcome == Outcome.COMPLETED:
        return "completed"
    if outcome < FIRST_NOT_SENT:
        return "errors"
    if outcome in CONNECT_OUTCOMES:
        return "connect_failed"
    return Outcome(outcome).name.lower()
