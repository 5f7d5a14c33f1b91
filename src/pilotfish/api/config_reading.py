"""Istio's configuration messages from documents: unknown fields, types and words are checked, and each fault named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from pilotfish.api.decode import type_faults, unknown_fields
from pilotfish.api.durations import decode_hook
from pilotfish.api.errors import FieldError, Invalid
from pilotfish.api.meta import Document, Struct

S = TypeVar("S", bound=Struct)

CONFIG_MAP = "istio"
"""The name of the ConfigMap that MeshConfig stands in."""

Port = Annotated[int, Meta(ge=1, le=65535, description="a port from 1 to 65535")]


def converted(cls: type[S], document: Document, path: str) -> S:
    """The message that a document is. Raises Invalid, naming each faulty field below `path`."""
    refuse_any(unknown_fields(cls, document, path))
    try:
        return msgspec.convert(document, cls, dec_hook=decode_hook)
    except msgspec.ValidationError:
        raise refused(type_faults(cls, document, path, decode_hook)) from None


def refuse_any(faults: Iterable[FieldError]) -> None:
    """Raises Invalid if there are any faults."""
    if found := list(faults):
        raise refused(found)


def refused(faults: Iterable[FieldError]) -> Invalid:
    """The error of a MeshConfig with these faults."""
    return Invalid.of("MeshConfig", "", CONFIG_MAP, list(faults))


def below(path: str, name: str) -> str:
    """Where a field of what stands at a path is."""
    return f"{path}.{name}" if path else name
