"""Ingests synthetic trace batches as fast as it can: `python -m benchmarks.ingest_work BATCHES`.

Started by the line `ingest`, in the environment of an ingest process, with a migrated database and a broker. Prints
rows, wall time and CPU time as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace

import django
import numpy as np

from benchmarks.rows import ROW_TYPE
from loadgen.protocol.outcomes import Outcome

CLIENTS = 1000
RATE_RPS = 50_000
HOSTS = ["127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80"]
SEED = 1


def main(batches: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")
    django.setup()
    from experiments.ingest.ingest import ingest

    sealed = payloads(batches + 1)
    ingest(sealed[0])  # connects to the database and the broker
    begun_s, cpu_s = time.monotonic(), time.process_time()
    for payload in sealed[1:]:
        ingest(payload)
    figures = {"wall_s": time.monotonic() - begun_s, "cpu_s": time.process_time() - cpu_s}
    from experiments.models import Batch, Trace

    rows = Trace.objects.count()
    if Batch.objects.count() != len(sealed):
        raise SystemExit(f"{Batch.objects.count()} of {len(sealed)} batches were stored")
    sys.stdout.write(json.dumps({"rows": rows * batches / len(sealed), **figures}) + "\n")


def payloads(batches: int) -> list[bytes]:
    """Returns messages with the batches of a shard with 1,000 Poisson clients and 50,000 requests/s."""
    from loadgen.protocol.trace_batch import encode_header, to_message
    from loadgen.shard.sealer import SEAL_AT_ROWS
    from tests.support.batches import header, make_experiment, shards_of

    experiment = make_experiment([[batches * SEAL_AT_ROWS / RATE_RPS, RATE_RPS]], clients=CLIENTS)
    (shard,) = shards_of(experiment)
    random = np.random.default_rng(SEED)
    sealed = []
    intended_ns = 0
    sequences = np.zeros(CLIENTS, np.int64)
    for number in range(batches):
        rows = _rows(random, SEAL_AT_ROWS, intended_ns, sequences)
        intended_ns = int(rows["intended_ns"][-1])
        head = replace(header(shard, SEAL_AT_ROWS), number=number, first_row=number * SEAL_AT_ROWS, hosts=HOSTS)
        sealed.append(to_message(encode_header(head) + rows.tobytes()))
    return sealed


def _rows(random: np.random.Generator, rows: int, after_ns: int, sequences: np.ndarray) -> np.ndarray:
    """Returns rows of successful requests, as an engine writes them; updates each client's next sequence number."""
    made = np.zeros(rows, ROW_TYPE)
    made["client"] = random.integers(0, CLIENTS, rows)
    for position, client in enumerate(made["client"].tolist()):
        made["sequence"][position] = sequences[client]
        sequences[client] += 1
    made["intended_ns"] = after_ns + np.cumsum(random.exponential(1e9 / RATE_RPS, rows))
    made["lateness_ns"] = random.gamma(2, 20_000, rows)
    made["connection_wait_ns"] = random.gamma(4, 1_000, rows)
    made["service_time_ns"] = 50_000 + random.gamma(2, 50_000, rows)
    made["outcome"] = Outcome.COMPLETED
    made["status"] = 200
    made["host"] = np.arange(rows) % len(HOSTS)
    made["size"] = 3
    made["routing_version"] = 1
    return made


if __name__ == "__main__":
    main(int(sys.argv[1]))
