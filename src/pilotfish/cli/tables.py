"""Tables as kubectl prints them, of the server's making (meta/v1 Table) or our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.api.meta import Document, metadata_of

PADDING, NARROWEST = 3, 6
"""Characters between columns, and what a column takes at least with them (kubectl: printers.GetNewTabWriter)."""

Row = list[str]


@dataclass(frozen=True)
class TableView:
    """How a server's table is shown: all its columns or the important ones, and with namespaces or without."""

    wide: bool = False
    namespaces: bool = False

    def header(self, columns: Sequence[Document]) -> Row:
        shown = [str(column["name"]).upper() for column in columns if self._is_shown(column)]
        return ["NAMESPACE", *shown] if self.namespaces else shown

    def rows(self, columns: Sequence[Document], table: Document, prefix: str = "") -> list[Row]:
        """The table's rows as text; `prefix` is put before names."""
        return [self._row(columns, row, prefix) for row in table.get("rows") or ()]

    def _row(self, columns: Sequence[Document], row: Document, prefix: str) -> Row:
        cells = [
            f"{prefix if column.get('format') == 'name' else ''}{text_of(cell)}"
            for column, cell in zip(columns, row["cells"], strict=True)
            if self._is_shown(column)
        ]
        return [str(metadata_of(row.get("object") or {}).get("namespace", "")), *cells] if self.namespaces else cells

    def _is_shown(self, column: Document) -> bool:
        return self.wide or not column.get("priority")


def render(rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> str:
    """Rows as aligned text without a last newline; columns are at least as wide as `widths` says."""
    return _aligned(rows, column_widths(rows, widths))


def render_padded(rows: Sequence[Sequence[str]], padding: int) -> str:
    """Rows as aligned text without a last newline, with so many spaces between columns (istioctl: mostly five)."""
    columns = zip(*rows, strict=True)
    return _aligned(rows, [max(map(len, column)) + padding for column in columns])


def _aligned(rows: Sequence[Sequence[str]], kept: Sequence[int]) -> str:
    return "\n".join(
        "".join([*(cell.ljust(width) for cell, width in zip(row[:-1], kept, strict=False)), *row[-1:]]) for row in rows
    )


def column_widths(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[int]:
    """How wide each column is, with its padding."""
    count = max((len(row) for row in rows), default=0)
    least = [*least, *[NARROWEST] * (count - len(least))]
    return [max([least[i], *(len(row[i]) + PADDING for row in rows if i < len(row))]) for i in range(count)]


def text_of(cell: Any) -> str:
    """A cell on one line; of a text of several lines the first."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    first, newline, _ = str(cell).partition("\n")
    return f"{first}..." if newline else first
