"""Label and field selectors, as text and as data (apimachinery `labels` and `fields`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pilotfish.api.errors import BadRequest
from pilotfish.api.meta import LabelSelector

Labels = Mapping[str, str]
LabelPredicate = Callable[[Labels], bool]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<op>==|!=|=)\s*(?P<value>[^\s!=,()]*)$")
_EXISTS = re.compile(r"^(?P<no>!?)\s*(?P<key>[^\s!=,()]+)$")


def _requirement(text: str) -> LabelPredicate:
    if found := _SET.match(text):
        key, wanted = found["key"], frozenset(v.strip() for v in found["values"].split(","))
        if found["op"] == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: key not in labels or labels[key] not in wanted
    if found := _EQUALITY.match(text):
        key, value = found["key"], found["value"]
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(text):
        key = found["key"]
        if found["no"]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise BadRequest(
        f"unable to parse requirement: {text!r} is not a label selector such as app=web or app in (web,api)"
    )


def parse_label_selector(text: str) -> LabelPredicate:
    """A predicate over labels from a selector as `kubectl -l` takes it. Raises BadRequest when it cannot be read."""
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    requirements = [_requirement(part) for part in parts]
    return lambda labels: all(holds(labels) for holds in requirements)


def matches(selector: LabelSelector, labels: Labels) -> bool:
    """Whether labels satisfy a LabelSelector; an empty selector matches everything, as in Kubernetes."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for requirement in selector.match_expressions:
        present, value = requirement.key in labels, labels.get(requirement.key)
        holds = {
            "In": value in requirement.values,
            "NotIn": not present or value not in requirement.values,
            "Exists": present,
            "DoesNotExist": not present,
        }.get(requirement.operator, False)
        if not holds:
            return False
    return True


def matches_labels(wanted: Labels, labels: Labels) -> bool:
    """Whether labels hold every wanted pair; an empty selector matches nothing, as for Services."""
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def parse_field_selector(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """A predicate over documents from a selector as `kubectl --field-selector` takes it, e.g. "status.phase!=Running".

    Raises BadRequest when it cannot be read.
    """
    terms: list[tuple[tuple[str, ...], str, bool]] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        found = re.match(r"^([\w.\-/\[\]]+)\s*(==|!=|=)\s*(.*)$", part)
        if not found:
            raise BadRequest(f"invalid field selector: {part!r} is not of the form path=value or path!=value")
        terms.append((tuple(found[1].split(".")), found[3], found[2] != "!="))

    def field(document: Mapping[str, Any], path: tuple[str, ...]) -> str:
        value: Any = document
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        return "" if value is None else str(value)

    return lambda document: all((field(document, path) == value) is equal for path, value, equal in terms)
