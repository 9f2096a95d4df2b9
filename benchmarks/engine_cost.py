"""The cost of one request in the engine alone, without Celery, broker and database: `python -m benchmarks.engine_cost`.

Starts nginx on one core and sends to it from the other, as a shard's event loop does. Prints CPU per request, the
lateness, and with --profile the functions' times (profiling slows the engine down: such figures are not comparable).
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import uvloop

from benchmarks import cores
from benchmarks.rows import ROW_TYPE
from benchmarks.target import Target
from loadgen.engine import Engine
from loadgen.protocol.enums import LoadModel, Scheme
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_batch import NO_TIME
from tests.loadgen.engine.harness import build

_TAKE_EVERY_S = 0.25  # as the sealer does


class Run:
    """One run of an engine; its figures are complete when `play` has returned."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lateness_ns: list[int] = []
        self._outcomes: Counter[int] = Counter()
        self.cpu_s = self.wall_s = 0.0

    async def play(self, profile: cProfile.Profile | None) -> None:
        engine = self._engine
        await engine.prepare()
        taking = asyncio.create_task(self._take_regularly())
        cpu_s, begun_s = time.process_time(), time.monotonic()
        if profile is not None:
            profile.enable()
        engine.start(time.monotonic_ns() + 1_000_000)
        end = await engine.wait()
        if profile is not None:
            profile.disable()
        self.cpu_s, self.wall_s = time.process_time() - cpu_s, time.monotonic() - begun_s
        taking.cancel()
        self._take()
        await engine.close()
        if end.reason:
            raise SystemExit(f"the engine stopped: {end.reason}")

    async def _take_regularly(self) -> None:
        while True:
            await asyncio.sleep(_TAKE_EVERY_S)
            self._take()

    def _take(self) -> None:
        packed, _ = self._engine.take()
        rows = np.frombuffer(packed, ROW_TYPE)
        self._lateness_ns += rows["lateness_ns"][rows["lateness_ns"] != NO_TIME].tolist()
        self._outcomes.update(rows["outcome"].tolist())

    def lines(self) -> list[str]:
        rows = self._outcomes.total()
        named = ", ".join(f"{Outcome(code).name.lower()} {count:,}" for code, count in sorted(self._outcomes.items()))
        p50, p99, top = np.quantile(self._lateness_ns, [0.5, 0.99, 1]) / 1e3
        return [
            f"{rows / self.wall_s:,.0f} requests/s for {self.wall_s:.1f} s ({named})",
            f"CPU {self.cpu_s / rows * 1e6:.2f} µs per request, {self.cpu_s / self.wall_s:.0%} of a core",
            f"lateness p50 {p50:,.0f} µs, p99 {p99:,.0f} µs, max {top:,.0f} µs",
        ]


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="galileo-bench-") as folder:
        used = cores.choose()
        cores.stay_on(used.target)
        (nginx := Path(folder) / "nginx").mkdir()
        with Target(nginx) as target:
            cores.stay_on(used.generator)
            engine = _engine(options, target)
            run, profile = Run(engine), cProfile.Profile() if options.profile else None
            served = target.served()
            uvloop.run(run.play(profile))
            served = target.served() - served
    sys.stdout.write("\n".join([*run.lines(), f"nginx served {served:,}"]) + "\n")
    if profile is not None:
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(options.top)


def _engine(options: argparse.Namespace, target: Target) -> Engine:
    hosts = [target.tls_host] if options.https else target.hosts[: options.hosts]
    workload = {"arrival_process": options.arrivals, "connection": options.connection}
    if options.chunked:
        workload |= {"path": "/chunked"}
    if options.https:
        workload |= {"scheme": Scheme.HTTPS, "kwargs": {"verify": False}}
    if options.closed:
        workload |= {"model": LoadModel.CLOSED, "schedule": [[options.seconds, options.closed]]}
    if options.app is not None:
        workload |= {"client_app": options.app.resolve().name}
    return build(
        *hosts,
        rate=options.rate,
        duration=options.seconds,
        clients=options.closed or options.clients,
        apps_dir=options.app.resolve().parent if options.app else None,
        **workload,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=10_000.0, help="requests/s of the open model (%(default)s)")
    parser.add_argument("--closed", type=int, default=0, metavar="CLIENTS", help="the closed model instead")
    parser.add_argument("--seconds", type=float, default=5.0, help="(%(default)s)")
    parser.add_argument("--clients", type=int, default=1000, help="of the open model (%(default)s)")
    parser.add_argument("--arrivals", default="expovariate", help="arrival process (%(default)s)")
    parser.add_argument("--hosts", type=int, choices=(1, 2, 3), default=3, help="(%(default)s)")
    parser.add_argument("--https", action="store_true", help="one host, over TLS")
    parser.add_argument("--chunked", action="store_true", help="responses come in chunks")
    parser.add_argument("--connection", choices=("keep-alive", "new"), default="keep-alive")
    parser.add_argument("--app", type=Path, metavar="FOLDER", help="a client app instead of the static request")
    parser.add_argument("--profile", action="store_true", help="cProfile by the functions' own time")
    parser.add_argument("--top", type=int, default=30, help="lines of the profile (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
