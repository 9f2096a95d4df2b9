"""An engine in a network with few ephemeral ports: `python -m tests.loadgen.engine.http.few_ports PORTS`.

It prints the outcomes as JSON. `unshare --user --map-root-user --net` makes such a network.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys
from pathlib import Path

import uvloop

from tests.loadgen.engine.harness import build, play
from tests.support.http_target import HttpTarget

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT = 50_000


def limit_ports(ports: int) -> None:
    """Brings the loopback device of a fresh network up, and leaves this many ephemeral ports."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    _PORT_RANGE.write_text(f"{_FIRST_PORT} {_FIRST_PORT + ports - 1}")


def main() -> None:
    with HttpTarget(mode="hang") as target:  # binds a port before they are few
        limit_ports(int(sys.argv[1]))
        engine = build(target.host, rate=100, duration=0.5, connection="new", request_timeout_s=1)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcomes = runner.run(play(engine)).outcomes()
    print(json.dumps({outcome.name: count for outcome, count in outcomes.items()}))  # noqa: T201


if __name__ == "__main__":
    main()
