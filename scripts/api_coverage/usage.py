"""Which fields the tests set: seen by a pytest plugin, from the documents themselves.

Feature tests are run, without Envoy, and the driver that they are written with hands over each document that they
apply. End-to-end tests are only collected, as they need root: what counts is the manifest of each case of traffic, and
the YAML texts in a test function and the constants that it names.
"""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.api_coverage.fields import MESH_CONFIG, Table, set_by, tables

ROOT = Path(__file__).resolve().parents[2]
FEATURES, END_TO_END = "tests/feature", "tests/e2e"
OTHERS = ("tests/unit/mesh", "tests/unit/node", "tests/unit/cli", "tests/unit/xds")
"""Where tests may be that say themselves what they cover."""
MARKER = "covers"
PLUGIN = "api-coverage"
"""Under this name the driver of the feature tests finds the plugin, and checks nothing with Envoy then."""


class Usage:
    """The plugin. `tests[kind][path]` are the ids of the tests that set a field."""

    def __init__(self) -> None:
        self.__name__ = PLUGIN  # by which pytest knows a plugin
        self.tables: dict[str, Table] = {table.kind: table for table in tables()}
        self.tests: dict[str, dict[str, set[str]]] = {kind: defaultdict(set) for kind in self.tables}
        self.problems: list[str] = []

    def applied(self, test: str, document: Any) -> None:
        """A test uses a document."""
        if not isinstance(document, dict):
            return
        kind, group = document.get("kind"), str(document.get("apiVersion", "")).partition("/")[0]
        if kind == "IstioOperator":
            self.configured(test, (document.get("spec") or {}).get("meshConfig"))
        elif kind in self.tables and group.endswith(".istio.io"):
            self._note(test, kind, document)

    def configured(self, test: str, config: Any) -> None:
        """A test uses a MeshConfig."""
        if isinstance(config, dict):
            self._note(test, MESH_CONFIG, config)

    def _note(self, test: str, kind: str, document: dict[str, Any]) -> None:
        for path in set_by(self.tables[kind].type, document):
            self.tests[kind][path].add(test)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self._read_markers(item)
            if item.nodeid.startswith(END_TO_END):
                for text in _texts(item):
                    for document in _documents(text):
                        self.applied(item.nodeid, document)
        items[:] = [item for item in items if item.nodeid.startswith(FEATURES)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.problems.append(f"{report.nodeid} fails: {report.longreprtext.splitlines()[-1]}")

    def _read_markers(self, item: pytest.Item) -> None:
        for marker in item.iter_markers(MARKER):
            for field in marker.args:
                kind, _, path = field.partition(".")
                known = self.tables[kind].field(path)
                if known is None:
                    self.problems.append(f"{item.nodeid} covers {field}, and there is no such field")
                else:
                    self.tests[kind][known.path].add(item.nodeid)


def collect() -> Usage:
    """Look at all tests. Raises RuntimeError when one fails or names what is not there."""
    usage = Usage()
    where = [str(ROOT / path) for path in (FEATURES, END_TO_END, *OTHERS)]
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--no-summary", f"--rootdir={ROOT}")
    status = pytest.main([*quiet, *where], plugins=[usage])
    if status or usage.problems:
        raise RuntimeError("\n".join([f"pytest ended with {status!r}", *usage.problems]))
    return usage


def _texts(item: pytest.Item) -> Iterator[str]:
    case = getattr(item, "callspec", None)
    for value in case.params.values() if case else ():
        yield from (getattr(value, name) for name in ("manifest", "service") if hasattr(value, name))
    function = getattr(item, "function", None)
    if function is not None:
        yield from _constants(function.__code__, function.__globals__)


def _constants(code: types.CodeType, names: dict[str, Any]) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, types.CodeType):
            yield from _constants(constant, names)
    yield from (names[name] for name in code.co_names if isinstance(names.get(name), str))


def _documents(text: str) -> Iterable[Any]:
    if "kind:" not in text:
        return []
    try:
        return list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError:
        return []
