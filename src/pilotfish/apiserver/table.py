"""The forms of stored objects on the wire: in a served version, as table rows, or as metadata alone (meta/v1)."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import msgspec

from pilotfish.api.columns import name_column
from pilotfish.api.decode import decode_bytes
from pilotfish.api.scheme import AnyKind, Column, age_column
from pilotfish.apiserver.content import IncludeObject, Representation

_FALLBACK: tuple[Column[Any], ...] = (name_column(), age_column())
_META_VERSION = "meta.k8s.io/v1"


class _Metadata(msgspec.Struct):
    metadata: msgspec.Raw


def in_version(kind: AnyKind, version: str, body: bytes) -> bytes:
    """A stored object as the given version of its API serves it. Versions of a kind share one schema."""
    return body if version == kind.versions[0] else _converted(kind, version, body)


@functools.lru_cache(maxsize=512)
def _converted(kind: AnyKind, version: str, body: bytes) -> bytes:
    document = msgspec.json.decode(body)
    document["apiVersion"] = kind.api_version_of(version)
    return msgspec.json.encode(document)


def represent(kind: AnyKind, version: str, body: bytes, form: Representation) -> bytes:
    """One stored object in the form that a client asked for."""
    match form.form:
        case "table":
            return _table(kind, version, [body], form.include, {})
        case "metadata":
            return msgspec.json.encode(_partial(body))
    return in_version(kind, version, body)


def represent_list(
    kind: AnyKind, version: str, bodies: Iterable[bytes], form: Representation, list_metadata: dict[str, Any]
) -> bytes:
    """A list of stored objects in the form that a client asked for."""
    match form.form:
        case "table":
            return _table(kind, version, bodies, form.include, list_metadata)
        case "metadata":
            return msgspec.json.encode(
                {
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": _META_VERSION,
                    "metadata": list_metadata,
                    "items": [_partial(body) for body in bodies],
                }
            )
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version_of(version), "metadata": list_metadata}
    items = b",".join(in_version(kind, version, body) for body in bodies)
    return msgspec.json.encode(head)[:-1] + b',"items":[' + items + b"]}"


def represent_bookmark(kind: AnyKind, version: str, form: Representation, bookmark: dict[str, Any]) -> bytes:
    """The object of a BOOKMARK event, which is nothing but the metadata that is given."""
    match form.form:
        case "table":
            return _table(kind, version, [], form.include, bookmark)
        case "metadata":
            identity = {"kind": "PartialObjectMetadata", "apiVersion": _META_VERSION}
        case _:
            identity = {"kind": kind.kind, "apiVersion": kind.api_version_of(version)}
    return msgspec.json.encode({**identity, "metadata": {**bookmark, "creationTimestamp": None}})


def _partial(body: bytes) -> dict[str, Any]:
    metadata = msgspec.json.decode(body, type=_Metadata).metadata
    return {"kind": "PartialObjectMetadata", "apiVersion": _META_VERSION, "metadata": metadata}


def _table(
    kind: AnyKind, version: str, bodies: Iterable[bytes], include: IncludeObject, table_metadata: dict[str, Any]
) -> bytes:
    columns = kind.columns or _FALLBACK
    return msgspec.json.encode(
        {
            "kind": "Table",
            "apiVersion": _META_VERSION,
            "metadata": table_metadata,
            "columnDefinitions": [
                {
                    "name": column.name,
                    "type": column.type,
                    "format": "name" if column.name == "Name" else "",
                    "description": column.description,
                    "priority": column.priority,
                }
                for column in columns
            ],
            "rows": [_row(kind, version, columns, body, include) for body in bodies],
        }
    )


def _row(
    kind: AnyKind, version: str, columns: tuple[Column[Any], ...], body: bytes, include: IncludeObject
) -> dict[str, Any]:
    typed = decode_bytes(kind, body)
    row: dict[str, Any] = {"cells": [column.cell(typed) for column in columns]}
    if include == "Object":
        row["object"] = msgspec.Raw(in_version(kind, version, body))
    elif include == "Metadata":
        row["object"] = _partial(body)
    return row
