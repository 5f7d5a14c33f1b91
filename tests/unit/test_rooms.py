"""Which room may import which: the table in ARCHITECTURE.md, held against the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/pilotfish"
ROOMLESS = {"home", "serving", "__version__"}
"""Modules that belong to no room and may be imported by all."""


def allowed() -> dict[str, set[str]]:
    """Room → the rooms that it may import, from ARCHITECTURE.md; "any" is all of them."""
    table: dict[str, set[str]] = {}
    for room, imports in re.findall(
        r"^\| `(\w+)/` \| [^|]* \| ([^|]*) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.M
    ):
        table[room] = set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", imports)))
    return {room: set(table) if "any" in names else names & set(table) for room, names in table.items()}


def imported(file: Path) -> Iterator[str]:
    """The rooms and modules directly below `pilotfish` that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("pilotfish."))


def test_the_table_names_every_room() -> None:
    assert set(allowed()) == {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}


@pytest.mark.parametrize("room", sorted(allowed()))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    may = allowed()[room] | ROOMLESS | {room}
    wrong = {
        f"{file.relative_to(SOURCE)} imports {name}"
        for file in (SOURCE / room).rglob("*.py")
        for name in imported(file)
        if name not in may
    }
    assert not wrong
