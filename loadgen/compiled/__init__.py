"""Whether the engine's hot modules run compiled, and from where they are imported then.

`python -m loadgen.compiled.compile` compiles them, by Cython, from the Python files that run where nothing was
compiled. The result lies in a folder named after the contents of those files: after a change of one of them, that
folder is no longer found, and the Python files run until they are compiled again.
"""

from __future__ import annotations

import os
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
# Beside a module may be a `.pxd`, which says what C types its names have.
MODULES: Final = (
    "loadgen.arrivals.pacer",
    "loadgen.engine.primitives",
    "loadgen.engine.recorder",
    "loadgen.engine.deadlines",
    "loadgen.engine.http.connection",
    "loadgen.engine.http.pool",
    "loadgen.engine.executors.open",
    "loadgen.engine.http.templates",
    "loadgen.engine.http.sources",
)
# `galileo_compiled=false` runs the Python files, whatever was compiled.
VARIABLE: Final = "galileo_compiled"
# What `false` may be called; here, because nothing of ours may be imported before the compiled modules are found.
OFF: Final = ("0", "false", "no", "off")
_BUILDS: Final = ROOT / "loadgen" / "_compiled"


def sources(module: str) -> list[Path]:
    """What a module is compiled from; the first is what Cython is given."""
    stem = ROOT.joinpath(*module.split("."))
    files = [stem.with_suffix(suffix) for suffix in (".pyx", ".py", ".pxd")]
    return [file for file in files if file.exists()]


def folder() -> Path:
    """Where the compiled modules of the present sources are, or would be."""
    digest = sha256(EXTENSION_SUFFIXES[0].encode())  # this Python's, on this kind of machine
    for module in MODULES:
        for file in sources(module):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return _BUILDS / digest.hexdigest()[:16]


def search(package: str, path: list[str]) -> None:
    """Has a package's modules looked for among the compiled ones first; `path` is its `__path__`."""
    if IN_USE:
        path.insert(0, str(_FOLDER.joinpath(*package.split("."))))


_FOLDER: Final = folder()
IN_USE: Final = os.environ.get(VARIABLE, "").strip().lower() not in OFF and _FOLDER.is_dir()
STATE: Final = "compiled" if IN_USE else "interpreted"
