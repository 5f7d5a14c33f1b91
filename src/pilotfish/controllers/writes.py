"""What a plan asks for: writes as data, so that plans are pure and tests read them; `apply` carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from pilotfish.api.errors import Conflict, NotFound
from pilotfish.api.meta import Document, Object, Struct
from pilotfish.api.scheme import Kind
from pilotfish.client.client import Client
from pilotfish.controllers.view import View

T = TypeVar("T", bound=Object)


@dataclass(frozen=True)
class Create(Generic[T]):
    document: Document


@dataclass(frozen=True)
class Patch(Generic[T]):
    """A JSON merge patch of `object`, or of its `subresource`."""

    object: T
    patch: Document
    subresource: str = ""


@dataclass(frozen=True)
class Delete(Generic[T]):
    object: T


Write = Create[T] | Patch[T] | Delete[T]


async def apply(client: Client, kind: Kind[T], namespace: str, write: Write[T], view: View[T] | None = None) -> None:
    """Carry out one write and note it in the view. Raises ApiError; deleting what is gone already is no error."""
    match write:
        case Create(document):
            made = await client.create(kind, document, namespace)
            if view is not None:
                view.wrote(made)
        case Patch(obj, patch, subresource):
            made = await client.patch(kind, obj.name, namespace, patch, subresource=subresource)
            if view is not None:
                view.wrote(made)
        case Delete(obj):
            try:
                await client.delete(kind, obj.name, namespace, uid=obj.metadata.uid)
            except (NotFound, Conflict):
                return
            if view is not None:
                view.deleted(obj)


def merge_difference(wanted: Document, current: Document) -> Document:
    """The JSON merge patch that makes `current` hold everything in `wanted`; empty where it does already."""
    patch: dict[str, Any] = {}
    for name, value in wanted.items():
        held = current.get(name)
        if isinstance(value, dict) and isinstance(held, dict):
            nested = merge_difference(value, held)
            if nested:
                patch[name] = nested
        elif value != held:
            patch[name] = value
    return patch


def changed_fields(new: Struct, old: Struct) -> Document:
    """The JSON merge patch from one record to another of its type: what changed, with null for what went away."""
    patch: Document = {}
    for spec in msgspec.structs.fields(type(new)):
        value = getattr(new, spec.name)
        if value != getattr(old, spec.name):
            patch[spec.encode_name] = None if value is None or value == () else msgspec.to_builtins(value)
    return patch
