"""The lines of the table, each in a module of its own; `LINES` holds them in the table's order."""

from benchmarks.lines import (
    app,
    broker_bytes,
    closed,
    idle_shard,
    ingest,
    lateness,
    memory,
    open_model,
    rest,
    spawn,
)

LINES = (
    closed.LINE,
    open_model.LINE,
    lateness.LINE,
    app.BODY,
    app.KEYWORDS,
    closed.HTTPS_LINE,
    memory.LINE,
    broker_bytes.LINE,
    ingest.LINE,
    rest.LINE,
    idle_shard.LINE,
    spawn.LINE,
)
