"""Server-side apply: the client says which fields it wants, the server knows who owns which (structured-merge-diff)."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from pilotfish.api.errors import Conflict
from pilotfish.api.meta import Document, metadata_of, timestamp
from pilotfish.api.scheme import AnyKind
from pilotfish.apiserver.fieldsets import ITEM, FieldSet, Path, key_step, shown, value_step
from pilotfish.apiserver.listtypes import Shape, key_of
from pilotfish.apiserver.managers import (
    LAST_APPLIED,
    Managed,
    Manager,
    Managers,
    first_managers,
    owned_leaves,
    read_managers,
    write_managers,
)


def apply(kind: AnyKind, live: Document, config: Document, manager: str, *, subresource: str, force: bool) -> Document:
    """The live object with an applied configuration merged in, and with its owners noted.

    What the manager applied before and no longer does is removed, unless another manager owns it too. Raises Conflict,
    naming fields and owners, when a field that another manager owns would get another value and `force` is not set.
    """
    me = Manager(manager, "Apply", subresource)
    managers = read_managers(live) or first_managers(kind, live)
    # Without a status subresource the status is a field like others.
    status = subresource == "status" or "status" not in kind.subresources
    wanted, found = owned_leaves(kind, config, status=status), owned_leaves(kind, live, status=True)
    changing = {path for path, value in wanted.items() if value is not ITEM and found.get(path, ITEM) != value}
    conflicts = {m: lost for m, owned in managers.items() if m != me and (lost := owned.fields & changing)}
    contested: FieldSet = frozenset().union(*conflicts.values())
    if not (force or contested <= _last_applied(kind, live, found, manager)):
        raise _conflict(kind, conflicts)
    shape = Shape(type=kind.type)
    merged: Document = _merged(copy.deepcopy(live), config, shape)
    before = managers.pop(me, Managed(frozenset(), timestamp()))
    others = {m: Managed(owned.fields - conflicts.get(m, frozenset()), owned.time) for m, owned in managers.items()}
    _prune(merged, shape, before.fields - wanted.keys(), others)
    fields = frozenset(wanted)
    others[me] = before if fields == before.fields else Managed(fields, timestamp())
    write_managers(kind, merged, others)
    return merged


def applied_new(kind: AnyKind, config: Document, manager: str) -> Document:
    """The object that a configuration makes where there is none yet."""
    document = copy.deepcopy(config)
    fields = frozenset(owned_leaves(kind, config, status="status" not in kind.subresources))
    write_managers(kind, document, {Manager(manager, "Apply"): Managed(fields, timestamp())})
    return document


def _last_applied(kind: AnyKind, live: Document, found: dict[Path, Any], manager: str) -> FieldSet:
    """What kubectl may take over from its own client-side apply: what it applied there, where it still stands."""
    annotation = (metadata_of(live).get("annotations") or {}).get(LAST_APPLIED)
    if manager != "kubectl" or not annotation:
        return frozenset()
    try:
        config = msgspec.json.decode(annotation)
    except msgspec.DecodeError:
        return frozenset()
    applied = owned_leaves(kind, config, status=False) if isinstance(config, dict) else {}
    return frozenset(path for path, value in applied.items() if found.get(path, ITEM) == value)


def _conflict(kind: AnyKind, conflicts: dict[Manager, FieldSet]) -> Conflict:
    causes = []
    listed = []
    for manager, paths in conflicts.items():
        with_whom = f'"{manager.name}"'
        if manager.subresource:
            with_whom += f' with subresource "{manager.subresource}"'
        with_whom += f" using {kind.api_version}"
        fields = sorted(map(shown, paths))
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {with_whom}", "field": field}
            for field in fields
        ]
        if len(fields) == 1:
            listed.append(f"conflict with {with_whom}: {fields[0]}")
        else:
            listed.append(f"conflicts with {with_whom}:\n" + "\n".join(f"- {field}" for field in fields))
    number = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    return Conflict(f"Apply failed with {number}: " + "\n".join(listed), details={"causes": causes})


def _merged(live: Any, config: Any, shape: Shape) -> Any:
    """The live value with the applied one merged in, where its type says that it merges."""
    merge = shape.merge
    if isinstance(live, dict) and isinstance(config, dict) and not merge.atomic:
        for name, value in config.items():
            live[name] = _merged(live[name], value, shape.field(name)) if name in live else value
        return live
    if isinstance(live, list) and isinstance(config, list):
        if merge.as_set:
            return [*live, *(item for item in config if item not in live)]
        if merge.keys and all(key_of(merge, item) for item in (*live, *config)):
            return _merged_items(live, config, shape)
    return config


def _merged_items(live: list[Any], config: list[Any], shape: Shape) -> list[Any]:
    """Items by key: the applied ones in the order in which they are applied, the others where they stand."""
    merge = shape.merge
    applied = {key_of(merge, item): item for item in config}
    present = {key_of(merge, item): item for item in live}
    item_shape = Shape(type=shape.type)
    merged = {key: _merged(present[key], item, item_shape) if key in present else item for key, item in applied.items()}
    # Applied items take the places that applied items had, so that untouched items keep theirs.
    queue = list(merged.values())
    result = [queue.pop(0) if key in applied else item for key, item in present.items()]
    return result + queue


def _prune(document: Document, shape: Shape, dropped: FieldSet, others: Managers) -> None:
    """Remove what is applied no more; items before their fields, by whose keys they are found."""
    held = {path[:n] for managed in others.values() for path in managed.fields for n in range(1, len(path) + 1)}
    for path in sorted(dropped, key=len):
        if path not in held:
            _remove(document, shape, path)


def _remove(value: Any, shape: Shape, path: Path) -> None:
    step, rest = path[0], path[1:]
    if step.startswith("f:"):
        name = step[2:]
        if not isinstance(value, dict) or name not in value:
            return
        if rest:
            _remove(value[name], shape.field(name), rest)
            if value[name] in ({}, []):
                del value[name]
        else:
            del value[name]
        return
    if not isinstance(value, list):
        return
    for position, item in enumerate(value):
        if step.startswith("v:"):
            same = value_step(item) == step
        else:
            same = key_of(shape.merge, item) is not None and key_step(shape.merge, item) == step
        if same:
            if rest:
                _remove(item, Shape(type=shape.type), rest)
            else:
                del value[position]
            return
