"""The values of the messages' fields that have a fixed set of values; reading a message refuses any other."""

from enum import StrEnum


class LoadModel(StrEnum):
    """open: arrivals are independent of completions. closed: a client waits for its response before its next request.
    interactive: the clients do what the newest command says; plans cannot ask for it."""

    OPEN = "open"
    CLOSED = "closed"
    INTERACTIVE = "interactive"


PLAN_MODELS = (LoadModel.OPEN, LoadModel.CLOSED)


class Scheme(StrEnum):
    HTTP = "http"
    HTTPS = "https"


class ConnectionMode(StrEnum):
    """keep-alive: connections serve request after request. new: each request has a connection of its own."""

    KEEP_ALIVE = "keep-alive"
    NEW = "new"


class CookieMode(StrEnum):
    """ignore: the cookies that a response sets are sent only to the targets of its redirects. keep: each client keeps
    them, and sends them with its later requests."""

    IGNORE = "ignore"
    KEEP = "keep"


class CaptureMode(StrEnum):
    """The parts of a request and its response that are stored besides the row. headers: their heads. full: their
    bodies, too. errors: as full, of those that ended in an error or with an HTTP status of 400 or more."""

    NONE = "none"
    HEADERS = "headers"
    FULL = "full"
    ERRORS = "errors"


class CommandKind(StrEnum):
    """The commands of an interactive group. rate: each client sends so many requests per second, evenly; 0 is a pause.
    gaps: each waits for a gap that is drawn before each of its requests. back to back: each sends its next request as
    soon as it has its response."""

    RATE = "rate"
    GAPS = "gaps"
    BACK_TO_BACK = "back to back"


class DesiredState(StrEnum):
    """The desired state of a client group. hold: connect, report ready, send nothing. run: send by the schedule.
    stop: end now; requests in flight have the group's grace."""

    HOLD = "hold"
    RUN = "run"
    STOP = "stop"


class OnWorkerLoss(StrEnum):
    """The reaction to a lost shard. continue: none, a shard out of reach runs on. replace: it stops by itself when its
    lease has expired, and its clients are placed again. fail: all shards are stopped."""

    CONTINUE = "continue"
    REPLACE = "replace"
    FAIL = "fail"


class ShardState(StrEnum):
    """finished: its schedule ran to the end. stopped: its group was told to stop. lost: it broke off before its end, as
    its process died, its worker shut down, or its lease expired."""

    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


ENDS = (ShardState.FINISHED, ShardState.STOPPED, ShardState.FAILED, ShardState.LOST)
