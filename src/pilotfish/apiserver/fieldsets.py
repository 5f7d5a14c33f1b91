"""Sets of fields, as `metadata.managedFields` writes them (fieldsV1, structured-merge-diff's fieldpath).

A path is a tuple of steps: "f:name" is a field, 'k:{"port":80}' the list item with these keys, 'v:"x"' a plain value in
a set. A path ends at a value that is owned as a whole, or at a list item, which has an owner apart from its fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pilotfish.api.meta import Document
from pilotfish.apiserver.listtypes import Merge, Shape, key_of

Path = tuple[str, ...]
FieldSet = frozenset[Path]

ITEM = object()
"""The value that `leaves` gives the path of a list item itself."""

_SELF = "."


def leaves(value: Any, shape: Shape, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every path of a value, with the value that stands there."""
    merge = shape.merge
    if isinstance(value, dict) and value and not merge.atomic:
        for name, nested in value.items():
            yield from leaves(nested, shape.field(name), (*path, f"f:{name}"))
    elif isinstance(value, list) and value and merge.as_set:
        for item in value:
            yield (*path, value_step(item)), ITEM
    elif isinstance(value, list) and value and merge.keys and all(key_of(merge, item) for item in value):
        for item in value:
            where = (*path, key_step(merge, item))
            yield where, ITEM
            for name, nested in item.items():
                yield from leaves(nested, shape.field(name), (*where, f"f:{name}"))
    else:
        yield path, value


def key_step(merge: Merge, item: Any) -> str:
    """The step to an item of a list with keys."""
    keys = dict(zip(merge.keys, key_of(merge, item) or (), strict=True))
    return "k:" + msgspec.json.encode(keys, order="sorted").decode()


def value_step(item: Any) -> str:
    """The step to a value of a set."""
    return "v:" + msgspec.json.encode(item).decode()


def to_fields_v1(fields: FieldSet) -> Document:
    """The form in which a set of fields is stored."""
    tree: Document = {}
    inner = {path[:length] for path in fields for length in range(1, len(path))}
    for path in sorted(fields):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        if path in inner:
            node[_SELF] = {}
    return tree


def from_fields_v1(tree: Any) -> FieldSet:
    """The set of fields that a stored form means; what is not of that form means nothing."""

    def walk(node: Mapping[str, Any], path: Path) -> Iterator[Path]:
        if path and (not node or _SELF in node):
            yield path
        for step, nested in node.items():
            if step != _SELF and isinstance(nested, Mapping):
                yield from walk(nested, (*path, step))

    return frozenset(walk(tree, ())) if isinstance(tree, Mapping) else frozenset()


def shown(path: Path) -> str:
    """A path as Kubernetes prints it: .spec.ports[port=80,protocol="TCP"].name"""
    return "".join(_shown_step(step) for step in path)


def _shown_step(step: str) -> str:
    form, _, content = step.partition(":")
    if form == "f":
        return f".{content}"
    if form == "v":
        return f"[={content}]"
    keys = msgspec.json.decode(content)
    return "[" + ",".join(f"{key}={msgspec.json.encode(value).decode()}" for key, value in keys.items()) + "]"
