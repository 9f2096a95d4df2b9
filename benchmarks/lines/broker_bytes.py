"""The memory that a trace takes in Redis at 10,000 requests/s.

Ingest is stopped for a while, so that the batches of the load stay in its queue. The size of the queue in Redis is
measured: whole messages, with all that Celery puts around a batch.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgpack
import psutil

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.lines.fixed_rate import RATE_RPS
from benchmarks.lines.open_model import poisson
from benchmarks.stack import NotMeasured
from loadgen.protocol.keys import ingest_queue
from loadgen.protocol.trace_batch import MESSAGE_MAGIC, decode, unpack_message
from tests.support.galileo import stopped

_HELD_UP_S = 2.0  # shorter than the time after which a batch is sent again


def batch_of(message: bytes) -> bytes:
    """Returns the compressed batch in a Celery message as stored in Redis."""
    arguments, _, _ = msgpack.unpackb(base64.b64decode(json.loads(message)["body"]))
    return bytes(arguments[0])


def weigh(messages: Sequence[bytes]) -> Sample:
    """Returns the bytes per trace of messages with one batch each, and of the batches alone."""
    batches = [batch_of(message) for message in messages]
    rows = sum(decode(unpack_message(batch), MESSAGE_MAGIC)[0].rows for batch in batches)
    if rows == 0:
        raise NotMeasured("no trace was in the queue while ingest was held up")
    return Sample(
        [sum(map(len, messages)) / rows],
        {"batch alone, B": sum(map(len, batches)) / rows, "traces, rows": rows, "messages": len(messages)},
    )


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    with bench.target() as target, bench.stack() as stack:

        def measure() -> Sample:
            messages: list[bytes] = []
            begun_s = time.monotonic()

            def sample() -> None:
                if messages or time.monotonic() - begun_s < 1:
                    return
                with stopped(psutil.Process(stack.children["ingest"].pid), _HELD_UP_S), stack.broker() as broker:
                    messages.extend(broker.lrange(ingest_queue(0, 1), 0, -1))

            stack.load(poisson(target, bench.seconds(10, 6), RATE_RPS), target, sample)
            return weigh(messages)

        yield measure


LINE = Line(
    "broker-bytes", (Figure("bytes in Redis per trace at 10,000 requests/s", "B", below(30), below(18)),), _measuring
)
