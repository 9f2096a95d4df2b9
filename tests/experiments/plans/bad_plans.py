"""Plans for tests: a good one, and a table of bad ones."""

from __future__ import annotations

import copy
from typing import Any

GOOD: dict[str, Any] = {
    "experiment": {"name": "good", "creator": "alice"},
    "configuration": {
        "duration": "10s",
        "interval": "4s",
        "workloads": [{"service": "web", "ticks": [1, 2.5, 0]}],
    },
}
WORKLOAD = "configuration.workloads[0]"
CLOSED_WORKLOAD: dict[str, Any] = {"service": "web", "model": "closed", "clients": [1, 3, 0]}
MISSING = object()


def plan_with(changes: dict[str, Any]) -> dict[str, Any]:
    """GOOD with the values at some paths replaced, or taken out (MISSING)."""
    plan = copy.deepcopy(GOOD)
    for path, value in changes.items():
        steps = path.replace("[0]", ".0").split(".")
        place: Any = plan
        for step in steps[:-1]:
            place = place[0] if step == "0" else place.setdefault(step, {})
        last = 0 if steps[-1] == "0" else steps[-1]
        if value is MISSING:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return plan


def _workload(key: str, value: Any, path: str, message: str) -> tuple[dict[str, Any], str, str]:
    return {f"{WORKLOAD}.{key}": value}, f"{WORKLOAD}.{path}", message


def _closed(key: str, value: Any, path: str, message: str) -> tuple[dict[str, Any], str, str]:
    """A change to a workload of the closed model; without a path, all workloads together are wrong."""
    place = f"{WORKLOAD}.{path}" if path else "configuration.workloads"
    return {WORKLOAD: CLOSED_WORKLOAD, f"{WORKLOAD}.{key}": value}, place, message


QUEUED: dict[str, Any] = {"placement": "queue", "worker_labels": {"zone": "A"}, "shards": 2}


def _queued(changes: dict[str, Any], path: str, message: str) -> tuple[dict[str, Any], str, str]:
    """A change to a workload whose shards wait in a label's queue."""
    workload = {"service": "web", "ticks": [1, 2.5, 0], **QUEUED, **changes}
    return {WORKLOAD: workload}, f"{WORKLOAD}.{path}", message


def _recorded(recording: dict[str, Any], path: str, message: str) -> tuple[dict[str, Any], str, str]:
    pattern = {"process": "prerecorded", **recording}
    return {f"{WORKLOAD}.ticks": MISSING, f"{WORKLOAD}.arrival_pattern": pattern}, f"{WORKLOAD}.{path}", message


NAN, INFINITY = float("nan"), float("inf")

