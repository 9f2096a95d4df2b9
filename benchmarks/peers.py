"""The peers: runs wrk, hey and Locust on the generator's core, and parses their figures."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cores import Cores
from benchmarks.needed import Missing, need

_HERE = Path(__file__).parent
LOCUST = _HERE / ".venv" / "bin" / "locust"
_LOCUST_FILE = _HERE / "locustfile.py"


class PeerFailed(Exception):
    """A peer ended without a figure."""


@dataclass(frozen=True)
class Speed:
    """Requests/s, and the CPU time that they took in the generator."""

    rps: float
    cpu_us_per_request: float

    def background(self, name: str) -> dict[str, float]:
        """Returns both, by the peer's name."""
        return {f"{name}, requests/s": self.rps, f"{name}, CPU µs/request": self.cpu_us_per_request}


def wrk(cores: Cores, url: str, connections: int, seconds: float) -> Speed:
    """Returns the speed of wrk with one thread, closed model.

    Raises:
        Missing: it is not installed.
        PeerFailed: it reports errors, or its output has no figure.
    """
    program = need("wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", url]
    return _speed([*cores.generating, *command], seconds, read_wrk)


def read_wrk(text: str) -> float:
    """Returns the rate in the output of wrk; raises PeerFailed."""
    if wrong := re.search(r"Socket errors:.*|Non-2xx or 3xx responses:.*", text):
        raise PeerFailed(f"wrk: {wrong[0]}")
    if (rate := re.search(r"^Requests/sec:\s+([\d.]+)", text, re.M)) is None:
        raise PeerFailed(f"wrk prints no rate: {text}")
    return float(rate[1])


def hey(cores: Cores, url: str, connections: int, seconds: float) -> Speed:
    """Returns the speed of hey on one CPU, closed model; raises as `wrk` does."""
    program = need("hey")
    command = [program, "-cpus", "1", "-c", str(connections), "-z", f"{seconds:.0f}s", url]
    return _speed([*cores.generating, *command], seconds, read_hey)


def read_hey(text: str) -> float:
    """Returns the rate in the output of hey; raises PeerFailed."""
    statuses = re.findall(r"^\s+\[(\d+)\]\s+(\d+) responses", text, re.M)
    if [status for status, _ in statuses] != ["200"] or "Error distribution" in text:
        raise PeerFailed(f"hey saw errors: {text}")
    if (rate := re.search(r"^\s+Requests/sec:\s+([\d.]+)", text, re.M)) is None:
        raise PeerFailed(f"hey prints no rate: {text}")
    return float(rate[1])


def locust(cores: Cores, hosts: Sequence[str], users: int, seconds: float) -> float:
    """Returns the requests/s of Locust's FastHttpUser without wait time, over `hosts` with the weights 1, 2, 3, …

    Measured from when all users have started. Raises as `wrk` does.
    """
    if not LOCUST.exists():
        raise Missing(f"{LOCUST.relative_to(_HERE.parent)} was not found: make bench installs it")
    options = ["--headless", "--users", str(users), "--spawn-rate", str(users), "--reset-stats", "--json"]
    options += ["--run-time", f"{seconds:.0f}s", "--loglevel", "WARNING", "--host", f"http://{hosts[0]}"]
    command = [*cores.generating, str(LOCUST), "-f", str(_LOCUST_FILE), *options]
    return read_locust(_run(command, seconds, BENCH_HOSTS=" ".join(hosts)))


def read_locust(text: str) -> float:
    """Returns the rate in the JSON output of Locust; raises PeerFailed."""
    try:
        entries = json.loads(text)
        requests = sum(entry["num_requests"] for entry in entries)
        failures = sum(entry["num_failures"] for entry in entries)
        begin_s = min(entry["start_time"] for entry in entries)
        end_s = max(entry["last_request_timestamp"] for entry in entries)
    except (ValueError, KeyError, TypeError) as error:
        raise PeerFailed(f"Locust prints no figures: {error!r}: {text[-500:]}") from error
    if failures or end_s <= begin_s:
        raise PeerFailed(f"Locust: {failures} of {requests} requests failed")
    return float(requests / (end_s - begin_s))


def _speed(command: list[str], seconds: float, read: Callable[[str], float]) -> Speed:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    rps = read(_run(command, seconds))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Speed(rps, cpu_s / (rps * seconds) * 1e6)


def _run(command: list[str], seconds: float, **variables: str) -> str:
    """Returns the output of a command, which gets 30 s more than `seconds`, and no Ctrl-C of the terminal."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,  # Locust would set up a terminal, which stops a background process
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        out, errors = process.communicate(timeout=seconds + 30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise PeerFailed(f"{command[3]} ended with {process.returncode}: {(errors or out)[-500:]}")
    return out
