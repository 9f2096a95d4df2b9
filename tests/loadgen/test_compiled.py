from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import compiled
from loadgen.compiled import compile as compiling
from loadgen.engine import primitives
from loadgen.protocol.trace_batch import COLUMNS, RECORD

pytestmark = pytest.mark.costly

# A machine without a compiler can run all other tests; CI has one.
MISSING = compiling.missing_part()
needs_compiled = pytest.mark.skipif(bool(MISSING) and "CI" not in os.environ, reason=f"the engine: {MISSING}")


def in_python(module: str) -> ModuleType:
    """The module as it runs where nothing was compiled."""
    file = compiled.ROOT.joinpath(*module.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(f"interpreted_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


INTERPRETED = in_python("loadgen.engine.primitives")
uint32 = st.integers(0, 2**32 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(
    st.tuples(
        uint32,
        uint32,
        int64,
        int64,
        int64,
        int64,
        st.integers(0, 255),
        *[st.integers(0, 65535)] * 2,
        int64,
        uint32,
        *[st.integers(0, 255)] * 2,
    ),
    max_size=20,
)


def imported(root: Path = compiled.ROOT, **environ: str) -> dict[str, str]:
    """Where another process imports the modules from."""
    program = "import importlib; print(*(importlib.import_module(m).__file__ for m in sys.argv[1:]), sep='\\n')"
    command = [sys.executable, "-c", f"import sys; {program}", *compiled.MODULES]
    clean = {name: value for name, value in os.environ.items() if name != compiled.VARIABLE}
    output = subprocess.run(command, cwd=root, env={**clean, **environ}, capture_output=True, text=True, check=True)
    return dict(zip(compiled.MODULES, output.stdout.split(), strict=True))


@needs_compiled
def test_every_module_of_the_list_runs_compiled() -> None:
    assert {Path(file).suffix for file in imported().values()} == {".so"}


def test_on_demand_the_python_files_run() -> None:
    assert {Path(file).suffix for file in imported(galileo_compiled="false").values()} == {".py"}


@needs_compiled
def test_changed_source_disables_all_compiled_modules(tmp_path: Path) -> None:
    for package in ("loadgen", "routing"):
        shutil.copytree(compiled.ROOT / package, tmp_path / package)
    assert {Path(file).suffix for file in imported(tmp_path).values()} == {".so"}
    with (tmp_path / "loadgen/engine/http/pool.pxd").open("a") as source:
        source.write("# changed\n")
    assert {Path(file).suffix for file in imported(tmp_path).values()} == {".py"}


@pytest.mark.parametrize(
    ("options", "compiler", "needed"),
    [
        ([], "no-such-compiler", "the C compiler 'no-such-compiler' was not found"),
        (["-S"], "cc", "pip install -r requirements-compile.txt"),  # without the packages that are installed
    ],
)
def test_missing_compiler_is_named(options: list[str], compiler: str, needed: str, tmp_path: Path) -> None:
    shutil.copytree(compiled.ROOT / "loadgen", tmp_path / "loadgen", ignore=shutil.ignore_patterns("_compiled"))
    command = [sys.executable, *options, "-m", "loadgen.compiled.compile"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CC": compiler}, capture_output=True, text=True)
    assert done.returncode == 1
    assert needed in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "loadgen/_compiled").exists()


@needs_compiled
@pytest.mark.slow
def test_failing_compiler_leaves_nothing_half_built(tmp_path: Path) -> None:
    shutil.copytree(compiled.ROOT / "loadgen", tmp_path / "loadgen", ignore=shutil.ignore_patterns("_compiled"))
    command = [sys.executable, "-m", "loadgen.compiled.compile"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CC": "false"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the compiler, whose words are above, refuses" in done.stderr.splitlines()[-1]
    assert list((tmp_path / "loadgen/_compiled").iterdir()) == []


@pytest.mark.parametrize("module", [primitives, INTERPRETED], ids=["in use", "in Python"])
@given(rows=ROWS)
def test_rows_are_packed_as_the_batch_format_says(module: Any, rows: list[tuple[int, ...]]) -> None:
    packed = module.Rows()
    for row in rows:
        packed.put(*row)
    assert len(packed) == len(rows)
    assert list(RECORD.iter_unpack(packed.take())) == rows
    assert len(packed) == 0


@pytest.mark.parametrize("module", [primitives, INTERPRETED], ids=["in use", "in Python"])
def test_rows_grow_as_long_as_nobody_takes_them(module: Any) -> None:
    rows = module.Rows()
    for taken in (5000, 3000):
        for number in range(taken):
            rows.put(number, *range(1, len(COLUMNS)))
        assert [row[0] for row in RECORD.iter_unpack(rows.take())] == list(range(taken))


@pytest.mark.parametrize("module", [primitives, INTERPRETED], ids=["in use", "in Python"])
@pytest.mark.parametrize(
    ("field", "value"), [(0, -1), (1, 2**32), (6, 256), (7, 65536), (8, -1), (10, -1), (11, 256), (12, -1)]
)
def test_value_outside_its_field_is_refused_and_leaves_no_row(module: Any, field: int, value: int) -> None:
    rows = module.Rows()
    row = [0] * len(COLUMNS)
    row[field] = value
    with pytest.raises((OverflowError, struct.error)):
        rows.put(*row)
    assert len(rows) == 0 and len(rows.take()) == 0


@given(head=st.binary(max_size=50), client=st.integers(0, 2**63 - 1), sequence=uint32, tail=st.binary(max_size=50))
def test_a_request_is_numbered_the_same(head: bytes, client: int, sequence: int, tail: bytes) -> None:
    expected = head + f"{client:010}-{sequence:010}".encode() + tail
    assert primitives.numbered(head, client, sequence, tail) == expected
    assert INTERPRETED.numbered(head, client, sequence, tail) == expected


@pytest.mark.parametrize("module", [primitives, INTERPRETED], ids=["in use", "in Python"])
def test_socket_takes_only_what_it_has_room_for(module: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        assert module.write_at_once(ours.fileno(), b"hello") == 5
        assert theirs.recv(100) == b"hello"
        large = b"x" * (64 << 20)
        assert 0 < module.write_at_once(ours.fileno(), large) < len(large)
        assert module.write_at_once(ours.fileno(), large) == 0
        theirs.close()
        assert module.write_at_once(ours.fileno(), b"hello") == module.BROKEN
        assert module.write_at_once(ours.fileno(), b"hello") == module.BROKEN
    assert module.write_at_once(ours.fileno(), b"hello") == 0  # whatever else is wrong, the transport reports it


@pytest.mark.parametrize("module", [primitives, INTERPRETED], ids=["in use", "in Python"])
def test_data_and_the_end_of_a_socket_are_input(module: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not module.has_input(ours.fileno())
        theirs.send(b"x")
        assert module.has_input(ours.fileno())
        ours.recv(10)
        assert not module.has_input(ours.fileno())
        theirs.close()
        assert module.has_input(ours.fileno())


def test_listed_modules_exist_and_c_types_have_a_module() -> None:
    listed = {file for module in compiled.MODULES for file in compiled.sources(module)}
    assert all(compiled.ROOT.joinpath(*module.split(".")).with_suffix(".py") in listed for module in compiled.MODULES)
    for suffix in ("*.pxd", "*.pyx"):
        assert set((compiled.ROOT / "loadgen").rglob(suffix)) <= listed
