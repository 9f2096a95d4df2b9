"""Small valid plans for tests."""

from __future__ import annotations

from typing import Any

from experiments.plans import Plan, parse

_TOP = ("routing", "seed", "metadata", "worker_labels", "experiment", "events")


def plan_data(**fields: Any) -> dict[str, Any]:
    """Two seconds at 10 requests/s for the routed service `web` with 3 clients.

    `fields` replace keys of the workload, of its configuration (duration, interval, on_worker_loss), or of the plan.
    """
    top = {name: fields.pop(name) for name in _TOP if name in fields}
    timing = {name: fields.pop(name) for name in ("duration", "interval", "on_worker_loss") if name in fields}
    return {
        "experiment": {"name": "small"},
        "configuration": {
            "duration": "2s",
            "interval": "1s",
            **timing,
            "workloads": [{"service": "web", "ticks": [10, 10], **fields}],
        },
        "routing": [{"service": "web", "hosts": ["127.0.0.1:9"], "weights": [1]}],
        "seed": 7,
        **top,
    }


def plan(**fields: Any) -> Plan:
    return parse(plan_data(**fields))
