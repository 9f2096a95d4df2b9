"""Finds the compiled versions of the engine's hot modules, if there are any.

`python -m loadgen.compiled.compile` compiles them by Cython, from the same Python files that run where nothing was
compiled. The result is in a folder named after the contents of those files: after a change of one of them, the folder
is no longer found, and the Python files run until they are compiled again.
"""

from __future__ import annotations

import os
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
# A `.pxd` beside a module has the C types of its names.
MODULES: Final = (
    "loadgen.arrivals.pacer",
    "loadgen.engine.primitives",
    "loadgen.engine.recorder",
    "loadgen.engine.deadlines",
    "loadgen.engine.http.response.head",
    "loadgen.engine.http.response.chunked_body",
    "loadgen.engine.http.connection",
    "loadgen.engine.http.pool",
    "loadgen.engine.executors.open",
    "loadgen.engine.http.templates",
    "loadgen.engine.http.sources",
)
# `galileo_compiled=false` runs the Python files, whatever was compiled.
VARIABLE: Final = "galileo_compiled"
# Spellings of `false`; here, because nothing may be imported from loadgen before the compiled modules are found.
OFF: Final = ("0", "false", "no", "off")
_BUILDS: Final = ROOT / "loadgen" / "_compiled"


def sources(module: str) -> list[Path]:
    """Returns the files that a module is compiled from; Cython gets the first."""
    stem = ROOT.joinpath(*module.split("."))
    files = [stem.with_suffix(suffix) for suffix in (".pyx", ".py", ".pxd")]
    return [file for file in files if file.exists()]


def folder() -> Path:
    """Returns the folder of the modules compiled from the present sources, which may not exist."""
    digest = sha256(EXTENSION_SUFFIXES[0].encode())  # this Python's, on this kind of machine
    for module in MODULES:
        for file in sources(module):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return _BUILDS / digest.hexdigest()[:16]


def search(package: str, path: list[str]) -> None:
    """Lets a package's modules be imported compiled if they are; `path` is the package's `__path__`."""
    if IN_USE:
        path.insert(0, str(_FOLDER.joinpath(*package.split("."))))


_FOLDER: Final = folder()
IN_USE: Final = os.environ.get(VARIABLE, "").strip().lower() not in OFF and _FOLDER.is_dir()
STATE: Final = "compiled" if IN_USE else "interpreted"
