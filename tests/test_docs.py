"""README, GLOSSARY and docs/: each path, module, link and folder that they name exists."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "GLOSSARY.md",
    ROOT / "docker" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ("galileo_site", "experiments", "loadgen", "routing")
FOLDERS = {*PACKAGES, "benchmarks", "bin", "docker", "docs", "examples", "tests", ".ci"}
GENERATED = {"loadgen/_compiled", "benchmarks/.venv", "docker/.env"}
SOURCES = (".py", ".pyx", ".pxd")
# A heading of a table row, the row's folder and its files.
ROW = re.compile(r"^\| ([^|]+) \| `([\w./]+/)` \| (.+) \|$", re.MULTILINE)


def code_of(text: str) -> Iterator[str]:
    """Yields inline code and the lines of code blocks."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line
        else:
            yield from re.findall(r"`([^`]+)`", line)


@cache
def source_files() -> list[str]:
    return [f"/{path.relative_to(ROOT)}" for name in FOLDERS for path in (ROOT / name).rglob("*.p*") if path.is_file()]


def missing_paths(text: str) -> list[str]:
    missing = []
    for code in code_of(text):
        for found in re.findall(r"(?<![\w./<{*-])[\w.-]+(?:/[\w.-]*)*(?![\w/<{*…-])", code):
            path = found.rstrip("/.")
            if path in GENERATED or found.startswith("."):
                continue
            if "/" in path and path.split("/")[0] in FOLDERS:
                exists = (ROOT / path).exists()
            elif path.endswith(SOURCES):
                exists = (ROOT / path).exists() or any(file.endswith(f"/{path}") for file in source_files())
            else:
                continue
            if not exists:
                missing.append(path)
        for module in re.findall(r"python -m ([\w.]+)", code):
            path = module.replace(".", "/")
            if path.split("/")[0] in FOLDERS and not any(
                (ROOT / name).exists() for name in (f"{path}.py", f"{path}/__main__.py")
            ):
                missing.append(module)
    return missing


def anchors_of(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_each_path_and_module_in_a_document_exists(document: Path) -> None:
    assert missing_paths(document.read_text()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_each_link_in_a_document_leads_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", document.read_text()):
        linked = (document.parent / target) if target else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), f"{target}#{anchor}"


def test_a_path_that_does_not_exist_is_found() -> None:
    text = "`loadgen/none.py` `none.py` `python -m loadgen.none`\n\n    bin/none up\n"
    assert missing_paths(text) == ["loadgen/none.py", "none.py", "loadgen.none", "bin/none"]


def test_the_picture_of_the_tree_has_exactly_the_packages() -> None:
    picture = ARCHITECTURE.split("## The tree")[1].split("```")[1]
    drawn, parents = set(), [ROOT]
    for line in picture.strip().splitlines():
        name = line.split("/")[0].strip()
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth + 1 :] = [parents[depth] / name]
        drawn.add(str(parents[-1].relative_to(ROOT)))
    found = (path.parent for name in PACKAGES for path in (ROOT / name).rglob("__init__.py"))
    assert drawn == {str(path.relative_to(ROOT)) for path in found if "_compiled" not in path.parts}


def test_the_import_arrows_are_the_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for contract in contracts:
        if contract["type"] == "layers":
            layers = [re.sub(r" [|:] ", ", ", layer) for layer in contract["layers"]]
            assert " → ".join(layers) in ARCHITECTURE, contract["name"]


def test_each_row_of_the_table_names_existing_files() -> None:
    rows = ROW.findall(ARCHITECTURE.split("## Where do I")[1])
    assert len(rows) >= 15
    for subject, folder, files in rows:
        for name in re.findall(r"`(\w+\.\w+)`", files):
            assert (ROOT / folder / name).exists(), f"{subject}: {folder}{name}"
