"""What the schema says of plans, of groups and of their commands. Their parsers decide, and know more than fits here.

Each schema holds for whatever its parser accepts. Where something is optional, it may also be null.
"""

from __future__ import annotations

from typing import Any

from experiments.plans.events import MAX_EVENTS, MAX_VALUE
from experiments.plans.fields import MAX_DURATION_S, MAX_INTEGER, MAX_TEXT, MIN_DURATION_S
from experiments.plans.load import MAX_CLIENTS, MAX_IN_FLIGHT, MAX_RATE_RPS, MAX_REQUESTS_PER_CLIENT
from experiments.plans.parser import MAX_TIMEOUT_S, MAX_WORKLOADS
from experiments.plans.requests import KWARGS, MAX_PATH
from loadgen.protocol.messages import CAPTURES, CONNECTION_MODES, HTTP, HTTPS, MODELS, ON_WORKER_LOSS
from routing import routers
from routing.table import MAX_NAME_LENGTH

Schema = dict[str, Any]


def _object(properties: Schema, required: tuple[str, ...] = (), more: bool = False, says: str = "") -> Schema:
    """Of these properties; those that are not required may be null.

    Args:
        more: whether there are others, which are not described here.
    """
    found: Schema = {
        "type": "object",
        "properties": {name: schema if name in required else _nullable(schema) for name, schema in properties.items()},
        "additionalProperties": {} if more else False,
    }
    return found | ({"required": list(required)} if required else {}) | ({"description": says} if says else {})


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _integer(low: int, high: int, says: str = "") -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high} | ({"description": says} if says else {})


def _text(longest: int = MAX_TEXT) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": longest}


def _word(words: Any) -> Schema:
    return {"type": "string", "enum": list(words)}


def _duration(high_s: float, says: str = "", low_s: float = MIN_DURATION_S) -> Schema:
    return {
        "anyOf": [{"type": "number", "minimum": low_s, "maximum": high_s}, {"type": "string", "minLength": 1}],
        "description": f"{says or 'a duration'}: like 10s, 2m, 1h30m or 500ms, or a number of seconds",
    }


def _array(items: Schema, most: int, least: int = 0, says: str = "") -> Schema:
    found: Schema = {"type": "array", "items": items, "minItems": least, "maxItems": most}
    return found | ({"description": says} if says else {})


SERVICE: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME_LENGTH,
    # The printable signs of ASCII but for space, / ? # and %.
    "pattern": r"^[!\"$&-.0->@-~]+$",
}
_NAME = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Schema = {
    **_text(MAX_NAME_LENGTH),
    "pattern": rf"^(\[[0-9A-Fa-f:.]+\]|{_NAME}(\.{_NAME})*\.?)(:[0-9]{{1,5}})?$",
    "description": "host[:port]",
}
HOSTS = {**_array(_HOST, most=100_000, least=1), "uniqueItems": True}
WEIGHTS = {
    **_array({"type": "number", "minimum": 0}, most=100_000, least=1, says="hosts[i] has weights[i]; without: all 1"),
    "contains": {"type": "number", "exclusiveMinimum": 0},
}
LABELS: Schema = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 63}, {"type": "integer"}]},
    "description": 'what a worker must have, like `{"galileo_zone": "A"}`',
}
_FREE: Schema = {"type": "object", "additionalProperties": {}}
_ANY: Schema = {}

# What a workload and an interactive group have in common.
_REQUESTS: Schema = {
    "service": SERVICE,
    "client": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", "description": "a client app"},
    "client_parameters": _FREE,
    "worker_labels": LABELS,
    "router": _word(routers.ROUTER_NAMES),
    "static_host": _text(),
    "balancer": _word(routers.BALANCERS),
    "scheme": _word((HTTP, HTTPS)),
    "connection": _word(CONNECTION_MODES),
    "max_connections_per_host": _integer(1, MAX_IN_FLIGHT),
    "method": {"type": "string", "pattern": "^[A-Za-z]{1,20}$"},
    "path": {"type": "string", "pattern": "^/", "maxLength": MAX_PATH},
    "kwargs": _object(dict.fromkeys(KWARGS, _ANY), says="keywords of `requests.request`"),
    "request_timeout": _duration(MAX_TIMEOUT_S),
    "connect_timeout": _duration(MAX_TIMEOUT_S),
    "max_in_flight": _integer(1, MAX_IN_FLIGHT),
    "capture": _word(CAPTURES),
}

