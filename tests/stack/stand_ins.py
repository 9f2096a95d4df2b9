"""`python -m tests.stack.stand_ins COMMAND`: the stack with stand-ins for Galileo's own processes and Django commands.

Redis and the example services are real. The variables FAKE_<COMMAND> control the stand-ins: a number is its exit
status, `wait` makes it run until Ctrl-C. What is called and when it ends is appended to the file CALLS.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from galileo_site.stack import __main__, demo, stack, supervisor
from galileo_site.stack.config import read_config

# argv: name, further arguments. A Ctrl-C ends it as run_experiment ends: with status 130.
CODE = """
import os, signal, sys, time
def note(what):
    with open(os.environ["CALLS"], "a") as file:
        file.write(what + "\\n")
name, arguments = sys.argv[1], sys.argv[2:]
note(" ".join([name, *arguments]))
if "--id-file" in arguments:
    open(arguments[arguments.index("--id-file") + 1], "w").write("202611220000-abcd")
action = os.environ.get("FAKE_" + name.upper().replace("-", "_"), "0")
if action != "wait":
    raise SystemExit(int(action))
def end(number, frame):
    note(f"{name} got {signal.Signals(number).name}")
    raise SystemExit(130 if number == signal.SIGINT else 0)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)
note(f"{name} waits")
time.sleep(100)
"""


def fake(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", CODE, name, *map(str, arguments)]


def serve(name: str, *arguments: object) -> list[str]:
    """A process that runs until it is stopped, unless FAKE_<NAME> says otherwise."""
    code = f"import os; os.environ.setdefault('FAKE_{name.upper()}', 'wait')\n" + CODE
    return [sys.executable, "-c", code, name, *map(str, arguments)]


def waits(name: str) -> bool:
    return f"{name} waits\n" in Path(os.environ["CALLS"]).read_text()


def main() -> int:
    real_probe = stack.http_answers
    web_port = read_config().web_port
    replacements = {
        (stack, "manage"): fake,
        (demo, "manage"): fake,
        (stack, "run"): serve,
        (supervisor, "_PROGRAM"): "tests.stack.stand_ins",
        (stack, "celery_answers"): lambda _broker, name: lambda: waits(name),
        (stack, "worker_registered"): lambda *_: lambda: waits("worker"),
        # The stand-in of the web server serves nothing.
        (stack, "http_answers"): lambda port, path: (lambda: True) if port == web_port else real_probe(port, path),
    }
    for (module, name), replacement in replacements.items():
        setattr(module, name, replacement)
    return __main__.main()


if __name__ == "__main__":
    raise SystemExit(main())
