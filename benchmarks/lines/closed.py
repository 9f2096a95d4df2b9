"""The closed model against wrk, over plain connections and over TLS: the same connections, target and core, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks import peers
from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, at_least
from benchmarks.stack import Load, plan
from benchmarks.target import Target

CONNECTIONS = 50


def workload(target: Target, seconds: float, *, tls: bool) -> dict[str, object]:
    """Returns the plan of these lines."""
    if not tls:
        return plan([target.host], seconds, model="closed", clients=[CONNECTIONS])
    # The certificate is self-signed; wrk does not check it, either.
    unverified = {"verify": False}
    return plan([target.tls_host], seconds, model="closed", clients=[CONNECTIONS], scheme="https", kwargs=unverified)


def _against_wrk(*, tls: bool) -> Callable[[Bench], AbstractContextManager[Measure]]:
    @contextmanager
    def measuring(bench: Bench) -> Iterator[Measure]:
        seconds = bench.seconds(10, 4)
        with bench.target() as target, bench.stack() as stack:
            url = f"https://{target.tls_host}/" if tls else f"http://{target.host}/"

            def measure() -> Sample:
                wrk = peers.wrk(bench.cores, url, CONNECTIONS, seconds)
                beside = {} if tls else peers.hey(bench.cores, url, CONNECTIONS, seconds).background("hey")
                load = stack.load(workload(target, seconds, tls=tls), target)
                background = {**_background(load), **wrk.background("wrk"), **beside}
                return Sample([load.completed_rps / wrk.rps], background)

            yield measure

    return measuring


def _background(load: Load) -> dict[str, float]:
    return {
        "ours, requests/s": load.completed_rps,
        "ours, CPU µs/request": load.cpu_us_per_request,
        "CPU of the shard, % of a core": 100 * load.shard_cpu_share,
        "last row stored after the end, s": load.last_row_after_s,
    }


LINE = Line(
    "closed",
    (
        Figure(
            "closed model, 50 connections, one shard on one core, tracing on, against wrk",
            "×",
            at_least(0.35),
            at_least(0.6),
        ),
    ),
    _against_wrk(tls=False),
)
HTTPS_LINE = Line(
    "https",
    (Figure("https:// target, keep-alive, 50 connections, against wrk", "×", at_least(0.35), at_least(0.6)),),
    _against_wrk(tls=True),
)
