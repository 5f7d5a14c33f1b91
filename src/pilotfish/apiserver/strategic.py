"""Strategic merge patches: JSON merge patches that know the keys of lists (apimachinery pkg/util/strategicpatch)."""

from __future__ import annotations

from typing import Any

from pilotfish.api.errors import BadRequest
from pilotfish.apiserver.listtypes import Shape

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_merge_patch(target: dict[str, Any], patch: Any, shape: Shape) -> dict[str, Any]:
    """The target with a patch applied; `shape` is that of the whole object. Raises BadRequest for a malformed patch."""
    if not isinstance(patch, dict):
        raise BadRequest(f"a strategic merge patch is an object, not {type(patch).__name__}")
    return _object(target, patch, shape)


def _object(target: dict[str, Any], patch: dict[str, Any], shape: Shape) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {k: _without_directives(v) for k, v in patch.items() if k != _DIRECTIVE and v is not None}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"Unknown patch type: {directive} (known are replace, merge and delete)")
    merged = dict(target)
    if _RETAIN in patch:
        retained = patch[_RETAIN]
        if not isinstance(retained, list) or not {k for k in patch if not k.startswith("$")} <= set(retained):
            raise BadRequest(f"{_RETAIN} is to list every field of its object in the patch: {retained!r}")
        merged = {k: v for k, v in merged.items() if k in retained}
    for name, value in patch.items():
        if name.startswith(_DELETE_PRIMITIVES):
            field = name.removeprefix(_DELETE_PRIMITIVES)
            merged[field] = [item for item in merged.get(field) or [] if item not in value]
    for name, value in patch.items():
        if not name.startswith("$"):
            _field(merged, name, value, shape.field(name))
    for name, order in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if isinstance(merged.get(field), list):
                merged[field] = _ordered(merged[field], order, shape.field(field).merge.patch_key)
    return merged


def _field(merged: dict[str, Any], name: str, value: Any, shape: Shape) -> None:
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict):
        before = merged.get(name)
        if value.get(_DIRECTIVE) == "delete":
            merged.pop(name, None)
        else:
            merged[name] = _object(before if isinstance(before, dict) else {}, value, shape)
    elif isinstance(value, list):
        before = merged.get(name)
        merged[name] = _list(before if isinstance(before, list) else [], value, shape)
    else:
        merged[name] = value


def _list(target: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" and len(item) == 1 for item in patch):
        return [_without_directives(i) for i in patch if not (isinstance(i, dict) and i.get(_DIRECTIVE) == "replace")]
    if shape.merge.patch_set:
        return [*target, *(item for item in patch if item not in target)]
    key = shape.merge.patch_key
    if not key:
        return [_without_directives(item) for item in patch]
    merged = list(target)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise BadRequest(f"map: {item!r} does not contain declared merge key: {key}")
        position = next((n for n, old in enumerate(merged) if isinstance(old, dict) and old.get(key) == item[key]), -1)
        directive = item.get(_DIRECTIVE)
        if directive == "delete":
            merged = [old for old in merged if not (isinstance(old, dict) and old.get(key) == item[key])]
        elif position < 0:
            merged.append(_object({}, item, shape))
        else:
            merged[position] = _object(merged[position], item, shape)
    return merged


def _ordered(items: list[Any], order: Any, key: str) -> list[Any]:
    """Items in the order that the patch gives; those that it does not name keep their place behind the one before."""
    if not isinstance(order, list):
        raise BadRequest(f"{_ORDER} takes a list, not {order!r}")

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(entry) for entry in order]
    named = sorted((item for item in items if identity(item) in wanted), key=lambda i: wanted.index(identity(i)))
    result: list[Any] = []
    # Kubernetes: server-only items stay relative to what precedes them in the live list.
    followers: dict[int, list[Any]] = {}
    last = -1
    for item in items:
        if identity(item) in wanted:
            last = next(n for n, other in enumerate(named) if identity(other) == identity(item))
        else:
            followers.setdefault(last, []).append(item)
    result += followers.get(-1, [])
    for position, item in enumerate(named):
        result += [item, *followers.get(position, [])]
    return result


def _without_directives(value: Any) -> Any:
    """New content of a patch, freed of nulls and of directives that have nothing to act on."""
    if isinstance(value, dict):
        return {k: _without_directives(v) for k, v in value.items() if not k.startswith("$") and v is not None}
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    return value
