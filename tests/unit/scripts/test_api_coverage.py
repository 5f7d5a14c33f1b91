"""docs/coverage.md says what is so, and how that is found out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts.api_coverage import fields, page
from scripts.api_coverage.usage import Usage

from pilotfish.api import networking
from pilotfish.api.meta import Object, Struct

ROOT = Path(__file__).resolve().parents[3]


class Inner(Struct):
    one: int = 0
    two: tuple[str, ...] = ()
    three: dict[str, int] = {}
    four: Any = None
    five: str = ""


class Outer(Struct):
    first: Inner = Inner()
    items: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = {}


def table(*not_honoured: str) -> fields.Table:
    return fields.Table("Outer", fields.leaves(Outer, ""), frozenset(not_honoured), Outer)


def rows(known: fields.Table, *documents: dict[str, Any]) -> list[tuple[str, int, str]]:
    usage = Usage()
    usage.tables, usage.tests = {"Outer": known}, {"Outer": {}}
    for document in documents:
        for path in fields.set_by(Outer, document):
            usage.tests["Outer"].setdefault(path, set()).add("tests/feature/test_x.py::test_y")
    return list(page.rows(known, usage))


def test_the_page_is_what_types_and_tests_say() -> None:
    command = [sys.executable, "-m", "scripts.api_coverage", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_every_field_is_listed_once_and_a_type_that_comes_again_is_named() -> None:
    names = ["first.one", "first.two", "first.three", "first.four", "first.five"]
    assert [field.path for field in table().fields] == [*names, "items[]", "byName{}"]
    assert [field.repeats for field in table().fields if field.repeats] == ["first", "first"]


def test_a_field_within_a_type_that_is_not_written_out_again_is_that_types() -> None:
    known = table()
    found = [known.field(path) for path in ("first.one", "items[].one", "byName{}.five", "first.none", "other")]
    assert [each.path if each else None for each in found] == ["first.one", "items[]", "byName{}", None, None]


def test_what_a_document_sets_includes_what_is_around_it() -> None:
    document = {"first": {"one": 1, "unknown": 2}, "items": [{"two": ["x"]}, {}], "byName": {"a": {"three": None}}}
    assert set(fields.set_by(Outer, document)) == {"first", "first.one", "items[]", "items[].two", "byName{}"}


def test_a_field_without_a_test_is_not_honoured() -> None:
    verdicts = {line.split("`")[1]: verdict for verdict, _, line in rows(table(), {"first": {"one": 1}})}
    assert verdicts["first.one"] == page.YES
    assert verdicts["first.two"] == page.UNTESTED


def test_a_field_that_changes_nothing_is_not_honoured_whatever_tests_set_it() -> None:
    found = rows(table("first", "items[].one"), {"first": {"one": 1}, "items": [{"two": ["x"]}]})
    assert (page.NO, 5, "| `first` and all 5 fields of it | no | | |") in found
    assert any("`items[]`, as `first` | yes, in part |" in line for _, _, line in found)


def test_a_field_that_changes_nothing_in_istio_either_says_why() -> None:
    known = fields.Table(
        "Outer", table().fields, frozenset({"first.two", "items[]"}), Outer, {"first.two": "so it is", "items[]": "so"}
    )
    found = rows(known, {"first": {"two": ["x"]}})
    assert (page.NEITHER, 1, "| `first.two` | Istio neither: so it is | | |") in found
    assert (page.NEITHER, 1, "| `items[]` | Istio neither: so | | |") in found


def test_a_test_that_is_named_stays_while_it_is_right() -> None:
    usage = Usage()
    tests = {f"tests/feature/test_x.py::test_{name}" for name in ("one", "two")}
    usage.tests["ServiceEntry"]["spec.hosts"] = tests
    named = page._words("tests/feature/test_x.py::test_two", "tests/feature")
    for before, expected in (("", "test_one"), (f"## ServiceEntry\n| `spec.hosts` | yes | {named} |  |", "test_two")):
        line = next(line for line in page.page(usage, before).splitlines() if line.startswith("| `spec.hosts` | yes"))
        assert expected in line


def test_a_value_that_changes_nothing_is_named() -> None:
    found = rows(table("first.five=off"), {"first": {"five": "on"}})
    assert any("`first.five` | yes, but not off |" in line for _, _, line in found)


@pytest.mark.parametrize(
    ("document", "kind", "path"),
    [
        (
            {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "spec": {"selector": {"a": "b"}}},
            "Gateway",
            "spec.selector",
        ),
        (
            {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",
             "spec": {"meshConfig": {"accessLogFile": "x"}}},
            "MeshConfig",
            "accessLogFile",
        ),
    ],
)  # fmt: skip
def test_documents_count_for_their_kind(document: dict[str, Any], kind: str, path: str) -> None:
    usage = Usage()
    usage.applied("some test", document)
    assert usage.tests[kind][path] == {"some test"}


def test_other_groups_documents_of_the_same_kind_do_not_count() -> None:
    usage = Usage()
    usage.applied("some test", {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": {"x": {}}})
    assert not usage.tests["Gateway"]


def test_all_kinds_of_the_api_are_there() -> None:
    kinds = {name for name in networking.__all__ if issubclass(getattr(networking, name), Object)}
    assert len(kinds) == 9
    assert kinds <= {known.kind for known in fields.tables()}
    assert {"Telemetry", "MeshConfig", "VirtualService"} <= {known.kind for known in fields.tables()}
