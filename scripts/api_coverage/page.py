"""docs/coverage.md: every field of the API, whether it is honoured, and the tests that show it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from scripts.api_coverage.fields import Field, Table
from scripts.api_coverage.usage import END_TO_END, FEATURES, Usage

HEAD = """\
# What is honoured of Istio's API

Made by `make coverage-page` from the types of the API, from the lists of fields that change nothing
(`Kind.not_honoured` and `Kind.istio_neither`, of which `kubectl apply` warns) and from the documents that the tests
apply. A field without a test counts as not honoured.

- **Configuration** is a test in `tests/feature/`: resources in, exact Envoy configuration out, taken by the real Envoy.
- **Traffic** is a test in `tests/e2e/`: what arrives through real sidecars.
- `[]` are the items of a list, `{}` the values of a map. Of several tests that set a field, one is named that
  sets few others.
- *as `spec.x`*: the same fields as there; tests are those that set any of them here.

| kind | fields | honoured | changes nothing yet | changes nothing in Istio either | no test |
| --- | --- | --- | --- | --- | --- |
"""
Named = Mapping[tuple[str, str], Collection[str]]
NOTHING_NAMED: Named = {}
YES, NO, NEITHER, UNTESTED = "yes", "no", "Istio neither", "no test"
VERDICTS = (YES, NO, NEITHER, UNTESTED)


def page(usage: Usage, before: str = "") -> str:
    """The whole page, as Markdown. Tests that were named before stay while they are right: the page changes little."""
    named = _named(before)
    kinds = [(table, list(rows(table, usage, named))) for table in usage.tables.values()]
    summary = []
    for table, lines in kinds:
        counts = [sum(weight for verdict, weight, _ in lines if verdict == wanted) for wanted in VERDICTS]
        summary.append(f"| [{table.kind}](#{table.kind.lower()}) | {sum(counts)} | {' | '.join(map(str, counts))} |")
    text = HEAD + "\n".join(summary) + "\n"
    for table, lines in kinds:
        text += f"\n## {table.kind}\n\n| field | honoured | configuration | traffic |\n| --- | --- | --- | --- |\n"
        text += "\n".join(line for _, _, line in lines) + "\n"
    return text


def _named(text: str) -> Named:
    """What a page says beside each field of each kind."""
    found, kind = {}, ""
    for line in text.splitlines():
        kind = line.removeprefix("## ") if line.startswith("## ") else kind
        if line.startswith("| `"):
            found[kind, line.split("`")[1]] = line.strip("| ").split(" | ")
    return found


def rows(table: Table, usage: Usage, named: Named = NOTHING_NAMED) -> Iterator[tuple[str, int, str]]:
    """A verdict, how many fields it is about, and the line of the table. What is refused as a whole is one line."""
    refused: list[Field] = []
    for field in (*table.fields, None):
        if field is not None and table.refused(field.path):
            whole = _refused_root(table, field.path)
            if refused and _refused_root(table, refused[0].path) != whole:
                yield _refused_row(table, refused)
                refused = []
            refused.append(field)
            continue
        if refused:
            yield _refused_row(table, refused)
            refused = []
        if field is not None:
            yield _row(table, field, usage, named)


def _refused_root(table: Table, path: str) -> str:
    """The longest way up from a field on which all is refused."""
    parts = path.split(".")
    return next(root for n in range(1, len(parts) + 1) if table.refused(root := ".".join(parts[:n])))


def _refused_row(table: Table, fields: list[Field]) -> tuple[str, int, str]:
    root = _refused_root(table, fields[0].path)
    name = f"`{root}`" if len(fields) == 1 else f"`{root}` and all {len(fields)} fields of it"
    reason = table.reason(root)
    verdict = NEITHER if reason else NO
    return verdict, len(fields), f"| {name} | {verdict}{f': {reason}' if reason else ''} | | |"


def _row(table: Table, field: Field, usage: Usage, named: Named) -> tuple[str, int, str]:
    tests = usage.tests[table.kind]
    found = tests.get(field.path, set())
    verdict = YES if found else UNTESTED
    shown = f"**{verdict}**" if verdict == UNTESTED else verdict
    if without := table.refused_values(field.path):
        shown += f", but not {', '.join(without)}"
    if field.repeats and any(entry.startswith(field.path) for entry in table.not_honoured):
        shown += ", in part"
    name = f"`{field.path}`" + (f", as `{field.repeats}`" if field.repeats else "")
    sizes = {test: sum(test in others for others in tests.values()) for test in found}
    cells = named.get((table.kind, field.path), ())
    columns = [_best(sizes, room, cells) for room in (FEATURES, END_TO_END)]
    if found and not any(columns):
        columns[0] = _best(sizes, "tests/unit", cells)
    return verdict, 1, f"| {name} | {shown} | {columns[0]} | {columns[1]} |"


def _best(sizes: dict[str, int], room: str, named: Collection[str]) -> str:
    """The test of a room that sets fewest fields, or one that is named already."""
    of_room = [(_words(test, room) not in named, size, test) for test, size in sizes.items() if test.startswith(room)]
    return _words(min(of_room)[2], room) if of_room else ""


def _words(test: str, room: str) -> str:
    """A test in words short enough for a table."""
    file, _, name = test.partition("::")
    case = re.fullmatch(r"(\w+)\[(.*)\]", name)
    words = f"“{case[2]}”" if case and room == END_TO_END else f"`{case[1] if case else name}`"
    module = file.removeprefix("tests/").removesuffix(".py")
    return f"{words} in [{module.rpartition('/')[2]}](../{file})".replace("|", "\\|")
