"""A client app whose requests all differ, against the static request, both in the closed model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, at_least
from benchmarks.lines.closed import CONNECTIONS
from benchmarks.stack import plan

_APPS = Path(__file__).parents[1] / "apps"


def _against_static(app: str) -> Callable[[Bench], AbstractContextManager[Measure]]:
    @contextmanager
    def measuring(bench: Bench) -> Iterator[Measure]:
        seconds = bench.seconds(8, 4)
        with bench.target() as target, bench.stack(galileo_apps_dir=str(_APPS)) as stack:

            def measure() -> Sample:
                load: dict[str, Any] = {"model": "closed", "clients": [CONNECTIONS]}
                static = stack.load(plan([target.host], seconds, **load), target)
                varied = stack.load(plan([target.host], seconds, **load, client=app), target)
                return Sample(
                    [varied.completed_rps / static.completed_rps],
                    {
                        "app, requests/s": varied.completed_rps,
                        "app, CPU µs/request": varied.cpu_us_per_request,
                        "static, requests/s": static.completed_rps,
                        "static, CPU µs/request": static.cpu_us_per_request,
                        "last row stored after the end, s": varied.last_row_after_s,
                    },
                )

            yield measure

    return measuring


BODY = Line(
    "app",
    (
        Figure(
            "a client app that varies path and body each time, against the static request",
            "×",
            at_least(0.5),
            at_least(0.8),
        ),
    ),
    _against_static("body"),
)
KEYWORDS = Line(
    "kwargs",
    (Figure("the same with kwargs that change (headers, params, json)", "×", None, at_least(0.3)),),
    _against_static("keywords"),
)
