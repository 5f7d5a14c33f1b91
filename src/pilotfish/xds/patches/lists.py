"""What has a place among others: filters and routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilotfish.mesh.envoy_filters import Patch
from pilotfish.xds.patches.values import value_of


def put_in_place(items: Any, patch: Patch, is_meant: Callable[[Any], bool] | None) -> None:
    """Add, insert, replace or remove in a repeated field of messages; other operations do nothing here.

    Without `is_meant` what is inserted goes to one of the ends, and nothing is replaced or removed. Before or after
    what is not there nothing is inserted.
    """
    if patch.operation == "REMOVE":
        if is_meant is not None:
            kept = [item for item in items if not is_meant(item)]
            if len(kept) < len(items):
                del items[:]
                items.extend(kept)
        return
    value = value_of(patch)
    if value is None:
        return
    at = 0 if is_meant is None else next((i for i, item in enumerate(items) if is_meant(item)), -1)
    match patch.operation:
        case "ADD":
            items.append(value)
        case "INSERT_FIRST":
            items.insert(0, value)
        case "INSERT_AFTER" if at >= 0:
            items.insert(len(items) if is_meant is None else at + 1, value)
        case "INSERT_BEFORE" if at >= 0:
            items.insert(at, value)
        case "REPLACE" if at >= 0 and is_meant is not None:
            items[at].CopyFrom(value)
