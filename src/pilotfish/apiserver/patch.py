"""The patches that change an object from its current state: JSON patch (RFC 6902) and JSON merge patch (RFC 7386).

Strategic merge patches are in `strategic`, server-side apply in `apply`.
"""

from __future__ import annotations

import copy
from typing import Any

from pilotfish.api.errors import BadRequest, Invalid

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

_MOST_OPERATIONS = 10_000


def merge_patch(target: Any, patch: Any) -> Any:
    """The target with a JSON merge patch applied: nulls delete, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """The target with a JSON patch applied. Raises BadRequest for a malformed patch, Invalid for one that fails."""
    if not isinstance(operations, list):
        raise BadRequest(f"a JSON patch is a list of operations, not {type(operations).__name__}")
    if len(operations) > _MOST_OPERATIONS:
        raise BadRequest(f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(operations)}")
    document = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise BadRequest(f"a JSON patch operation is an object with op and path: {operation!r}")
        try:
            document = _apply(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise Invalid(
                "the server rejected our request due to an error in our request: "
                f"JSON patch operation {operation.get('op')} {operation['path']}: {error}"
            ) from error
    return document


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    op, path = operation.get("op"), _pointer(operation["path"])
    match op:
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "replace":
            _find(document, path)
            return _put(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "move":
            source = _pointer(operation["from"])
            value = _find(document, source)
            return _add(_remove(document, source), path, value)
        case "copy":
            return _add(document, path, copy.deepcopy(_find(document, _pointer(operation["from"]))))
        case "test":
            if (found := _find(document, path)) != operation.get("value"):
                raise ValueError(f"testing value failed: it is {found!r}")
            return document
    raise ValueError(f"unknown operation {op!r}")


def _pointer(path: str) -> list[str]:
    """The steps of a JSON pointer (RFC 6901)."""
    if not path:
        return []
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is no JSON pointer: it does not start with /")
    return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]


def _index(items: list[Any], step: str, *, last: int) -> int:
    if not step.isdigit() or int(step) > last:
        raise IndexError(f"{step!r} is no position in a list of {len(items)}")
    return int(step)


def _find(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, list):
            document = document[_index(document, step, last=len(document) - 1)]
        elif isinstance(document, dict):
            if step not in document:
                raise KeyError(f"there is no {step}")
            document = document[step]
        else:
            raise TypeError(f"there is nothing below it that could be {step}")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        position = len(parent) if path[-1] == "-" else _index(parent, path[-1], last=len(parent))
        parent.insert(position, value)
        return document
    return _put(document, path, value)


def _put(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        parent[_index(parent, path[-1], last=len(parent) - 1)] = value
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise TypeError("its parent is neither an object nor a list")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    _find(document, path)
    if not path:
        return {}
    parent = _find(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
    return document
