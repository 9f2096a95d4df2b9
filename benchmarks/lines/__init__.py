"""The lines of the table; `LINES` holds them in the table's order."""

from benchmarks.lines import app, broker_bytes, closed, fixed_rate, ingest, open_model, rest, spawn

LINES = (
    closed.LINE,
    open_model.LINE,
    fixed_rate.LATENESS,
    app.BODY,
    app.KEYWORDS,
    closed.HTTPS_LINE,
    fixed_rate.MEMORY,
    broker_bytes.LINE,
    ingest.LINE,
    rest.LINE,
    fixed_rate.CPU,
    spawn.LINE,
)
