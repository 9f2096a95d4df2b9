"""The engine of a shard: sends a client group's requests on time, and keeps a row of each.

    engine.py      the life of a run: prepare, start, the schedule's end or a stop, close
    dispatcher.py  takes due arrivals from the pacer and decides: send, late, dropped, no route
    timer.py       wakes the loop at an arrival's intended time (timerfd)
    routes.py      which host serves an arrival: the routing record's, by a balancer, or a fixed one
    debug.py       what answers where nothing is sent
    sources.py     what a client sends: one static request, or what its client app says
    client_app.py  loads and calls client apps
    app_response.py  what an app is told of a response
    watchdog.py    interrupts an app that does not come back
    request.py     turns method, endpoint and keywords into bytes, as `requests` would
    plain.py       the same for plain requests, from templates
    prepared.py    the same by `requests` and urllib3 themselves
    wire.py        what comes of it
    redirects.py   the request that a redirect asks for
    tls.py         the keywords `verify` and `cert`
    pool.py        keep-alive connections per host, and the arrivals that wait for one
    openings.py    when connections are opened
    connection.py  one connection: writes requests, parses responses
    capture.py     keeps what went over the wire, where a workload or an app asks for it
    framing.py     the rare questions about a response's head
    dialer.py      opens connections and names what went wrong
    deadlines.py   time-outs of requests
    recorder.py    rows and counts
    collector.py   keeps the garbage collector out of the run
    errors.py      what can be wrong with a request source
    primitives.py  the little that is written twice: in Python, and for the compiled engine in primitives.pyx

Some of these are compiled where there is a C compiler (loadgen/compiled/); a `.pxd` names the C types of what is in
the `.py` beside it.

Everything runs on one event loop in one thread. Times are ns since the load's start.
"""

# ruff: noqa: E402 - what is compiled is to be found by the imports below
from loadgen import compiled

compiled.search(__name__, __path__)

from loadgen.engine.engine import Engine, EngineGauges
from loadgen.engine.errors import AppError
from loadgen.engine.http.client_app import is_local
from loadgen.engine.http.sources import SourceFactory, file_sources
from loadgen.engine.routes import Routes, build_routes

__all__ = [
    "AppError",
    "Engine",
    "EngineGauges",
    "Routes",
    "SourceFactory",
    "build_routes",
    "file_sources",
    "is_local",
]
