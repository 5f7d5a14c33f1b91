"""Charts as SVG, from nothing but strings: bars with their spread, and lines over a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Literal

import msgspec

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 50, 60
_COLOURS = ("#2f6f9f", "#d1702b", "#4d8f4d", "#8a5fa8", "#a8434d")


class Series(msgspec.Struct, frozen=True):
    """Points (x, least, median, most); in a chart of bars x is the position of the label."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """`labels` name the positions of bars; a chart of lines has numbers on its x axis, drawn logarithmically."""

    name: str
    title: str
    y: str
    series: tuple[Series, ...]
    kind: Literal["bars", "lines"] = "bars"
    x: str = ""
    labels: tuple[str, ...] = ()


def point(x: float, values: Sequence[float]) -> tuple[float, float, float, float]:
    """A point of a series from the values measured there."""
    ordered = sorted(values)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return x, ordered[0], median, ordered[-1]


def svg(chart: Chart) -> str:
    """The chart as an SVG document."""
    top = _round_up(max(most for series in chart.series for _, _, _, most in series.points) or 1)
    draw = _bars if chart.kind == "bars" else _lines
    body = [*_frame(chart, top), *draw(chart, top), *_legend(chart)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _round_up(value: float) -> float:
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * scale >= value)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)


def _text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333"{more}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _frame(chart: Chart, top: float) -> Iterator[str]:
    yield _text(_WIDTH / 2, 20, chart.title, more=' font-size="14" font-weight="bold"')
    for step in range(6):
        value = top * step / 5
        yield _line(_LEFT, _y(value, top), _WIDTH - _RIGHT, _y(value, top), "#ddd")
        yield _text(_LEFT - 6, _y(value, top) + 4, f"{value:,.4g}", "end")
    middle = (_HEIGHT + _TOP - _BOTTOM) / 2
    yield _text(16, middle, chart.y, more=f' transform="rotate(-90 16 {middle})"')
    if chart.x:
        yield _text((_WIDTH + _LEFT - _RIGHT) / 2, _HEIGHT - 12, chart.x)


def _whisker(x: float, least: float, most: float, top: float) -> Iterator[str]:
    if least != most:
        yield _line(x, _y(least, top), x, _y(most, top), "#333")
        for value in (least, most):
            yield _line(x - 4, _y(value, top), x + 4, _y(value, top), "#333")


def _bars(chart: Chart, top: float) -> Iterator[str]:
    slot = (_WIDTH - _LEFT - _RIGHT) / len(chart.labels)
    width = slot * 0.8 / len(chart.series)
    for position, label in enumerate(chart.labels):
        yield _text(_LEFT + slot * (position + 0.5), _HEIGHT - _BOTTOM + 18, label)
    for number, series in enumerate(chart.series):
        for x, least, median, most in series.points:
            left = _LEFT + slot * (x + 0.1) + width * number
            height = _y(0, top) - _y(median, top)
            colour = _COLOURS[number % len(_COLOURS)]
            where = f'x="{left:.1f}" y="{_y(median, top):.1f}"'
            yield f'<rect {where} width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
            yield from _whisker(left + width / 2, least, most, top)


def _lines(chart: Chart, top: float) -> Iterator[str]:
    xs = sorted({x for series in chart.series for x, *_ in series.points})
    low, high = math.log10(xs[0]), math.log10(xs[-1])

    def at(x: float) -> float:
        inner = _WIDTH - _LEFT - _RIGHT - 60
        return _LEFT + 30 + inner * (math.log10(x) - low) / ((high - low) or 1)

    for x in xs:
        yield _text(at(x), _HEIGHT - _BOTTOM + 18, f"{x:,.0f}")
    for number, series in enumerate(chart.series):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{at(x):.1f},{_y(median, top):.1f}" for x, _, median, _ in series.points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, least, median, most in series.points:
            yield from _whisker(at(x), least, most, top)
            yield f'<circle cx="{at(x):.1f}" cy="{_y(median, top):.1f}" r="4" fill="{colour}"/>'


def _legend(chart: Chart) -> Iterator[str]:
    if len(chart.series) < 2:
        return
    x = float(_LEFT)
    for number, series in enumerate(chart.series):
        yield f'<rect x="{x}" y="30" width="12" height="12" fill="{_COLOURS[number % len(_COLOURS)]}"/>'
        yield _text(x + 17, 40, series.name, "start")
        x += 40 + 7 * len(series.name)
