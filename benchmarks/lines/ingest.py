"""The rows per second that ingest stores, with statistics and an answer per batch, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, at_least
from benchmarks.needed import Missing
from benchmarks.stack import NotMeasured
from galileo_site.environment import PROJECT_ROOT
from tests.support.database_servers import Postgres, ServerMissing
from tests.support.redis_server import RedisServer


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    def measure() -> Sample:
        sqlite, postgres = _sqlite(bench), _postgres(bench)
        return Sample(
            [sqlite["rows"] / sqlite["wall_s"], postgres["rows"] / postgres["wall_s"]],
            {
                "SQLite, CPU µs/row": sqlite["cpu_s"] / sqlite["rows"] * 1e6,
                "PostgreSQL, CPU µs/row of ingest alone": postgres["cpu_s"] / postgres["rows"] * 1e6,
            },
        )

    yield measure


def _sqlite(bench: Bench) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="galileo-bench-") as folder:
        return _ingest(bench, {"galileo_expdb_sqlite_path": str(Path(folder) / "galileo.sqlite3")})


def _postgres(bench: Bench) -> dict[str, float]:
    """Runs the server on the target's core, and ingest on the generator's."""
    try:
        with Postgres() as server:
            return _ingest(bench, server.environment)
    except ServerMissing as error:
        raise Missing(str(error)) from error


def _ingest(bench: Bench, database: dict[str, str]) -> dict[str, float]:
    batches = 20 if bench.quick else 100
    with ExitStack() as resources:
        folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="galileo-bench-"))
        server = resources.enter_context(RedisServer(Path(folder)))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("galileo_", "DJANGO_"))}
        environment = {
            **inherited,
            **database,
            "galileo_redis_port": str(server.port),
            "galileo_redis_password": server.password,
            "galileo_secret_key": secrets.token_urlsafe(40),
        }
        _run([sys.executable, "manage.py", "migrate", "--verbosity=0"], environment)
        work = [*bench.cores.generating, sys.executable, "-m", "benchmarks.ingest_work", str(batches)]
        return dict(json.loads(_run(work, environment)))


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise NotMeasured(f"{' '.join(command[-3:])} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


LINE = Line(
    "ingest",
    (
        Figure("ingest with aggregates: SQLite", "rows/s", at_least(150_000), at_least(300_000)),
        Figure("ingest with aggregates: PostgreSQL", "rows/s", at_least(100_000), at_least(200_000)),
    ),
    _measuring,
)
