"""Protobuf's oneofs: of a group of fields at most one may be set."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import forbidden
from pilotfish.api.meta import Struct


def one_of_faults(value: Any, path: str) -> Iterator[FieldError]:
    """A fault for each field that is set beside another of its oneof, in a typed value and all that it holds."""
    if isinstance(value, Struct):
        names = _wire_names(type(value))
        for group in type(value).ONE_OF:
            first, *others = [names[field] for field in group if getattr(value, field) is not None] or [""]
            for other in others:
                listed = ", ".join(names[field] for field in group)
                yield forbidden(f"{path}.{other}", f"{first} is set already: give only one of {listed}")
        for field, name in names.items():
            yield from one_of_faults(getattr(value, field), f"{path}.{name}")
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from one_of_faults(item, f"{path}[{position}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from one_of_faults(item, f"{path}[{key}]")


@functools.cache
def _wire_names(cls: type[Struct]) -> dict[str, str]:
    """The fields of a type and what they are called on the wire."""
    return dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