WORKLOAD = _object(
    {
        **_REQUESTS,
        "model": _word(MODELS),
        "ticks": _array(
            {"type": "number", "minimum": 0, "maximum": MAX_RATE_RPS},
            most=100_000,
            says="open model: requests per second, of all clients together, in each interval",
        ),
        "clients_per_host": _integer(1, MAX_CLIENTS, "open model: how many clients there are"),
        "clients": _array(_integer(0, MAX_CLIENTS), most=100_000, says="closed model: how many in each interval"),
        "requests_per_client": _integer(1, MAX_REQUESTS_PER_CLIENT, "closed model"),
    },
    required=("service",),
    more=True,
    says="The keys that are not named here are in docs/plans.md.",
)
PLAN = _object(
    {
        "experiment": _object(
            {
                "name": _text(),
                "creator": _text(),
                "id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9-]{0,23}$", "description": "a new one"},
            }
        ),
        "configuration": _object(
            {
                "duration": _duration(MAX_DURATION_S, "how long the load lasts"),
                "interval": {
                    "anyOf": [
                        _duration(MAX_DURATION_S, "of all intervals"),
                        _array(_duration(MAX_DURATION_S), most=10_000, least=1, says="one of each"),
                    ]
                },
                "workloads": _array(WORKLOAD, most=MAX_WORKLOADS, least=1),
                "on_worker_loss": _word(ON_WORKER_LOSS),
                "tracing": {"type": "boolean", "description": "whether traces are stored, or only counted"},
            },
            required=("duration", "interval", "workloads"),
        ),
        "events": _array(
            _object(
                {
                    "at": _duration(MAX_DURATION_S, "the time after the start", low_s=0),
                    "name": _text(),
                    "value": {"type": "string", "maxLength": MAX_VALUE},
                },
                required=("at", "name"),
            ),
            most=MAX_EVENTS,
            says="marks for the timeline",
        ),
        "routing": {
            "anyOf": [
                _array(
                    _object({"service": SERVICE, "hosts": HOSTS, "weights": WEIGHTS}, required=("service", "hosts")),
                    most=1000,
                ),
                {"type": "object", "additionalProperties": {"type": "object"}},
            ],
            "description": "records to be set before the start: a list, or a mapping of services",
        },
        "seed": _integer(0, MAX_INTEGER, "of all random sources; without: a random one, which is stored"),
        "metadata": _FREE,
        "worker_labels": LABELS,
    },
    required=("configuration",),
    says="A plan, which docs/plans.md describes in full.",
)
GROUP = _object(
    {**_REQUESTS, "num": _integer(1, MAX_CLIENTS, "how many clients; without: 1")},
    required=("service",),
    more=True,
    says="What a group's clients send: the keys of a plan's workload, without those that say how much (docs/plans.md).",
)
COMMAND = _object(
    {
        "rps": {"type": "number", "minimum": 0, "maximum": MAX_RATE_RPS, "description": "of each client; 0: a pause"},
        "n": _integer(1, MAX_REQUESTS_PER_CLIENT, "requests of each client; without: no end"),
        "ia": {
            "description": 'gap before each: seconds, a distribution, `["expovariate", 5]`, or recorded gaps: '
            '`["prerecorded", [0.1, 0.2]]`, or `["prerecorded"]` for a Redis list whose key is the client\'s id; '
            "without: back to back"
        },
    },
    says="Either `rps`, or one or both of `n` and `ia`.",
)
CLIENTS = _object(
    {"add": _integer(1, MAX_CLIENTS), "close": _integer(1, MAX_CLIENTS)}, says="One of the two: how many clients."
)
TRACING = _object({"tracing": {"type": "boolean"}}, required=("tracing",))
RECORD = _object({"service": SERVICE, "hosts": HOSTS, "weights": WEIGHTS}, required=("service", "hosts"))
TARGETS = _object({"hosts": HOSTS, "weights": WEIGHTS}, required=("hosts",))
CHANGED_TARGETS = {
    **_object({"hosts": HOSTS, "weights": WEIGHTS}, says="One of the two or both; what is not given stays as it is."),
    "minProperties": 1,
}

PLAN["example"] = {
    "experiment": {"name": "two minutes"},
    "configuration": {
        "duration": "2m",
        "interval": "1m",
        "workloads": [{"service": "shop", "ticks": [10, 50], "arrival_pattern": "expovariate"}],
    },
    "routing": [{"service": "shop", "hosts": ["127.0.0.1:8080"]}],
}
GROUP["example"] = {"service": "shop", "num": 3, "path": "/items"}
COMMAND["example"] = {"rps": 2.5}
CLIENTS["example"] = {"add": 3}
RECORD["example"] = {"service": "shop", "hosts": ["10.0.0.1:8080", "10.0.0.2:8080"], "weights": [1, 2]}
TARGETS["example"] = CHANGED_TARGETS["example"] = {"hosts": ["10.0.0.1:8080"], "weights": [1]}
