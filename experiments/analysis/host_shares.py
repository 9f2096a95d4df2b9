"""Requests by host: each host's share compared with its weight, and each shard's counts with its exact shares.

Traced requests are counted by their rows, and untraced ones by the per-second statistics.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import Count

from experiments.analysis.shard_scope import seconds_of, shards_of
from experiments.models import Experiment, Trace
from loadgen.protocol.outcomes import FIRST_NOT_SENT
from routing import selectors as routing_selectors


def hosts_of(experiment: Experiment) -> list[dict[str, Any]]:
    """Per workload: hosts with requests sent and shares, and each (shard, routing version)'s deviation in requests.

    `weight_share` is None unless a single routing version was in force. A deviation counts all routed arrivals,
    including those that could not be sent, because the balancer counts them, too.
    """
    names = {
        shard.id: (str(shard), (shard.group.workload.index, shard.group.workload.service))
        for shard in shards_of(experiment)
    }
    routed: dict[tuple[int, str], dict[tuple[str, int], Counter[str]]] = {}
    sent: dict[tuple[int, str], Counter[str]] = {}
    rows = Trace.objects.filter(experiment=experiment).exclude(host="").order_by()
    counted = rows.values_list("shard_id", "routing_version", "host", "outcome").annotate(Count("id"))
    for shard_id, version, host, outcome, count in counted:
        name, workload = names[shard_id]
        routed.setdefault(workload, {}).setdefault((name, version), Counter())[host] += count
        if outcome < FIRST_NOT_SENT:
            sent.setdefault(workload, Counter())[host] += count
    for shard_id, by_version, by_host in seconds_of(experiment, "shard_id", "routed", "hosts", traced=False):
        name, workload = names[shard_id]
        for version, counts in by_version.items():
            routed.setdefault(workload, {}).setdefault((name, int(version)), Counter()).update(counts)
        sent.setdefault(workload, Counter()).update({host: counts["sent"] for host, counts in by_host.items()})
    weights = _weights(sorted({service for _, service in routed}))
    return [
        _workload_shares(index, service, by_shard, sent.get((index, service), Counter()), weights)
        for (index, service), by_shard in sorted(routed.items())
    ]


def _workload_shares(
    index: int,
    service: str,
    routed: dict[tuple[str, int], Counter[str]],
    sent: Counter[str],
    weights: dict[tuple[str, int], dict[str, float]],
) -> dict[str, Any]:
    versions = sorted({version for _, version in routed})
    only = weights.get((service, versions[0])) if len(versions) == 1 else None
    total = sent.total()
    hosts = sorted({host for counts in routed.values() for host in counts} | set(only or ()))
    return {
        "workload": index,
        "service": service,
        "routing_versions": versions,
        "hosts": [
            {
                "host": host,
                "sent": sent[host],
                "share": sent[host] / total if total else None,
                "weight_share": None if only is None else only.get(host, 0.0),
            }
            for host in hosts
        ],
        "shards": [
            {
                "shard": shard,
                "routing_version": version,
                "routed": counts.total(),
                "max_deviation": max_deviation(counts, weights.get((service, version))),
            }
            for (shard, version), counts in sorted(routed.items())
        ],
    }


def max_deviation(counts: Counter[str], shares: dict[str, float] | None) -> float | None:
    """The greatest difference of a host's count to its exact share, in requests; None if the weights are unknown."""
    if shares is None:
        return None
    total = counts.total()
    return max(abs(counts[host] - total * shares.get(host, 0.0)) for host in {*counts, *shares})


def _weights(services: list[str]) -> dict[tuple[str, int], dict[str, float]]:
    """(service, version) → host → share of the total weight, from the routing table's revisions."""
    found = {}
    for revision in routing_selectors.revisions(services):
        total = sum(revision.weights)
        if total > 0:
            found[revision.service, revision.version] = {
                host: weight / total for host, weight in zip(revision.hosts, revision.weights, strict=True)
            }
    return found
