"""Plans for tests: a good one, and a table of bad ones."""

from __future__ import annotations

import copy
from typing import Any

from loadgen.arrivals.pacer import ARRIVALS_VERSION
from routing.errors import Code

GOOD: dict[str, Any] = {
    "experiment": {"name": "good", "creator": "alice"},
    "configuration": {"duration": "10s", "interval": "4s", "workloads": [{"service": "web", "ticks": [1, 2.5, 0]}]},
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


def _workload(key: str, value: Any, path: str, code: Code) -> tuple[dict[str, Any], str, Code]:
    return {f"{WORKLOAD}.{key}": value}, f"{WORKLOAD}.{path}", code


def _closed(key: str, value: Any, path: str, code: Code) -> tuple[dict[str, Any], str, Code]:
    """A change to a workload of the closed model; without a path, all workloads together are wrong."""
    place = f"{WORKLOAD}.{path}" if path else "configuration.workloads"
    return {WORKLOAD: CLOSED_WORKLOAD, f"{WORKLOAD}.{key}": value}, place, code


QUEUED: dict[str, Any] = {"placement": "queue", "worker_labels": {"zone": "A"}, "shards": 2}


def _queued(changes: dict[str, Any], path: str, code: Code) -> tuple[dict[str, Any], str, Code]:
    """A change to a workload whose shards wait in a label's queue."""
    workload = {"service": "web", "ticks": [1, 2.5, 0], **QUEUED, **changes}
    return {WORKLOAD: workload}, f"{WORKLOAD}.{path}", code


def _recorded(recording: dict[str, Any], path: str, code: Code) -> tuple[dict[str, Any], str, Code]:
    pattern = {"process": "prerecorded", **recording}
    return {f"{WORKLOAD}.ticks": MISSING, f"{WORKLOAD}.arrival_pattern": pattern}, f"{WORKLOAD}.{path}", code


NAN, INFINITY = float("nan"), float("inf")

# (changes to GOOD, the path and the code of the one error)
BAD: list[tuple[dict[str, Any], str, Code]] = [
    ({"configuration": MISSING}, "configuration", Code.REQUIRED),
    ({"configuration": 5}, "configuration", Code.TYPE),
    ({"configuration": []}, "configuration", Code.TYPE),
    ({"experiment": "good"}, "experiment", Code.TYPE),
    ({"experiment": False}, "experiment", Code.TYPE),
    ({"experiment.name": 7}, "experiment.name", Code.TYPE),
    ({"experiment.name": " "}, "experiment.name", Code.REQUIRED),
    ({"experiment.name": "x" * 192}, "experiment.name", Code.RANGE),
    ({"experiment.name": "a\nb"}, "experiment.name", Code.FORMAT),
    ({"experiment.creator": ["bob"]}, "experiment.creator", Code.TYPE),
    ({"experiment.creater": "bob"}, "experiment.creater", Code.UNKNOWN),
    ({"experiment.id": "202611220000/abcd"}, "experiment.id", Code.FORMAT),
    ({"cofiguration": {}}, "cofiguration", Code.UNKNOWN),
    ({"zzz": 1}, "zzz", Code.UNKNOWN),
    ({"configuration.duration": MISSING}, "configuration.duration", Code.REQUIRED),
    ({"configuration.duration": "soon"}, "configuration.duration", Code.FORMAT),
    ({"configuration.duration": "10"}, "configuration.duration", Code.FORMAT),
    ({"configuration.duration": "10s5m"}, "configuration.duration", Code.FORMAT),
    ({"configuration.duration": "-10s"}, "configuration.duration", Code.FORMAT),
    ({"configuration.duration": ""}, "configuration.duration", Code.FORMAT),
    ({"configuration.duration": True}, "configuration.duration", Code.TYPE),
    ({"configuration.duration": NAN}, "configuration.duration", Code.TYPE),
    ({"configuration.duration": INFINITY}, "configuration.duration", Code.RANGE),
    ({"configuration.duration": 0}, "configuration.duration", Code.RANGE),
    ({"configuration.duration": -1}, "configuration.duration", Code.RANGE),
    ({"configuration.duration": "8d"}, "configuration.duration", Code.RANGE),
    ({"configuration.duration": 10**5000}, "configuration.duration", Code.RANGE),
    ({"configuration.interval": "0.1ms"}, "configuration.interval", Code.RANGE),
    ({"configuration.interval": {"a": 4}}, "configuration.interval", Code.TYPE),
    ({"configuration.interval": [4]}, "configuration.interval", Code.CONFLICT),
    ({"configuration.interval": []}, "configuration.interval", Code.RANGE),
    ({"configuration.interval": [0.001] * 10_001}, "configuration.interval", Code.RANGE),
    ({"configuration.interval": [4, "soon", 2]}, "configuration.interval[1]", Code.FORMAT),
    ({"configuration.interval": [4, 0, 6]}, "configuration.interval[1]", Code.RANGE),
    ({"events": {"at": 1}}, "events", Code.TYPE),
    ({"events": [{"at": 1, "name": "x"}] * 10_001}, "events", Code.RANGE),
    ({"events": ["x"]}, "events[0]", Code.TYPE),
    ({"events": [{"name": "x"}]}, "events[0].at", Code.REQUIRED),
    ({"events": [{"at": 1}]}, "events[0].name", Code.REQUIRED),
    ({"events": [{"at": "late", "name": "x"}]}, "events[0].at", Code.FORMAT),
    ({"events": [{"at": -1, "name": "x"}]}, "events[0].at", Code.FORMAT),
    ({"events": [{"at": 10.5, "name": "x"}]}, "events[0].at", Code.RANGE),
    ({"events": [{"at": INFINITY, "name": "x"}]}, "events[0].at", Code.RANGE),
    ({"events": [{"at": 1, "name": " "}]}, "events[0].name", Code.REQUIRED),
    ({"events": [{"at": 1, "name": "x", "value": 5}]}, "events[0].value", Code.TYPE),
    ({"events": [{"at": 1, "name": "x", "value": "y" * 4001}]}, "events[0].value", Code.RANGE),
    ({"events": [{"at": 1, "name": "x", "value": "\0"}]}, "events[0].value", Code.FORMAT),
    ({"events": [{"at": 1, "name": "x", "valu": "y"}]}, "events[0].valu", Code.UNKNOWN),
    ({"configuration.interval": "1ms", "configuration.duration": "7d"}, "configuration.interval", Code.RANGE),
    ({"configuration.intervall": "4s"}, "configuration.intervall", Code.UNKNOWN),
    ({"configuration.on_worker_loss": "ignore"}, "configuration.on_worker_loss", Code.CHOICE),
    ({"configuration.tracing": "off"}, "configuration.tracing", Code.TYPE),
    ({"configuration.tracing": 0}, "configuration.tracing", Code.TYPE),
    ({"configuration.tracing": False, f"{WORKLOAD}.capture": "errors"},
     f"{WORKLOAD}.capture", Code.CONFLICT),
    ({"configuration.on_worker_loss": 1}, "configuration.on_worker_loss", Code.CHOICE),
    ({"configuration.workloads": MISSING}, "configuration.workloads", Code.REQUIRED),
    ({"configuration.workloads": {}}, "configuration.workloads", Code.TYPE),
    ({"configuration.workloads": []}, "configuration.workloads", Code.REQUIRED),
    ({"configuration.workloads": [1] * 101}, "configuration.workloads", Code.RANGE),
    ({"configuration.workloads": ["web"]}, WORKLOAD, Code.TYPE),
    ({f"{WORKLOAD}.service": MISSING}, f"{WORKLOAD}.service", Code.REQUIRED),
    _workload("service", 8, "service", Code.TYPE),
    _workload("service", "a b", "service", Code.FORMAT),
    _workload("service", "s" * 192, "service", Code.RANGE),
    ({f"{WORKLOAD}.ticks": MISSING}, f"{WORKLOAD}.ticks", Code.REQUIRED),
    _workload("ticks", 5, "ticks", Code.TYPE),
    _workload("ticks", [1, 2], "ticks", Code.RANGE),
    _workload("ticks", [1, 2, 3, 4], "ticks", Code.RANGE),
    _workload("ticks", [0, 0, 0], "ticks", Code.RANGE),
    _workload("ticks", [1, -2, 3], "ticks[1]", Code.RANGE),
    _workload("ticks", [1, NAN, 3], "ticks[1]", Code.RANGE),
    _workload("ticks", [1, 2, INFINITY], "ticks[2]", Code.RANGE),
    _workload("ticks", [True, 2, 3], "ticks[0]", Code.TYPE),
    _workload("ticks", [1, "2", 3], "ticks[1]", Code.TYPE),
    _workload("ticks", [1, None, 3], "ticks[1]", Code.TYPE),
    _workload("ticks", [1, 10**400, 3], "ticks[1]", Code.RANGE),
    _workload("ticks", [1, 1e300, 3], "ticks[1]", Code.RANGE),
    _workload("tick", [1], "tick", Code.UNKNOWN),
    _workload("clients_per_host", 0, "clients_per_host", Code.RANGE),
    _workload("clients_per_host", 2.0, "clients_per_host", Code.TYPE),
    _workload("clients_per_host", True, "clients_per_host", Code.TYPE),
    _workload("clients_per_host", 10**30, "clients_per_host", Code.RANGE),
    _workload("arrival_pattern", 3, "arrival_pattern", Code.CHOICE),
    _workload("arrival_pattern", "sometimes", "arrival_pattern", Code.CHOICE),
    _workload("arrival_pattern", [], "arrival_pattern", Code.CHOICE),
    _workload("arrival_pattern", {"process": 5}, "arrival_pattern.process", Code.CHOICE),
    _workload("arrival_pattern", ["expovariate", "x"], "arrival_pattern[1]", Code.TYPE),
    _workload("arrival_pattern", ["expovariate", 0], "arrival_pattern", Code.RANGE),
    _workload("arrival_pattern", ["gauss", 1, 2, 3], "arrival_pattern", Code.RANGE),
    _workload("arrival_pattern", "gammavariate", "arrival_pattern", Code.REQUIRED),
    _workload("arrival_pattern", {"process": "gammavariate", "beta": 2}, "arrival_pattern.alpha", Code.REQUIRED),
    _workload("arrival_pattern", {"process": "gauss", "my": 2}, "arrival_pattern.my", Code.UNKNOWN),
    _workload("arrival_pattern", {"process": "gauss", "mu": NAN}, "arrival_pattern.mu", Code.RANGE),
    _workload("arrival_pattern", "gauss", "arrival_pattern", Code.RANGE),
    _workload("arrival_pattern", ["paretovariate", 1], "arrival_pattern", Code.RANGE),
    _workload("arrival_pattern", ["uniform", -3, 1], "arrival_pattern", Code.RANGE),
    _workload("arrival_pattern", ["lognormvariate", 0, 9], "arrival_pattern", Code.RANGE),
    _workload("arrival_pattern", "prerecorded", "arrival_pattern", Code.REQUIRED),
    _workload("arrival_pattern", {"process": "prerecorded", "times": [1]}, "ticks", Code.CONFLICT),
    _recorded({"times": [1, 2], "gaps": [1, 1]}, "arrival_pattern", Code.REQUIRED),
    _recorded({"times": 1}, "arrival_pattern.times", Code.TYPE),
    _recorded({"times": []}, "arrival_pattern.times", Code.RANGE),
    _recorded({"times": [0] * 50_001}, "arrival_pattern.times", Code.RANGE),
    _recorded({"gaps": [1, -1]}, "arrival_pattern.gaps[1]", Code.RANGE),
    _recorded({"times": [1, "x"]}, "arrival_pattern.times[1]", Code.TYPE),
    _recorded({"times": [1, NAN]}, "arrival_pattern.times[1]", Code.RANGE),
    _recorded({"times": [10, 11.5]}, "arrival_pattern", Code.RANGE),
    _recorded({"times": [1], "clients": 3}, "arrival_pattern.clients", Code.UNKNOWN),
    _workload("client", "../etc", "client", Code.FORMAT),
    _workload("client", 3, "client", Code.TYPE),
    _workload("client_parameters", [1], "client_parameters", Code.TYPE),
    _workload("client_parameters", {"size": 3}, "client_parameters.size", Code.UNKNOWN),
    _workload("worker_labels", "zone=A", "worker_labels", Code.TYPE),
    _workload("worker_labels", {"galileo_zone": "a b"}, "worker_labels.galileo_zone", Code.FORMAT),
    _workload("worker_labels", {"galileo_zone": True}, "worker_labels.galileo_zone", Code.TYPE),
    _workload("worker_labels", {"a b": "c"}, "worker_labels.a b", Code.FORMAT),
    _workload("worker_labels", {"zone": "A", "galileo_zone": "B"}, "worker_labels.galileo_zone", Code.DUPLICATE),
    _workload("router", "nginx", "router", Code.CHOICE),
    _workload("static_host", "http://pi:80", "static_host", Code.CONFLICT),
    _workload("balancer", "weighted", "balancer", Code.CHOICE),
    _workload("method", "GET /", "method", Code.FORMAT),
    _workload("path", "x", "path", Code.FORMAT),
    _workload("path", "/a b", "path", Code.FORMAT),
    _workload("kwargs", [], "kwargs", Code.TYPE),
    _workload("kwargs", {"proxies": {}}, "kwargs.proxies", Code.UNKNOWN),
    _workload("kwargs", {"data": 5}, "kwargs.data", Code.TYPE),
    _workload("kwargs", {"data": {"a": {"b": 1}}}, "kwargs.data.a", Code.TYPE),
    _workload("kwargs", {"data": "a", "json": 1}, "kwargs.json", Code.CONFLICT),
    _workload("kwargs", {"files": {"a": "b"}, "json": 1}, "kwargs.json", Code.CONFLICT),
    _workload("kwargs", {"files": {"a": "b"}, "data": "c"}, "kwargs.data", Code.TYPE),
    _workload("kwargs", {"files": ["a"]}, "kwargs.files", Code.TYPE),
    _workload("kwargs", {"files": {"a": 5}}, "kwargs.files.a", Code.FORMAT),
    _workload("kwargs", {"files": {"a": ["b"]}}, "kwargs.files.a", Code.FORMAT),
    _workload("kwargs", {"files": {"a": ["b", "c", "d\r\ne: f"]}}, "kwargs.files.a", Code.FORMAT),
    _workload("kwargs", {"allow_redirects": 1}, "kwargs.allow_redirects", Code.TYPE),
    _workload("kwargs", {"verify": 1}, "kwargs.verify", Code.FORMAT),
    _workload("kwargs", {"verify": ""}, "kwargs.verify", Code.FORMAT),
    _workload("kwargs", {"cert": ["a", "b", "c"]}, "kwargs.cert", Code.FORMAT),
    _workload("kwargs", {"cert": ["a", 5]}, "kwargs.cert", Code.FORMAT),
    _workload("kwargs", {"json": {"a": [1, NAN]}}, "kwargs.json.a[1]", Code.RANGE),
    _workload("kwargs", {"headers": {"X-A": 5}}, "kwargs.headers.X-A", Code.TYPE),
    _workload("kwargs", {"headers": {"X-A": "a\r\nb: c"}}, "kwargs.headers.X-A", Code.FORMAT),
    _workload("kwargs", {"headers": {"Content-Length": "5"}}, "kwargs.headers.Content-Length", Code.CONFLICT),
    _workload("kwargs", {"cookies": {"a": "b; c"}}, "kwargs.cookies.a", Code.FORMAT),
    _workload("kwargs", {"auth": "me"}, "kwargs.auth", Code.FORMAT),
    _workload("kwargs", {"params": {"a": {"b": 1}}}, "kwargs.params.a", Code.TYPE),
    _workload("kwargs", {"timeout": 0}, "kwargs.timeout", Code.RANGE),
    _workload("kwargs", {"timeout": [1, 2, 3]}, "kwargs.timeout", Code.FORMAT),
    _workload("kwargs", {"timeout": [1, 0]}, "kwargs.timeout[1]", Code.RANGE),
    _workload("method", "CONNECT", "method", Code.FORMAT),
    _workload("request_timeout", "2h", "request_timeout", Code.RANGE),
    _workload("connect_timeout", "x", "connect_timeout", Code.FORMAT),
    _workload("max_in_flight", 0, "max_in_flight", Code.RANGE),
    _workload("max_lateness", -1, "max_lateness", Code.RANGE),
    _workload("request_id_header", "X Request", "request_id_header", Code.FORMAT),
    _workload("request_id_header", "Host", "request_id_header", Code.CONFLICT),
    _workload("cookies", "kept", "cookies", Code.CHOICE),
    _workload("cookies", True, "cookies", Code.CHOICE),
    _workload("capture", "all", "capture", Code.CHOICE),
    _workload("capture_bytes", 63, "capture_bytes", Code.RANGE),
    ({f"{WORKLOAD}.client": "app", f"{WORKLOAD}.path": "/x"}, f"{WORKLOAD}.path", Code.CONFLICT),
    ({f"{WORKLOAD}.ticks": [1_000_000] * 3, "configuration.duration": "3m", "configuration.interval": "1m"},
     "configuration.workloads", Code.RANGE),
    _workload("model", "half-open", "model", Code.CHOICE),
    _workload("clients", [1, 2, 3], "clients", Code.CONFLICT),
    _workload("think_time", "1s", "think_time", Code.CONFLICT),
    _workload("requests_per_client", 5, "requests_per_client", Code.CONFLICT),
    _closed("clients", MISSING, "clients", Code.REQUIRED),
    _closed("clients", 4, "clients", Code.TYPE),
    _closed("clients", [1, 2], "clients", Code.RANGE),
    _closed("clients", [1, 2, 3, 4], "clients", Code.RANGE),
    _closed("clients", [0, 0, 0], "clients", Code.RANGE),
    _closed("clients", [1, -1, 2], "clients[1]", Code.RANGE),
    _closed("clients", [1, 2.5, 2], "clients[1]", Code.TYPE),
    _closed("clients", [1, True, 2], "clients[1]", Code.TYPE),
    _closed("clients", [1, 2, 100_001], "clients[2]", Code.RANGE),
    _closed("clients", [1, NAN, 2], "clients[1]", Code.TYPE),
    _closed("ticks", [1, 2, 3], "ticks", Code.CONFLICT),
    _closed("clients_per_host", 3, "clients_per_host", Code.CONFLICT),
    _closed("arrival_pattern", "poisson", "arrival_pattern", Code.CONFLICT),
    _closed("max_in_flight", 10, "max_in_flight", Code.CONFLICT),
    _closed("requests_per_client", 0, "requests_per_client", Code.RANGE),
    _closed("requests_per_client", 1.5, "requests_per_client", Code.TYPE),
    _closed("requests_per_client", 60_000_000, "", Code.RANGE),
    _closed("max_lateness", "1s", "max_lateness", Code.CONFLICT),
    _closed("think_time", -1, "think_time", Code.RANGE),
    _closed("think_time", "soon", "think_time", Code.CHOICE),
    _closed("think_time", {"process": "uniform", "a": 3, "b": 1}, "think_time", Code.CONFLICT),
    ({WORKLOAD: {**CLOSED_WORKLOAD, "requests_per_client": 5}, "configuration.on_worker_loss": "replace"},
     "configuration.on_worker_loss", Code.CONFLICT),
    _workload("scheme", "ftp", "scheme", Code.CHOICE),
    _workload("connection", "close", "connection", Code.CHOICE),
    _workload("max_connections_per_host", 0, "max_connections_per_host", Code.RANGE),
    _workload("max_connections_per_host", "many", "max_connections_per_host", Code.TYPE),
    _workload("shards_per_worker", 0, "shards_per_worker", Code.RANGE),
    _workload("shards_per_worker", "all", "shards_per_worker", Code.CHOICE),
    _workload("shards_per_worker", 1.5, "shards_per_worker", Code.TYPE),
    _workload("shards_per_worker", 4, "shards_per_worker", Code.RANGE),
    _closed("shards_per_worker", 4, "shards_per_worker", Code.RANGE),
    _workload("shards_per_worker", [2], "shards_per_worker", Code.TYPE),
    _workload("placement", "random", "placement", Code.CHOICE),
    _workload("shards", 2, "shards", Code.CONFLICT),
    _queued({"shards": None}, "shards", Code.REQUIRED),
    _queued({"shards": 0}, "shards", Code.RANGE),
    _queued({"shards": "auto"}, "shards", Code.TYPE),
    _queued({"shards": 4}, "shards", Code.RANGE),
    _queued({"shards_per_worker": 2}, "shards_per_worker", Code.CONFLICT),
    _queued({"shards_per_worker": "auto"}, "shards_per_worker", Code.CONFLICT),
    _queued({"worker_labels": None}, "worker_labels", Code.CONFLICT),
    _queued({"worker_labels": {"zone": "A", "rack": 1}}, "worker_labels", Code.CONFLICT),
    ({WORKLOAD: {"service": "web", "ticks": [1, 2.5, 0], **QUEUED}, "worker_labels": {"rack": 1}},
     f"{WORKLOAD}.worker_labels", Code.CONFLICT),
    ({"worker_labels": ["zone"]}, "worker_labels", Code.TYPE),
    ({"routing": "web"}, "routing", Code.TYPE),
    ({"routing": [3]}, "routing[0]", Code.TYPE),
    ({"routing": [{"service": "web"}]}, "routing[0].hosts", Code.REQUIRED),
    ({"routing": {"web": {"hosts": ["a:1"], "weights": [1, 2]}}}, "routing.web.weights", Code.CONFLICT),
    ({"routing": {"web": {"hosts": ["http://a"], "weights": [1]}}}, "routing.web.hosts[0]", Code.FORMAT),
    ({"routing": {"web": {"hosts": ["a:70000"], "weights": [1]}}}, "routing.web.hosts[0]", Code.FORMAT),
    ({"routing": {"web": {"hosts": ["a"], "weights": [0]}}}, "routing.web.weights", Code.RANGE),
    ({"routing": {"web": {"hosts": ["a"], "weight": [1]}}}, "routing.web.weight", Code.UNKNOWN),
    ({"routing": {"web": {"hosts": ["a"]}, "WEB": {"hosts": ["b"]}}}, "routing.WEB.service", Code.DUPLICATE),
    ({"seed": -1}, "seed", Code.RANGE),
    ({"seed": 2**63}, "seed", Code.RANGE),
    ({"seed": 1.5}, "seed", Code.TYPE),
    ({"seed": True}, "seed", Code.TYPE),
    ({"arrivals_version": 0}, "arrivals_version", Code.RANGE),
    ({"arrivals_version": ARRIVALS_VERSION + 1}, "arrivals_version", Code.RANGE),
    ({"arrivals_version": "two"}, "arrivals_version", Code.TYPE),
    ({"metadata": "x"}, "metadata", Code.TYPE),
    ({"metadata": {"a": NAN}}, "metadata.a", Code.RANGE),
    ({"metadata": {"a": "\0"}}, "metadata.a", Code.FORMAT),
]  # fmt: skip

# As files: (bytes, the code)
BAD_FILES: list[tuple[bytes, Code]] = [
    (b"", Code.REQUIRED),
    (b"# only a comment\n", Code.REQUIRED),
    (b"\x00\x01\x02", Code.UNREADABLE),
    (b"\xff\xd8\xff\xe0", Code.UNREADABLE),
    (b"\x07: a", Code.UNREADABLE),
    (b"configuration:\n\tduration: 10s", Code.UNREADABLE),
    (b"a: [1, 2", Code.UNREADABLE),
    (b"a: 1\na: 2", Code.UNREADABLE),
    (b"- 1\n- 2", Code.TYPE),
    (b"just text", Code.TYPE),
    (b"a: 1\n---\nb: 2", Code.UNREADABLE),
    (b"a: &a [x]\nb: [*a, *a]", Code.UNREADABLE),
    (b"a: !!python/object/apply:os.system [ls]", Code.UNREADABLE),
    (b"a: !!binary aGk=", Code.UNREADABLE),
    (b"? [a]\n: 1", Code.UNREADABLE),
    (b"[" * 5000, Code.UNREADABLE),
    (b"a: " + b"x" * (1 << 20), Code.UNREADABLE),
    (
        b"\n".join(b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 10)),
        Code.UNREADABLE,
    ),
]
