"""Command line: `python -m examples.service --port P --log FILE`."""

from __future__ import annotations

import argparse
import signal
from contextlib import closing
from pathlib import Path

import uvicorn

from examples.service.app import Service
from examples.service.classifier import train
from examples.service.request_log import RequestLog
from examples.service.station import ServiceTimes, Station


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    # uvicorn stops gracefully on these signals and then raises them again for the handlers installed before it. Without
    # these, a signal would end the process before the log is closed, and not with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with closing(RequestLog(options.log)) as log:
        service = Service(
            options.name or f"service-{options.port}",
            train(),
            Station(options.concurrency, options.queue_length),
            ServiceTimes(options.service_time_ms / 1000, options.seed),
            log,
        )
        uvicorn.run(
            service,
            host=options.host,
            port=options.port,
            http="httptools",
            loop="uvloop",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            # A server that closes idle connections early would reset requests in flight.
            timeout_keep_alive=300,
            timeout_graceful_shutdown=5,
        )
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.service", description="An image classifier.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True, help="a line for each request is appended to this file")
    parser.add_argument("--name", help="name of this instance (service-<port>)")
    parser.add_argument("--concurrency", type=_positive, default=4, help="requests served at the same time (4)")
    parser.add_argument("--queue-length", type=_positive, default=1024, help="maximum of waiting requests (1024)")
    parser.add_argument("--service-time-ms", type=_not_negative, default=8.0, help="mean service time (8)")
    parser.add_argument("--seed", type=int, help="seed of the service times (random at each start)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < 3600_000:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 3600000 ms, got {text}")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
