"""Small valid plans for tests."""

from __future__ import annotations

from typing import Any

from experiments.plans import Plan, parse

_TOP = ("routing", "seed", "metadata", "worker_labels", "experiment", "events", "arrivals_version")
_CONFIGURATION = ("duration", "interval", "on_worker_loss", "tracing")


def plan_data(**fields: Any) -> dict[str, Any]:
    """Two seconds at 10 requests/s for the routed service `web` with 3 clients.

    `fields` replace keys of the workload, of its configuration (_CONFIGURATION), or of the plan (_TOP).
    """
    top = {name: fields.pop(name) for name in _TOP if name in fields}
    configuration = {name: fields.pop(name) for name in _CONFIGURATION if name in fields}
    return {
        "experiment": {"name": "small"},
        "configuration": {
            "duration": "2s",
            "interval": "1s",
            **configuration,
            "workloads": [{"service": "web", "ticks": [10, 10], **fields}],
        },
        "routing": [{"service": "web", "hosts": ["127.0.0.1:9"], "weights": [1]}],
        "seed": 7,
        **top,
    }


def plan(**fields: Any) -> Plan:
    return parse(plan_data(**fields))
