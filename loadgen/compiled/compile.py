"""`python -m loadgen.compiled.compile`: compiles the engine's hot modules, so that a core sends more requests.

It needs the packages of requirements-compile.txt, a C compiler and Python's headers; without them only speed is lost.
Exit status: 0 if the modules are compiled, now or before; 1 if they cannot be, with a message that gives the reason.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from loadgen import compiled

_NOT_COMPILED: Final = "The engine is not compiled, and sends less per core"
# An annotation `int` is Python's, not C's; no index lies outside of its list.
_DIRECTIVES: Final = {"language_level": "3", "annotation_typing": False, "boundscheck": False}
# A plan's times are the same to the last bit on every machine: no fused multiply-add.
_FLAGS: Final = ["-O2", "-ffp-contract=off", "-w"]  # -w: the warnings are about C that Cython wrote


class RefusedError(Exception):
    """The C compiler or linker ended with an error, and has printed its message."""


def main() -> int:
    folder = compiled.folder()
    if folder.is_dir():
        return 0
    missing = missing_part()
    if missing:
        sys.stderr.write(f"{_NOT_COMPILED}: {missing}.\n")
        return 1
    sys.stdout.write("Compiling the engine ...\n")
    sys.stdout.flush()
    builds = folder.parent
    builds.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=builds) as work:
        made = Path(work) / "made"
        try:
            _build(made, Path(work) / "temporary")
        except RefusedError as error:
            sys.stderr.write(f"{_NOT_COMPILED}: the compiler, whose words are above, refuses: {error}.\n")
            return 1
        for old in builds.iterdir():
            if old != Path(work):
                shutil.rmtree(old)
        made.rename(folder)
    return 0


def missing_part() -> str:
    """Returns which requirement is missing, and how to install it; an empty string if none is."""
    for module in ("Cython", "setuptools"):
        if importlib.util.find_spec(module) is None:
            return f"the package {module.lower()} is missing (pip install -r requirements-compile.txt)"
    program = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(program) is None:
        return f"the C compiler {program!r} was not found (on Debian and Ubuntu: apt-get install gcc)"
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        return "Python's headers are missing (on Debian and Ubuntu: apt-get install python3-dev)"
    return ""


def _build(made: Path, temporary: Path) -> None:
    """Compiles into `made`, with a folder per package. Raises RefusedError."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.errors import CompileError, LinkError

    os.chdir(compiled.ROOT)
    extensions = [
        Extension(name, [str(compiled.sources(name)[0].relative_to(compiled.ROOT))], extra_compile_args=_FLAGS)
        for name in compiled.MODULES
    ]
    c_files = cythonize(extensions, compiler_directives=_DIRECTIVES, build_dir=str(temporary), quiet=True)
    command = Distribution({"ext_modules": c_files}).get_command_obj("build_ext")
    command.build_lib = str(made)
    command.build_temp = str(temporary)
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    try:
        command.run()
    except (CompileError, LinkError) as error:
        raise RefusedError(error) from error


if __name__ == "__main__":
    sys.exit(main())
