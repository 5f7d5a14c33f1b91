"""The client interface within the API server's own process: the same operations without HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import msgspec

from pilotfish.api.decode import decode_bytes, encode
from pilotfish.api.errors import BadRequest
from pilotfish.api.meta import Document, Object
from pilotfish.api.scheme import Kind
from pilotfish.apiserver.admission import SYSTEM, User
from pilotfish.apiserver.deletion import DeleteOptions, Preconditions
from pilotfish.apiserver.patch import json_patch, merge_patch
from pilotfish.apiserver.resources import Change, Resources, WriteOptions
from pilotfish.apiserver.selection import select
from pilotfish.apiserver.watch import WatchOptions
from pilotfish.client.client import Listing, WatchEvent

T = TypeVar("T", bound=Object)


class LocalClient:
    """`pilotfish.client.client.Client` on the resources of an API server, as one of its users."""

    def __init__(self, resources: Resources, user: User = SYSTEM) -> None:
        self._resources = resources
        self._options = WriteOptions(user=user, field_manager=user.name)

    async def get(self, kind: Kind[T], name: str, namespace: str = "") -> T:
        return decode_bytes(kind, self._resources.get(kind, namespace, name).body)

    async def list(
        self, kind: Kind[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        store, selection = self._resources.store, select(labels, fields)
        revision, stored = store.revision, store.list(kind.resource, namespace or None)
        chosen = (s.body for s in stored if selection is None or selection(s.body))
        return Listing(tuple(decode_bytes(kind, body) for body in chosen), str(revision))

    async def watch(
        self,
        kind: Kind[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        options = WatchOptions(
            resource=kind.resource,
            namespace=namespace or None,
            resource_version=resource_version,
            selection=select(labels, fields),
            bookmarks=True,
        )
        async for change in self._resources.watches.changes(options):
            obj = decode_bytes(kind, change.stored.body) if change.stored else None
            yield WatchEvent(change.type, obj, str(change.revision))

    async def create(self, kind: Kind[T], obj: T | Document, namespace: str = "") -> T:
        document = encode(obj) if isinstance(obj, Object) else obj
        # A copy: what the server fills in is not the caller's.
        document = msgspec.json.decode(msgspec.json.encode(document))
        where = namespace or str((document.get("metadata") or {}).get("namespace", ""))
        written = await self._resources.create(kind, where, document, self._options)
        return decode_bytes(kind, written.body)

    async def update(self, kind: Kind[T], document: Document, *, subresource: str = "") -> T:
        metadata = document.get("metadata") or {}
        if not metadata.get("name"):
            raise BadRequest(f"the {kind.kind} to update has no metadata.name")
        name, namespace = str(metadata["name"]), str(metadata.get("namespace", ""))
        sent = msgspec.json.encode(document)
        return await self._change(kind, name, namespace, lambda _: msgspec.json.decode(sent), subresource)

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        namespace: str,
        patch: Document | Sequence[Any],
        *,
        subresource: str = "",
    ) -> T:
        apply = merge_patch if isinstance(patch, dict) else json_patch
        sent = msgspec.json.encode(patch)
        return await self._change(kind, name, namespace, lambda old: apply(old, msgspec.json.decode(sent)), subresource)

    async def _change(self, kind: Kind[T], name: str, namespace: str, change: Change, subresource: str) -> T:
        written = await self._resources.update(kind, namespace, name, change, self._options, subresource=subresource)
        return decode_bytes(kind, written.body)

    async def delete(
        self,
        kind: Kind[T],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        grace_period_seconds: int | None = None,
    ) -> None:
        delete = DeleteOptions(
            grace_period_seconds=grace_period_seconds,
            preconditions=Preconditions(uid=uid) if uid else None,
        )
        await self._resources.delete(kind, namespace, name, delete, self._options)

    async def close(self) -> None:
        """Nothing to let go of: the resources are the server's."""
