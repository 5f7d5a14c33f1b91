"""Figures, tables and charts."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks import page, report
from benchmarks.charts import Chart, Series, point, svg
from benchmarks.machine import Machine
from benchmarks.report import Figure, Section, number, percentile, percentiles


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (99.96, "100.0"), (12345.6, "12,346")]
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_percentiles_are_of_each_round() -> None:
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7.0], 50) == 7.0
    half, most = percentiles("x", [[0.001, 0.002, 0.003], [0.004]], p99=3)
    assert (half.values, most.values) == ((2.0, 4.0), (3.0, 4.0))
    assert (half.verdict, most.verdict) == ("", "≤ 3.00: no")


def test_a_goal_is_met_from_the_right_side() -> None:
    assert Figure(name="x", unit="", values=(3, 1, 2), goal=2).verdict.endswith("yes")
    assert Figure(name="x", unit="", values=(3, 1, 2), goal=2.5, more=True).verdict.endswith("no")


def _section(chart: Chart) -> Section:
    figure = Figure(name="a figure", unit="ms", values=(1.0, 2.0, 4.0))
    return Section(topic="one", title="One", method="So.", figures=(figure,), charts=(chart,))


def _chart(kind: str) -> Chart:
    series = (Series("a & b", (point(1, [1, 2, 4]), point(10, [5]))), Series("c", (point(1, [3]),)))
    labels = tuple(f"label {n}" for n in range(11))
    return Chart(name="the-chart", title="A <chart>", y="ms", kind=kind, labels=labels, series=series)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_charts_are_svg(kind: str) -> None:
    root = ElementTree.fromstring(svg(_chart(kind)))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "A <chart>" in words
    assert "a & b" in words


def test_a_page_keeps_its_prose(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text(
        "Before.\n<!-- figures:machine -->\n<!-- end -->\n<!-- figures:one -->\nold\n<!-- end -->\nAfter.\n"
    )
    for _ in range(2):
        page.update(path, Machine("cpu", 2, 8.0, (("kernel", "6.1"),)), [_section(_chart("bars"))])
    text = path.read_text()
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    assert text.count("| a figure | 2.00 | ms | 1.00 … 4.00 | 3 |") == 1
    assert "old" not in text
    assert "![A <chart>](performance/the-chart.svg)" in text
    assert (tmp_path / "performance/the-chart.svg").exists()


def test_a_table_for_the_terminal_has_its_columns() -> None:
    lines = report.text(_section(_chart("bars"))).splitlines()
    row = next(line for line in lines if "a figure" in line)
    assert row.split() == ["a", "figure", "2.00", "ms", "1.00", "…", "4.00", "3"]
