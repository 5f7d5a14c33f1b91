"""The page of results: prose by hand, tables and charts by the suite."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks import charts, machine, report
from benchmarks.topic import log

_BLOCK = r"(<!-- figures:{} -->\n).*?(<!-- end -->)"


def update(path: Path, described: machine.Machine, sections: Iterable[report.Section]) -> None:
    """Put what was found where the page has a place for it; other places keep what they have."""
    text = _put(path.read_text(), "machine", machine.markdown(described))
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    for section in sections:
        images = []
        for chart in section.charts:
            (folder / f"{chart.name}.svg").write_text(charts.svg(chart))
            images.append(f"{folder.name}/{chart.name}.svg")
        text = _put(text, section.topic, report.markdown(section, images))
    path.write_text(text)


def _put(text: str, name: str, content: str) -> str:
    replaced, count = re.subn(
        _BLOCK.format(re.escape(name)), lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text, flags=re.DOTALL
    )
    if not count:
        log.warning("the page has no place for %s: add <!-- figures:%s --> and <!-- end -->", name, name)
    return replaced
