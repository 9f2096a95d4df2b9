"""Executes an example app as a worker does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loadgen.engine.client_app import ClientApp
from loadgen.engine.watchdog import Watchdog

APPS = Path(__file__).resolve().parents[2] / "examples" / "apps"


def client(folder: Path, **parameters: Any) -> Callable[[], tuple[Any, Any, Any]]:
    """What gives one client's next request."""
    app = ClientApp(folder.name, folder, Watchdog())
    instance = app.instance(0, app.parameters(parameters), time.monotonic_ns())
    instance.close()  # it needs no place in sys.modules
    return lambda: instance.next_request(time.monotonic_ns(), lambda _, *request: request, "http://host")


def needs_nothing(folder: Path) -> bool:
    """Whether the app runs where neither this project nor any installed package can be imported."""
    app = ClientApp(folder.name, folder, Watchdog())
    context = SimpleNamespace(name=folder.name, path=str(folder), manifest={}, parameters=app.parameters({}))
    code = (
        "from types import SimpleNamespace\n"
        f"g = {{'context': SimpleNamespace(**{vars(context)!r})}}\n"
        f"exec(open({str(folder / 'generator.py')!r}).read(), g)\n"
        "print((g['next_request']() if 'next_request' in g else next(g['requests']()))[0])"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    return (ran.stdout, ran.stderr) == ("post\n", "")
