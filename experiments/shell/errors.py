"""What can go wrong in the shell, as exceptions with a sentence."""

import redis
import requests

from experiments.plans import PlanInvalid
from routing.errors import InvalidInput, RequestRefused
from routing.table import RoutingError


class ShellError(Exception):
    """The message says what is wrong, and what to do."""


class GroupFailed(ShellError):
    """A client group's clients failed, were lost, or are closed."""


class AppFailed(ShellError):
    """A client app is broken; with the last lines of its traceback."""


class NotReady(ShellError):
    """Something did not happen in time."""


class Superseded(ShellError):
    """Another command took the place of the one that was waited for."""


class NoExperiment(ShellError):
    """No experiment was started here, or none runs."""


# Whose message says it all.
SENTENCES = (
    ShellError,
    PlanInvalid,
    InvalidInput,
    RequestRefused,
    RoutingError,
    redis.RedisError,
    requests.RequestException,
)