# (changes to GOOD, the path that is named, a part of the message)
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"configuration": MISSING}, "configuration", "is missing"),
    ({"configuration": 5}, "configuration", "a mapping is needed, not 5"),
    ({"configuration": []}, "configuration", "a mapping is needed, not a list"),
    ({"experiment": "good"}, "experiment", "a mapping is needed"),
    ({"experiment": False}, "experiment", "a mapping is needed"),
    ({"experiment.name": 7}, "experiment.name", "a text is needed, not 7"),
    ({"experiment.name": " "}, "experiment.name", "must not be empty"),
    ({"experiment.name": "x" * 192}, "experiment.name", "at most 191 characters, not 192"),
    ({"experiment.name": "a\nb"}, "experiment.name", "control characters"),
    ({"experiment.creator": ["bob"]}, "experiment.creator", "a text is needed, not a list"),
    ({"experiment.creater": "bob"}, "experiment.creater", "unknown key; did you mean 'creator'?"),
    ({"experiment.id": "202611220000/abcd"}, "experiment.id", "up to 24 letters, digits and -"),
    ({"cofiguration": {}}, "cofiguration", "did you mean 'configuration'?"),
    ({"zzz": 1}, "zzz", "known here: experiment, worker_labels, configuration, events, routing, seed, metadata"),
    ({"configuration.duration": MISSING}, "configuration.duration", "is missing"),
    ({"configuration.duration": "soon"}, "configuration.duration", "a duration like 10s"),
    ({"configuration.duration": "10"}, "configuration.duration", "a duration like 10s"),
    ({"configuration.duration": "10s5m"}, "configuration.duration", "a duration like 10s"),
    ({"configuration.duration": "-10s"}, "configuration.duration", "a duration like 10s"),
    ({"configuration.duration": ""}, "configuration.duration", "a duration like 10s"),
    ({"configuration.duration": True}, "configuration.duration", "not true"),
    ({"configuration.duration": NAN}, "configuration.duration", "a duration like 10s"),
    ({"configuration.duration": INFINITY}, "configuration.duration", "must be from 1ms to 7d, not inf"),
    ({"configuration.duration": 0}, "configuration.duration", "must be from 1ms to 7d, not 0"),
    ({"configuration.duration": -1}, "configuration.duration", "must be from 1ms to 7d, not -1"),
    ({"configuration.duration": "8d"}, "configuration.duration", "must be from 1ms to 7d, not '8d'"),
    ({"configuration.duration": 10**5000}, "configuration.duration", "not a huge number"),
    ({"configuration.interval": "0.1ms"}, "configuration.interval", "must be from 1ms"),
    ({"configuration.interval": {"a": 4}}, "configuration.interval", "not a mapping"),
    ({"configuration.interval": [4]}, "configuration.interval", "intervals last 4 s together, the duration is 10 s"),
    ({"configuration.interval": []}, "configuration.interval", "a list of 1 to 10,000 durations"),
    ({"configuration.interval": [0.001] * 10_001}, "configuration.interval", "not of 10,001"),
    ({"configuration.interval": [4, "soon", 2]}, "configuration.interval[1]", "a duration like 10s"),
    ({"configuration.interval": [4, 0, 6]}, "configuration.interval[1]", "must be from 1ms to 7d, not 0"),
    ({"events": {"at": 1}}, "events", "a list of mappings with `at` and `name` is needed, not a mapping"),
    ({"events": [{"at": 1, "name": "x"}] * 10_001}, "events", "at most 10,000 events"),
    ({"events": ["x"]}, "events[0]", "a mapping is needed"),
    ({"events": [{"name": "x"}]}, "events[0].at", "is missing"),
    ({"events": [{"at": 1}]}, "events[0].name", "is missing"),
    ({"events": [{"at": "late", "name": "x"}]}, "events[0].at", "a time after the start"),
    ({"events": [{"at": -1, "name": "x"}]}, "events[0].at", "a time after the start"),
    ({"events": [{"at": 10.5, "name": "x"}]}, "events[0].at", "must not be after the plan's end (10 s), and is 10.5"),
    ({"events": [{"at": INFINITY, "name": "x"}]}, "events[0].at", "must not be after the plan's end"),
    ({"events": [{"at": 1, "name": " "}]}, "events[0].name", "must not be empty"),
    ({"events": [{"at": 1, "name": "x", "value": 5}]}, "events[0].value", "a text is needed, not 5"),
    ({"events": [{"at": 1, "name": "x", "value": "y" * 4001}]}, "events[0].value", "at most 4000 characters"),
    ({"events": [{"at": 1, "name": "x", "value": "\0"}]}, "events[0].value", "must not contain NUL"),
    ({"events": [{"at": 1, "nam": "x"}]}, "events[0].nam", "did you mean 'name'?"),
    ({"configuration.interval": "1ms", "configuration.duration": "7d"}, "configuration.interval", "at most 100000"),
    ({"configuration.intervall": "4s"}, "configuration.intervall", "did you mean 'interval'?"),
    ({"configuration.on_worker_loss": "ignore"}, "configuration.on_worker_loss", "one of continue, replace, fail"),
    ({"configuration.tracing": "off"}, "configuration.tracing", "true or false is needed, not 'off'"),
    ({"configuration.tracing": 0}, "configuration.tracing", "true or false is needed, not 0"),
    ({"configuration.tracing": False, f"{WORKLOAD}.capture": "errors"},
     f"{WORKLOAD}.capture", "has no effect with `tracing: false`"),
    ({"configuration.on_worker_loss": 1}, "configuration.on_worker_loss", "one of continue, replace, fail"),
    ({"configuration.workloads": MISSING}, "configuration.workloads", "is missing"),
    ({"configuration.workloads": {}}, "configuration.workloads", "a list is needed, not a mapping"),
    ({"configuration.workloads": []}, "configuration.workloads", "at least one workload"),
    ({"configuration.workloads": [1] * 101}, "configuration.workloads", "at most 100 workloads"),
    ({"configuration.workloads": ["web"]}, WORKLOAD, "a mapping is needed, not 'web'"),
    ({f"{WORKLOAD}.service": MISSING}, f"{WORKLOAD}.service", "is missing"),
    _workload("service", 8, "service", "must be a string"),
    _workload("service", "a b", "service", "without spaces"),
    _workload("service", "s" * 192, "service", "at most 191"),
    ({f"{WORKLOAD}.ticks": MISSING}, f"{WORKLOAD}.ticks", "is missing"),
    _workload("ticks", 5, "ticks", "a list of numbers is needed, not 5"),
    _workload("ticks", [1, 2], "ticks", "too few numbers: 2 for 3 intervals"),
    _workload("ticks", [1, 2, 3, 4], "ticks", "too many numbers: 4 for 3 intervals"),
    _workload("ticks", [0, 0, 0], "ticks", "at least one number above 0"),
    _workload("ticks", [1, -2, 3], "ticks[1]", "must not be negative: -2"),
    _workload("ticks", [1, NAN, 3], "ticks[1]", "a finite number is needed, not nan"),
    _workload("ticks", [1, 2, INFINITY], "ticks[2]", "a finite number is needed, not inf"),
    _workload("ticks", [True, 2, 3], "ticks[0]", "a number is needed, not true"),
    _workload("ticks", [1, "2", 3], "ticks[1]", "a number is needed, not '2'"),
    _workload("ticks", [1, None, 3], "ticks[1]", "a number is needed, not nothing"),
    _workload("ticks", [1, 10**400, 3], "ticks[1]", "must be at most 1,000,000, not a huge number"),
    _workload("ticks", [1, 1e300, 3], "ticks[1]", "must be at most 1,000,000"),
    _workload("tick", [1], "tick", "unknown key; did you mean 'ticks'?"),
    _workload("clients_per_host", 0, "clients_per_host", "must be from 1 to 100000, not 0"),
    _workload("clients_per_host", 2.0, "clients_per_host", "a whole number"),
    _workload("clients_per_host", True, "clients_per_host", "a whole number"),
    _workload("clients_per_host", 10**30, "clients_per_host", "must be from 1 to 100000"),
    _workload("arrival_pattern", 3, "arrival_pattern", "one of constant, uniform, triangular"),
    _workload("arrival_pattern", "sometimes", "arrival_pattern", "poisson, prerecorded is needed, not 'sometimes'"),
    _workload("arrival_pattern", [], "arrival_pattern", "is needed, not a list"),
    _workload("arrival_pattern", {"process": 5}, "arrival_pattern.process", "is needed, not 5"),
    _workload("arrival_pattern", ["expovariate", "x"], "arrival_pattern[1]", "a number is needed"),
    _workload("arrival_pattern", ["expovariate", 0], "arrival_pattern", "lambd: must be from 1e-09"),
    _workload("arrival_pattern", ["gauss", 1, 2, 3], "arrival_pattern", "gauss takes mu, sigma, not 3 parameters"),
    _workload("arrival_pattern", "gammavariate", "arrival_pattern", "alpha: is missing"),
    _workload("arrival_pattern", {"process": "gammavariate", "beta": 2}, "arrival_pattern.alpha", "is missing"),
    _workload("arrival_pattern", {"process": "gauss", "my": 2}, "arrival_pattern.my", "gauss takes mu, sigma"),
    _workload("arrival_pattern", {"process": "gauss", "mu": NAN}, "arrival_pattern.mu", "a finite number is needed"),
    _workload("arrival_pattern", "gauss", "arrival_pattern", "the mean of gauss(mu=0, sigma=1) is 0; gaps need"),
    _workload("arrival_pattern", ["paretovariate", 1], "arrival_pattern", "the mean of paretovariate(alpha=1) is inf"),
    _workload("arrival_pattern", ["uniform", -3, 1], "arrival_pattern", "the mean of uniform(a=-3, b=1) is -1"),
    _workload("arrival_pattern", ["lognormvariate", 0, 9], "arrival_pattern", "is too skewed"),
    _workload("arrival_pattern", "prerecorded", "arrival_pattern", "one of `times`, `gaps`, `file` and `lists` is"),
    _workload("arrival_pattern", {"process": "prerecorded", "times": [1]}, "ticks", "has no effect beside prerecorded"),
    _recorded({"times": [1, 2], "gaps": [1, 1]}, "arrival_pattern", "one of `times`, `gaps`, `file` and `lists` is"),
    _recorded({"times": 1}, "arrival_pattern.times", "a list of seconds is needed, not 1"),
    _recorded({"times": []}, "arrival_pattern.times", "from 1 to 50,000 numbers are accepted, not 0"),
    _recorded({"times": [0] * 50_001}, "arrival_pattern.times", "from 1 to 50,000 numbers are accepted, not 50,001"),
    _recorded({"gaps": [1, -1]}, "arrival_pattern.gaps[1]", "must not be negative: -1"),
    _recorded({"times": [1, "x"]}, "arrival_pattern.times[1]", "a number is needed, not 'x'"),
    _recorded({"times": [1, NAN]}, "arrival_pattern.times[1]", "a finite number is needed"),
    _recorded({"times": [10, 11.5]}, "arrival_pattern", "none of the recorded times is before the plan's end"),
    _recorded({"times": [1], "clients": 3}, "arrival_pattern.clients", "unknown key"),
    _workload("client", "../etc", "client", "the name of a client app"),
    _workload("client", 3, "client", "the name of a client app"),
    _workload("client_parameters", [1], "client_parameters", "a mapping is needed"),
    _workload("client_parameters", {"size": 3}, "client_parameters.size", "unknown key; known here: method, path"),
    _workload("worker_labels", "zone=A", "worker_labels", "a mapping of labels"),
    _workload("worker_labels", {"galileo_zone": "a b"}, "worker_labels.galileo_zone", "a text of letters"),
    _workload("worker_labels", {"galileo_zone": True}, "worker_labels.galileo_zone", "not true"),
    _workload("worker_labels", {"a b": "c"}, "worker_labels.a b", "a label's name"),
    _workload("worker_labels", {"zone": "A", "galileo_zone": "B"}, "worker_labels.galileo_zone", "there twice"),
    _workload("router", "nginx", "router", "one of host, service, static, debug, SymmetryHostRouter, "),
    _workload("static_host", "http://pi:80", "static_host", "has no effect without router: static"),
    _workload("balancer", "weighted", "balancer", "one of round-robin, random is needed, not 'weighted'"),
    _workload("method", "GET /", "method", "an HTTP method"),
    _workload("path", "x", "path", "must begin with /"),
    _workload("path", "/a b", "path", "must begin with / and have no space"),
    _workload("kwargs", [], "kwargs", "a mapping is needed"),
    _workload("kwargs", {"proxies": {}}, "kwargs.proxies", "not accepted; the keywords are params, data, json"),
    _workload("kwargs", {"data": 5}, "kwargs.data", "a mapping or a text is needed"),
    _workload("kwargs", {"data": {"a": {"b": 1}}}, "kwargs.data.a", "a text, a number or a list"),
    _workload("kwargs", {"data": "a", "json": 1}, "kwargs.json", "one of the two"),
    _workload("kwargs", {"files": {"a": "b"}, "json": 1}, "kwargs.json", "takes the place of files"),
    _workload("kwargs", {"files": {"a": "b"}, "data": "c"}, "kwargs.data", "a mapping beside files"),
    _workload("kwargs", {"files": ["a"]}, "kwargs.files", "a mapping of names"),
    _workload("kwargs", {"files": {"a": 5}}, "kwargs.files.a", "[file name, content]"),
    _workload("kwargs", {"files": {"a": ["b"]}}, "kwargs.files.a", "[file name, content]"),
    _workload("kwargs", {"files": {"a": ["b", "c", "d\r\ne: f"]}}, "kwargs.files.a", "texts of one line"),
    _workload("kwargs", {"allow_redirects": 1}, "kwargs.allow_redirects", "true or false"),
    _workload("kwargs", {"verify": 1}, "kwargs.verify", "true, false or the path"),
    _workload("kwargs", {"verify": ""}, "kwargs.verify", "true, false or the path"),
    _workload("kwargs", {"cert": ["a", "b", "c"]}, "kwargs.cert", "[certificate, key]"),
    _workload("kwargs", {"cert": ["a", 5]}, "kwargs.cert", "[certificate, key]"),
    _workload("kwargs", {"json": {"a": [1, NAN]}}, "kwargs.json.a[1]", "a finite number"),
    _workload("kwargs", {"headers": {"X-A": 5}}, "kwargs.headers.X-A", "a text of one line"),
    _workload("kwargs", {"headers": {"X-A": "a\r\nb: c"}}, "kwargs.headers.X-A", "a text of one line"),
    _workload("kwargs", {"headers": {"Content-Length": "5"}}, "kwargs.headers.Content-Length", "set by the engine"),
    _workload("kwargs", {"cookies": {"a": "b; c"}}, "kwargs.cookies.a", "a text without ;"),
    _workload("kwargs", {"auth": "me"}, "kwargs.auth", "a list [user, password]"),
    _workload("kwargs", {"params": {"a": {"b": 1}}}, "kwargs.params.a", "a text, a number or a list"),
    _workload("kwargs", {"timeout": 0}, "kwargs.timeout", "must be at least 0.001"),
    _workload("kwargs", {"timeout": [1, 2, 3]}, "kwargs.timeout", "or [connect, read]"),
    _workload("kwargs", {"timeout": [1, 0]}, "kwargs.timeout[1]", "must be at least 0.001"),
    _workload("method", "CONNECT", "method", "an HTTP method like GET or POST"),
    _workload("request_timeout", "2h", "request_timeout", "must be from 1ms to 1h"),
    _workload("connect_timeout", "x", "connect_timeout", "a duration like 10s"),
    _workload("max_in_flight", 0, "max_in_flight", "must be from 1"),
    _workload("max_lateness", -1, "max_lateness", "must be from 1ms"),
    _workload("request_id_header", "X Request", "request_id_header", "the name of an HTTP header"),
    _workload("request_id_header", "Host", "request_id_header", "another meaning"),
    _workload("capture", "all", "capture", "one of none, headers, full, errors is needed"),
    _workload("capture_bytes", 63, "capture_bytes", "must be from 64 to 65536"),
    ({f"{WORKLOAD}.client": "app", f"{WORKLOAD}.path": "/x"}, f"{WORKLOAD}.path", "has no effect beside client"),
    ({f"{WORKLOAD}.ticks": [1_000_000] * 3, "configuration.duration": "3m", "configuration.interval": "1m"},
     "configuration.workloads", "180,000,000 requests are planned in total; at most 100,000,000"),
    _workload("model", "half-open", "model", "one of open, closed is needed, not 'half-open'"),
    _workload("clients", [1, 2, 3], "clients", "needs `model: closed`; in the open model `ticks` say the rate"),
    _workload("think_time", "1s", "think_time", "needs `model: closed`"),
    _workload("requests_per_client", 5, "requests_per_client", "needs `model: closed`"),
    _closed("clients", MISSING, "clients", "is missing"),
    _closed("clients", 4, "clients", "a list of whole numbers is needed, not 4"),
    _closed("clients", [1, 2], "clients", "too few numbers: 2 for 3 intervals"),
    _closed("clients", [1, 2, 3, 4], "clients", "too many numbers: 4 for 3 intervals"),
    _closed("clients", [0, 0, 0], "clients", "at least one number above 0"),
    _closed("clients", [1, -1, 2], "clients[1]", "must not be negative: -1"),
    _closed("clients", [1, 2.5, 2], "clients[1]", "a whole number is needed, not 2.5"),
    _closed("clients", [1, True, 2], "clients[1]", "a number is needed, not true"),
    _closed("clients", [1, 2, 100_001], "clients[2]", "must be at most 100,000"),
    _closed("clients", [1, NAN, 2], "clients[1]", "a whole number is needed, not nan"),
    _closed("ticks", [1, 2, 3], "ticks", "the closed model has no rate"),
    _closed("clients_per_host", 3, "clients_per_host", "has no effect in the closed model, where `clients`"),
    _closed("arrival_pattern", "poisson", "arrival_pattern", "has no effect in the closed model, where `think_time`"),
    _closed("max_in_flight", 10, "max_in_flight", "has no effect in the closed model"),
    _closed("requests_per_client", 0, "requests_per_client", "must be from 1"),
    _closed("requests_per_client", 1.5, "requests_per_client", "a whole number"),
    _closed("requests_per_client", 60_000_000, "", "180,000,000 requests are planned in total"),
    _closed("max_lateness", "1s", "max_lateness", "has no effect in the closed model"),
    _closed("think_time", -1, "think_time", "must not be negative: -1"),
    _closed("think_time", "soon", "think_time", "is needed, not 'soon'"),
    _closed("think_time", {"process": "uniform", "a": 3, "b": 1}, "think_time", "uniform needs a ≤ b"),
    ({WORKLOAD: {**CLOSED_WORKLOAD, "requests_per_client": 5}, "configuration.on_worker_loss": "replace"},
     "configuration.on_worker_loss", "replace cannot keep `requests_per_client`"),
    _workload("scheme", "ftp", "scheme", "one of http, https is needed, not 'ftp'"),
    _workload("connection", "close", "connection", "one of keep-alive, new is needed, not 'close'"),
    _workload("max_connections_per_host", 0, "max_connections_per_host", "must be from 1 to 100000, not 0"),
    _workload("max_connections_per_host", "many", "max_connections_per_host", "a whole number"),
    _workload("shards_per_worker", 0, "shards_per_worker", "must be from 1 to 256, not 0"),
    _workload("shards_per_worker", "all", "shards_per_worker", "auto or a whole number is needed, not 'all'"),
    _workload("shards_per_worker", 1.5, "shards_per_worker", "a whole number from 1 to 256"),
    _workload("shards_per_worker", 4, "shards_per_worker", "there are 3: raise clients_per_host to 4"),
    _closed("shards_per_worker", 4, "shards_per_worker", "there are 3: raise clients to 4"),
    _workload("shards_per_worker", [2], "shards_per_worker", "not a list"),
    _workload("placement", "random", "placement", "one of balanced, queue is needed, not 'random'"),
    _workload("shards", 2, "shards", "has no effect without placement: queue; add that, or take shards_per_worker"),
    _queued({"shards": None}, "shards", "is missing; placement: queue takes a fixed number of shards"),
    _queued({"shards": 0}, "shards", "must be from 1 to 1024, not 0"),
    _queued({"shards": "auto"}, "shards", "a whole number from 1 to 1024 is needed, not 'auto'"),
    _queued({"shards": 4}, "shards", "there are 3: raise clients_per_host to 4 at least"),
    _queued({"shards_per_worker": 2}, "shards_per_worker", "has no effect with placement: queue, where `shards` are"),
    _queued({"shards_per_worker": "auto"}, "shards_per_worker", "has no effect with placement: queue"),
    _queued({"worker_labels": None}, "worker_labels", "needs exactly one label (the plan's count, too)"),
    _queued({"worker_labels": {"zone": "A", "rack": 1}}, "worker_labels", "there are zone, rack"),
    ({WORKLOAD: {"service": "web", "ticks": [1, 2.5, 0], **QUEUED}, "worker_labels": {"rack": 1}},
     f"{WORKLOAD}.worker_labels", "there are rack, zone"),
    ({"worker_labels": ["zone"]}, "worker_labels", "a mapping of labels"),
    ({"routing": "web"}, "routing", "a list of records or a mapping"),
    ({"routing": [3]}, "routing[0]", "a mapping is needed"),
    ({"routing": [{"service": "web"}]}, "routing[0].hosts", "is missing"),
    ({"routing": {"web": {"hosts": ["a:1"], "weights": [1, 2]}}}, "routing.web.weights", "one weight per host"),
    ({"routing": {"web": {"hosts": ["http://a"], "weights": [1]}}}, "routing.web.hosts[0]", "without http://"),
    ({"routing": {"web": {"hosts": ["a:70000"], "weights": [1]}}}, "routing.web.hosts[0]", "a port from 1 to 65535"),
    ({"routing": {"web": {"hosts": ["a"], "weights": [0]}}}, "routing.web.weights", "at least one weight above 0"),
    ({"routing": {"web": {"hosts": ["a"], "weight": [1]}}}, "routing.web.weight", "did you mean 'weights'?"),
    ({"routing": {"web": {"hosts": ["a"]}, "WEB": {"hosts": ["b"]}}}, "routing.WEB.service", "routed twice"),
    ({"seed": -1}, "seed", "must be from 0"),
    ({"seed": 2**63}, "seed", "must be from 0 to 9223372036854775807"),
    ({"seed": 1.5}, "seed", "a whole number"),
    ({"seed": True}, "seed", "a whole number"),
    ({"metadata": "x"}, "metadata", "a mapping is needed"),
    ({"metadata": {"a": NAN}}, "metadata.a", "a finite number"),
    ({"metadata": {"a": "\0"}}, "metadata.a", "NUL"),
]  # fmt: skip

# As files: (bytes, a part of the message)
BAD_FILES: list[tuple[bytes, str]] = [
    (b"", "the file is empty"),
    (b"# only a comment\n", "the file is empty"),
    (b"\x00\x01\x02", "this is a binary file"),
    (b"\xff\xd8\xff\xe0", "no text in UTF-8"),
    (b"\x07: a", "this is no YAML"),
    (b"configuration:\n\tduration: 10s", "line 2, column 1: this is no YAML: while scanning for the next token"),
    (b"a: [1, 2", "this is no YAML"),
    (b"a: 1\na: 2", "line 2, column 1: the key 'a' is there twice"),
    (b"- 1\n- 2", "a mapping with `configuration` is needed"),
    (b"just text", "a mapping with `configuration` is needed"),
    (b"a: 1\n---\nb: 2", "a second document"),
    (b"a: &a [x]\nb: [*a, *a]", "anchors and aliases"),
    (b"a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python/object/apply:os.system"),
    (b"a: !!binary aGk=", "the tag"),
    (b"? [a]\n: 1", "a key must be a text"),
    (b"[" * 5000, "nested more than 32 deep"),
    (b"a: " + b"x" * (1 << 20), "at most 1048576"),
    (b"\n".join(b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 10)), "anchors"),
]
