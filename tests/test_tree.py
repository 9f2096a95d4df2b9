"""Rules of the tree: where modules lie, how large they are and what they are called; what the controller imports."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("galileo_site", "experiments", "routing", "loadgen")
MOST_AT_A_ROOT = 8
MOST_IN_A_FOLDER = 16
FEWEST_LINES = 40
BANNED = {
    "aims", "openings", "heads", "framing", "evidence", "recorded", "waiting", "entrance", "fairness", "exclusion",
    "collector", "gone", "ticket",
}  # fmt: skip
# What a framework finds by its path: Django's parts of an app, its commands, Celery's tasks.
FOUND_BY_PATH = {"admin", "apps", "models", "tasks", "urls", "wsgi", "__main__", "__init__"}
# What the controller shares with the worker; of loadgen.apps, only the modules that neither store nor send anything.
SHARED = ("protocol", "broker", "arrivals", "apps", "interruption", "backoff")
PURE_APPS = {"archive", "errors", "manifest", "parameters", "one_request"}


def modules() -> list[Path]:
    """Every module of the four packages but migrations and what the compiler has made, relative to the root."""
    found = (path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path for path in found if not {"migrations", "_compiled"} & set(path.parts))


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a module imports; of `from a import b` both a and a.b."""
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_at_most_eight_modules_at_its_root(package: str) -> None:
    names = [path.name for path in modules() if path.parent == Path(package) and path.name != "__init__.py"]
    assert len(names) <= MOST_AT_A_ROOT, names


def test_a_folder_has_at_most_sixteen_modules() -> None:
    counts = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > MOST_IN_A_FOLDER} == {}


def test_a_small_module_is_imported_by_two_others() -> None:
    importers: Counter[str] = Counter()
    for path in modules():
        importers.update(set(imported(path)) - {dotted(path)})
    small = {
        str(path)
        for path in modules()
        if path.stem not in FOUND_BY_PATH
        and len((ROOT / path).read_text().splitlines()) < FEWEST_LINES
        and importers[dotted(path)] == 1
    }
    assert not small, f"to be merged into the module that imports them: {sorted(small)}"


def test_no_module_has_a_banned_name() -> None:
    assert [path for path in modules() if path.stem in BANNED] == []


def test_the_whitelist_contract_names_all_other_modules() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["name"].startswith("Of loadgen, the controller imports"))
    assert set(contract["source_modules"]) == {"experiments", "galileo_site"}
    top = {path.with_suffix("").parts[1] for path in modules() if path.parts[0] == "loadgen"} - {"__init__"}
    apps = {path.stem for path in modules() if path.parts[:2] == ("loadgen", "apps")} - {"__init__"}
    assert set(contract["forbidden_modules"]) == {
        *(f"loadgen.{name}" for name in top - set(SHARED)),
        *(f"loadgen.apps.{name}" for name in apps - PURE_APPS),
    }
