"""Objects go when the last of their owners has gone (kubernetes pkg/controller/garbagecollector).

A deletion in the foreground waits, by the finalizer `foregroundDeletion`, until the dependents that block it are gone;
one that orphans, by the finalizer `orphan`, first takes the owner out of its dependents' references.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pilotfish.api.errors import Conflict, NotFound
from pilotfish.api.kinds import SCHEME
from pilotfish.api.meta import Document, Object, OwnerReference
from pilotfish.api.scheme import AnyKind
from pilotfish.client.client import Client
from pilotfish.client.informer import Change, Informer
from pilotfish.client.informers import Informers
from pilotfish.controllers.queue import WorkQueue

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Ref(NamedTuple):
    """One object, for good: another of its name has another uid."""

    resource: str
    namespace: str
    name: str
    uid: str


class GarbageCollector:
    """Knows all objects, whom each depends on, and who depends on it."""

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self.queue: WorkQueue[Ref] = WorkQueue("garbage")
        self._informers: dict[str, Informer[Object]] = {}
        self._dependents: dict[str, set[Ref]] = {}
        self._uids: set[str] = set()
        for kind in SCHEME:
            informer = informers.informer(kind)
            self._informers[kind.resource] = informer
            informer.subscribe(functools.partial(self._changed, kind))

    def _changed(self, kind: AnyKind, change: Change[Object]) -> None:
        about = change.object.metadata
        ref = Ref(kind.resource, about.namespace, about.name, about.uid)
        old_owners = _owners(change.old)
        new_owners = _owners(change.new)
        for uid in new_owners - old_owners:
            self._dependents.setdefault(uid, set()).add(ref)
        for uid in old_owners - new_owners:
            self._dependents.get(uid, set()).discard(ref)
            if not self._dependents.get(uid):
                self._dependents.pop(uid, None)
        if change.new is None:
            self._uids.discard(about.uid)
            for dependent in self._dependents.get(about.uid, ()):
                self.queue.add(dependent)
        else:
            self._uids.add(about.uid)
            if new_owners or about.deletion_timestamp is not None:
                self.queue.add(ref)
        if change.new is None or about.deletion_timestamp is not None:
            self._tell_waiting_owners(change.object)

    def _tell_waiting_owners(self, obj: Object) -> None:
        for reference in obj.metadata.owner_references:
            kind = SCHEME.by_kind(reference.api_version, reference.kind)
            if kind is not None:
                namespace = obj.namespace if kind.namespaced else ""
                self.queue.add(Ref(kind.resource, namespace, reference.name, reference.uid))

    def _get(self, ref: Ref) -> Object | None:
        found = self._informers[ref.resource].objects.get((ref.namespace, ref.name))
        return found if found is not None and found.metadata.uid == ref.uid else None

    async def reconcile(self, ref: Ref) -> float | None:
        obj = self._get(ref)
        if obj is None:
            return None
        if obj.metadata.deletion_timestamp is not None:
            await self._finish(ref, obj)
        elif obj.metadata.owner_references:
            await self._check_owners(ref, obj)
        return None

    async def _check_owners(self, ref: Ref, obj: Object) -> None:
        references = obj.metadata.owner_references
        solid = [r for r in references if await self._exists(r, obj.namespace)]
        if len(solid) == len(references):
            return
        if solid:
            await self._set_references(ref, obj, solid)
        else:
            await self._delete(ref)

    async def _exists(self, reference: OwnerReference, namespace: str) -> bool:
        """Whether an owner is there; one that no informer knows is looked up, for it may be newer than their news."""
        if reference.uid in self._uids:
            return True
        kind = SCHEME.by_kind(reference.api_version, reference.kind)
        if kind is None:
            # Of a kind that we do not know: not ours to judge.
            return True
        try:
            owner = await self._client.get(kind, reference.name, namespace if kind.namespaced else "")
        except NotFound:
            return False
        return bool(owner.metadata.uid == reference.uid)

    async def _finish(self, ref: Ref, obj: Object) -> None:
        """Do for an object that is being deleted what its finalizers ask of us."""
        dependents = [(r, d) for r in self._dependents.get(ref.uid, set()) if (d := self._get(r)) is not None]
        if ORPHAN in obj.metadata.finalizers:
            for dependent_ref, dependent in dependents:
                rest = [r for r in dependent.metadata.owner_references if r.uid != ref.uid]
                await self._set_references(dependent_ref, dependent, rest)
            await self._remove_finalizer(ref, obj, ORPHAN)
        elif FOREGROUND in obj.metadata.finalizers:
            blocking = False
            for dependent_ref, dependent in dependents:
                if any(r.uid == ref.uid and r.block_owner_deletion for r in dependent.metadata.owner_references):
                    blocking = True
                if dependent.metadata.deletion_timestamp is None:
                    await self._delete_in_foreground(dependent_ref, dependent)
            if not blocking:
                await self._remove_finalizer(ref, obj, FOREGROUND)

    async def _delete_in_foreground(self, ref: Ref, obj: Object) -> None:
        """A dependent that has blocking dependents of its own waits for them as its owner waits for it."""
        if self._dependents.get(ref.uid) and FOREGROUND not in obj.metadata.finalizers:
            await self._patch(ref, {"metadata": {"finalizers": [*obj.metadata.finalizers, FOREGROUND]}}, obj)
        await self._delete(ref)

    async def _set_references(self, ref: Ref, obj: Object, references: Sequence[OwnerReference]) -> None:
        content = msgspec.to_builtins(tuple(references)) or None
        await self._patch(ref, {"metadata": {"ownerReferences": content}}, obj)

    async def _remove_finalizer(self, ref: Ref, obj: Object, finalizer: str) -> None:
        rest = [name for name in obj.metadata.finalizers if name != finalizer]
        await self._patch(ref, {"metadata": {"finalizers": rest or None}}, obj)

    async def _patch(self, ref: Ref, patch: Document, obj: Object) -> None:
        kind = self._informers[ref.resource].kind
        # The version guards against undoing what changed since we looked.
        guard = {"uid": ref.uid, "resourceVersion": obj.metadata.resource_version}
        guarded = {"metadata": {**patch["metadata"], **guard}}
        try:
            await self._client.patch(kind, ref.name, ref.namespace, guarded)
        except NotFound:
            return

    async def _delete(self, ref: Ref) -> None:
        kind = self._informers[ref.resource].kind
        try:
            await self._client.delete(kind, ref.name, ref.namespace, uid=ref.uid)
        except (NotFound, Conflict):
            return


def _owners(obj: Object | None) -> frozenset[str]:
    return frozenset(r.uid for r in obj.metadata.owner_references) if obj is not None else frozenset()
