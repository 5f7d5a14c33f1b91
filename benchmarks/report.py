"""What a topic found: figures with their spread, and how they are written down."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from benchmarks.charts import Chart


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measure, taken several times. `goal` is what it should reach: at most, or at least where `more` is better."""

    name: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    more: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """What the goal is and whether the median reaches it."""
        if self.goal is None:
            return ""
        reached = self.median >= self.goal if self.more else self.median <= self.goal
        return f"{'≥' if self.more else '≤'} {number(self.goal)}: {'yes' if reached else 'no'}"

    @property
    def spread(self) -> str:
        return "" if len(self.values) == 1 else f"{number(min(self.values))} … {number(max(self.values))}"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table: how it was measured, what was found, and the charts that show it."""

    topic: str
    title: str
    method: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    load: tuple[float, float] = (0.0, 0.0)
    """The machine's load average over one minute, before and after."""


def number(value: float) -> str:
    """Three significant digits, or all of a number that has more before the point."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest of the values that `percent` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def percentiles(
    name: str, rounds: Sequence[Sequence[float]], *, p50: float | None = None, p99: float | None = None
) -> tuple[Figure, ...]:
    """Seconds, several rounds of them, as milliseconds: each round's p50 and p99, with their goals."""
    return tuple(
        Figure(
            name=f"{name}, p{percent}",
            unit="ms",
            values=tuple(1000 * percentile(seconds, percent) for seconds in rounds),
            goal=goal,
        )
        for percent, goal in ((50, p50), (99, p99))
    )


_COLUMNS = ("measure", "median", "unit", "least … most", "runs", "goal")


def _cells(figure: Figure) -> tuple[str, ...]:
    return (
        figure.name,
        number(figure.median),
        figure.unit,
        figure.spread,
        str(len(figure.values)),
        figure.verdict,
    )


def text(section: Section) -> str:
    """The section for a terminal."""
    rows = [_COLUMNS, *map(_cells, section.figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    right = {1, 4}
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    table = "\n".join(f"  {line.rstrip()}" for line in lines)
    notes = "".join(f"\n  {note}" for note in section.notes)
    return f"\n== {section.title}\n  {section.method}\n\n{table}\n{notes}\n  load average {_load(section)}"


def markdown(section: Section, charts: Iterable[str] = ()) -> str:
    """The section for the page of results; `charts` are paths of images."""
    lines = ["| " + " | ".join(row) + " |" for row in [_COLUMNS, ("---", "--:", "---", "---", "--:", "---")]]
    lines += ["| " + " | ".join(_cells(figure)) + " |" for figure in section.figures]
    parts = [section.method, "\n".join(lines), *section.notes, f"Load average before … after: {_load(section)}."]
    parts += [f"![{chart.title}]({path})" for chart, path in zip(section.charts, charts, strict=True)]
    return "\n\n".join(parts)


def _load(section: Section) -> str:
    return " … ".join(f"{load:.1f}" for load in section.load)
