"""Small plans for tests."""

from __future__ import annotations

from typing import Any

from experiments.plans import Plan, parse


def plan_data(**fields: Any) -> dict[str, Any]:
    """A plan of one constant workload, 10 requests per second for 2 s by 3 clients; `fields` go into the workload."""
    top = {name: fields.pop(name) for name in ("routing", "seed", "metadata", "worker_labels") if name in fields}
    duration, interval = fields.pop("duration", 2), fields.pop("interval", 1)
    return {
        "experiment": {"name": "test", "creator": "tester"},
        "configuration": {
            "duration": duration,
            "interval": interval,
            "workloads": [{"service": "web", "ticks": [10, 10], **fields}],
        },
        "routing": [{"service": "web", "hosts": ["127.0.0.1:9"], "weights": [1]}],
        "seed": 7,
        **top,
    }


def plan(**fields: Any) -> Plan:
    return parse(plan_data(**fields))
