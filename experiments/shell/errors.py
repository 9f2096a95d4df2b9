"""The exceptions that the shell itself raises, and its checks of arguments.

Beside these, its functions raise `routing.errors.InvalidInput` and `RequestRefused`.
"""

from __future__ import annotations

import redis
import requests

from routing.errors import Code, InvalidInput, RequestRefused
from routing.table import RoutingError

MAX_TIMEOUT_S = 7 * 24 * 3600


class ShellError(RequestRefused):
    """A call cannot be carried out; the message gives the reason and the remedy."""


class GroupFailed(ShellError):
    """Clients of a group failed, were lost, or were closed."""


class AppFailed(ShellError):
    """A client app failed; the message has the last lines of its traceback."""


class NotReady(ShellError):
    """A time-out has passed."""


class Superseded(ShellError):
    """Another command replaced the one that was waited for."""


class NoExperiment(ShellError):
    """No experiment was started in this shell, or none is running."""


# The prompt shows the message of these alone: the traceback would only hide it.
WITHOUT_TRACEBACK = (InvalidInput, RequestRefused, RoutingError, redis.RedisError, requests.RequestException)


def check_timeout(timeout: object) -> None:
    """Raises InvalidInput unless `timeout` is None or a number of seconds; waiting for NaN would never end."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InvalidInput.of("timeout", Code.TYPE, f"must be a number of seconds, got {timeout!r}")
    if not 0 <= timeout <= MAX_TIMEOUT_S:
        raise InvalidInput.of("timeout", Code.RANGE, f"must be from 0 to {MAX_TIMEOUT_S:,} seconds, got {timeout}")
