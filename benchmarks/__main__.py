"""`make bench`: measures the lines of the table and judges them.

Exit status: 0 when all limits were reached; 1 when one was missed or could not be measured; 2 for an invalid option;
130 or 143 when interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import psutil

from benchmarks import cores, housekeeping, needed, table
from benchmarks.bench import Bench, Line
from benchmarks.conditions import Conditions, Look
from benchmarks.figures import Sample
from benchmarks.lines import LINES
from benchmarks.needed import Missing
from benchmarks.peers import PeerFailed
from benchmarks.stack import NotMeasured
from benchmarks.table import Measured
from galileo_site.environment import PROJECT_ROOT
from loadgen import compiled

_FOLDER = PROJECT_ROOT / "var" / "bench"
# A stack has work to do after its start; the rounds begin when it is done.
_IDLE_SHARE = 0.1
_SETTLES_WITHIN_S = 20
# Errors that make one line unmeasurable, and let the others go on. AssertionError: a wait has timed out.
_UNMEASURABLE = (Missing, NotMeasured, PeerFailed, AssertionError, RuntimeError, OSError, subprocess.SubprocessError)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        used = cores.choose()
    except cores.TooFewCores as error:
        sys.stderr.write(f"{error}\n")
        return 2
    needed.install_missing(_say)
    cores.stay_on(used.target)
    bench = Bench(used, options.quick, _say)
    with housekeeping.kept_off(used.generator) as moved:
        _say(f"the engine runs {compiled.STATE}")
        _say(f"{moved} threads of other processes were moved off core {used.generator}")
        chosen = [line for line in LINES if not options.only or line.name in options.only]
        look = Look(used)
        lines = [measured(line, bench, options.rounds, look) for line in chosen]
    text = table.markdown(lines)
    files = _write(text, lines, options)
    sys.stdout.write(f"\n{text}\n{' and '.join(map(str, files))}\n")
    return 1 if any(line.fails for line in lines) else 0


def measured(line: Line, bench: Bench, rounds: int, look: Callable[[], Conditions]) -> Measured:
    """Returns a line after its rounds, or with the reason why it cannot be measured; programming errors are raised.

    Args:
        look: measures the conditions before each round.
    """
    samples: list[Sample] = []
    before: list[Conditions] = []
    try:
        # The conditions are measured while only an idle stack runs.
        with line.measuring(bench) as measure:
            if not bench.quick:
                _let_settle()
            for number in range(1, rounds + 1):
                before.append(look())
                samples.append(measure())
                values = ", ".join(
                    f"{table.number(value)} {figure.unit}"
                    for figure, value in zip(line.figures, samples[-1].values, strict=True)
                )
                behind = "; ".join(f"{name}: {table.number(value)}" for name, value in samples[-1].background.items())
                bench.say(f"{line.name}, round {number} of {rounds}: {values} ({behind})")
    except _UNMEASURABLE as error:
        reason = " ".join(str(error).split()) or repr(error)
        bench.say(f"{line.name}: not measured: {error}")
        return Measured(line.name, line.figures, samples, reason[:500], before)
    return Measured(line.name, line.figures, samples, "", before)


def _let_settle() -> None:
    for _ in range(_SETTLES_WITHIN_S):
        if psutil.cpu_percent(1) / 100 < _IDLE_SHARE:
            return


def _write(text: str, lines: Sequence[Measured], options: argparse.Namespace) -> tuple[Path, Path]:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = _FOLDER / now.strftime("%Y%m%dT%H%M%SZ")
    document = {
        "written": now.isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "kernel": platform.release()},
        "python": platform.python_version(),
        "engine": compiled.STATE,
        "rounds": options.rounds,
        "quick": options.quick,
        "lines": table.to_json(lines),
    }
    files = path.with_suffix(".json"), path.with_suffix(".md")
    files[0].write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    files[1].write_text(text)
    return files


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    names = [line.name for line in LINES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures Galileo against its peers.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which each line is measured (%(default)s)")
    parser.add_argument("--only", default="", help=f"lines, separated by commas: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="shorter loads, to check that everything works")
    options = parser.parse_args(arguments)
    options.only = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := sorted(set(options.only) - set(names)):
        parser.error(f"--only: must be lines of {', '.join(names)}, got {', '.join(unknown)}")
    if options.rounds < 1:
        parser.error(f"--rounds: must be at least 1, got {options.rounds}")
    return options


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends the run in order; further signals are ignored."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
