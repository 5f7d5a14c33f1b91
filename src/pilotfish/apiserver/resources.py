"""The operations of the Kubernetes API over a store, for every kind of the scheme alike.

HTTP (`routes`) and the client within the process (`local`) are both thin layers above this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pilotfish.api.decode import decode
from pilotfish.api.errors import AlreadyExists, BadRequest, Conflict, FieldError, Invalid, NotFound
from pilotfish.api.kinds import NAMESPACE
from pilotfish.api.meta import Document, metadata_of
from pilotfish.api.scheme import AnyKind, Scheme
from pilotfish.apiserver import failures, metadata
from pilotfish.apiserver.admission import SYSTEM, Admission, AdmissionRequest, User, admit
from pilotfish.apiserver.apply import applied_new, apply
from pilotfish.apiserver.deletion import (
    BACKGROUND,
    NAMESPACE_FINALIZER,
    DeleteOptions,
    begin_deletion,
    deletion_complete,
)
from pilotfish.apiserver.fields import FieldValidation, about, check_fields, normalise, note_not_honoured
from pilotfish.apiserver.managers import track_update
from pilotfish.apiserver.subresources import taken_by
from pilotfish.apiserver.watch import Watches
from pilotfish.store.store import Key, Store, Stored

Change = Callable[[Document], Document]
"""Makes the new object from the current one, which it may change in place."""

_GENERATED_NAME_TRIES = 8
_CONFLICT_TRIES = 8


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What a write's query says, and who asks. `duplicates` are the repeated fields that were found in the body."""

    user: User = SYSTEM
    dry_run: bool = False
    field_validation: FieldValidation = "Ignore"
    field_manager: str = ""
    force: bool = False
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What a write made: the object's JSON in the stored version, and the warnings for whoever wrote."""

    body: bytes
    created: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did: `removed`, or the object lives on in `body` until what it waits for is done."""

    body: bytes
    removed: bool
    uid: str


@dataclass(eq=False)
class Resources:
    """All objects of one API server."""

    store: Store
    scheme: Scheme
    admissions: Sequence[Admission] = ()
    watches: Watches = field(init=False)
    # Writes to one object take turns: each starts from what the one before has left.
    _turns: weakref.WeakValueDictionary[Key, asyncio.Lock] = field(default_factory=weakref.WeakValueDictionary)

    def __post_init__(self) -> None:
        self.watches = Watches(self.store)

    def get(self, kind: AnyKind, namespace: str, name: str) -> Stored:
        """Raises NotFound."""
        stored = self.store.get(key_of(kind, namespace, name))
        if stored is None:
            raise failures.not_found(kind, name)
        return stored

    def read(self, kind: AnyKind, namespace: str, name: str) -> Document | None:
        """The stored document, or None: how admission looks at other objects."""
        stored = self.store.get(key_of(kind, namespace, name))
        return msgspec.json.decode(stored.body) if stored else None

    def read_all(self, kind: AnyKind, namespace: str) -> list[Document]:
        """The stored documents of a namespace: how admission looks at several."""
        return [msgspec.json.decode(stored.body) for stored in self.store.list(kind.resource, namespace)]

    async def create(
        self,
        kind: AnyKind,
        namespace: str,
        document: Document,
        options: WriteOptions = WriteOptions(),
        *,
        owns: bool = False,
    ) -> Written:
        """Raises AlreadyExists, Invalid, BadRequest, or NotFound when the namespace does not exist.

        `owns` says that the document tells who owns its fields.
        """
        document = normalise(kind, document)
        about = document["metadata"]
        if not owns:
            about.pop("managedFields", None)
        if about.get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        warnings = check_fields(kind, document, options.field_validation, duplicates=options.duplicates)
        _place(kind, document, namespace)
        prefix = "" if about.get("name") else str(about.get("generateName") or "")
        tries = _GENERATED_NAME_TRIES if prefix else 1
        while True:
            tries -= 1
            if prefix:
                about["name"] = metadata.generated_name(prefix)
            try:
                with contextlib.ExitStack() as settled:
                    fresh = msgspec.json.decode(_encode(document))
                    return await self._create(kind, namespace, fresh, options, warnings, settled)
            except AlreadyExists:
                if not tries:
                    raise

    async def _create(
        self,
        kind: AnyKind,
        namespace: str,
        document: Document,
        options: WriteOptions,
        warnings: tuple[str, ...],
        settled: contextlib.ExitStack,
    ) -> Written:
        name = str(document["metadata"].get("name") or "")
        self._check_namespace(kind, namespace, name)
        metadata.fill_new(document, has_generation=_has_spec(kind))
        if "status" in kind.subresources:
            document.pop("status", None)
        if "finalize" in kind.subresources:
            document.setdefault("spec", {})["finalizers"] = [NAMESPACE_FINALIZER]
        document = self._admitted(kind, document, None, options, settled)
        warnings += self._check(kind, document, None)
        warnings += note_not_honoured(kind, document)
        key = key_of(kind, namespace, name)
        if options.dry_run:
            if self.store.get(key):
                raise AlreadyExists(f'{kind.resource} "{name}" already exists', details=failures.details(kind, name))
            return Written(_encode(document), True, warnings)
        stored = await self.store.create(key, _stamp(document))
        return Written(stored.body, True, warnings)

    async def update(
        self,
        kind: AnyKind,
        namespace: str,
        name: str,
        change: Change,
        options: WriteOptions = WriteOptions(),
        *,
        subresource: str = "",
        owns: bool = False,
    ) -> Written:
        """Replace an object, or its subresource, with what `change` makes of it; writes nothing when that is the same.

        `owns` says that the change tells itself who owns which field.
        Raises NotFound, Invalid, or Conflict when `change` gives a resourceVersion that is not current.
        """
        key = key_of(kind, namespace, name)
        async with self._turns.setdefault(key, asyncio.Lock()):
            for attempt in range(_CONFLICT_TRIES):
                stored = self.get(kind, namespace, name)
                try:
                    with contextlib.ExitStack() as settled:
                        return await self._update(kind, stored, change, options, subresource, owns, settled)
                except _Overtaken:
                    # A write whose writer went away is still on its way to disk.
                    await asyncio.sleep(0.002 * 2**attempt)
        raise failures.modified(kind, name)

    async def _update(
        self,
        kind: AnyKind,
        stored: Stored,
        change: Change,
        options: WriteOptions,
        subresource: str,
        owns: bool,
        settled: contextlib.ExitStack,
    ) -> Written:
        old: Document = msgspec.json.decode(stored.body)
        asked = normalise(kind, change(msgspec.json.decode(stored.body)))
        _place(kind, asked, stored.key.namespace, stored.key.name)
        version = asked["metadata"].get("resourceVersion")
        if version and version != str(stored.revision):
            raise failures.modified(kind, stored.key.name)
        uid = asked["metadata"].get("uid")
        if uid and uid != old["metadata"]["uid"]:
            raise failures.precondition_failed(kind, stored.key.name, "UID", uid, old["metadata"]["uid"])
        warnings = check_fields(kind, asked, options.field_validation, before=old, duplicates=options.duplicates)
        document = taken_by(kind, subresource, asked, msgspec.json.decode(stored.body))
        metadata.keep_owned(document, old)
        if owns:
            metadata.take_owners(document, asked)
        else:
            track_update(kind, document, old, options.field_manager, subresource)
        if not subresource:
            document = self._admitted(kind, document, old, options, settled)
        warnings += self._check(kind, document, old)
        warnings += note_not_honoured(kind, document)
        if _has_spec(kind) and _without_bookkeeping(document) != _without_bookkeeping(old):
            document["metadata"]["generation"] = int(old["metadata"].get("generation", 0)) + 1
        if document == old:
            return Written(stored.body, False, warnings)
        if options.dry_run:
            return Written(_encode(document), False, warnings)
        write = self.store.delete if deletion_complete(kind, document) else self.store.update
        try:
            written = await write(stored.key, _stamp(document), stored.revision)
        except Conflict as conflict:
            raise _Overtaken from conflict
        return Written(written.body, False, warnings)

    async def apply(
        self,
        kind: AnyKind,
        namespace: str,
        name: str,
        config: Any,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> Written:
        """Server-side apply: make the object what `config` says, where it says something, or create it.

        Raises Conflict when another manager owns a field that would change and `options.force` is not set.
        """
        config = normalise(kind, config)
        _place(kind, config, namespace, name)
        if config["metadata"].get("managedFields"):
            raise BadRequest("metadata.managedFields must be nil")
        check_fields(kind, config, options.field_validation, duplicates=options.duplicates)
        manager = options.field_manager

        def change(live: Document) -> Document:
            return apply(kind, live, config, manager, subresource=subresource, force=options.force)

        while True:
            try:
                return await self.update(kind, namespace, name, change, options, subresource=subresource, owns=True)
            except NotFound:
                if subresource:
                    raise
            try:
                return await self.create(kind, namespace, applied_new(kind, config, manager), options, owns=True)
            except AlreadyExists:
                # Somebody was faster: then there is something to apply to.
                continue

    async def delete(
        self,
        kind: AnyKind,
        namespace: str,
        name: str,
        delete: DeleteOptions = BACKGROUND,
        options: WriteOptions = WriteOptions(),
    ) -> Deleted:
        """Raises NotFound, or Conflict when a precondition does not hold."""
        key = key_of(kind, namespace, name)
        async with self._turns.setdefault(key, asyncio.Lock()):
            for attempt in range(_CONFLICT_TRIES):
                stored = self.get(kind, namespace, name)
                try:
                    return await self._delete(kind, stored, delete, options)
                except _Overtaken:
                    await asyncio.sleep(0.002 * 2**attempt)
        raise failures.modified(kind, name)

    async def _delete(self, kind: AnyKind, stored: Stored, delete: DeleteOptions, options: WriteOptions) -> Deleted:
        old: Document = msgspec.json.decode(stored.body)
        uid = str(metadata_of(old).get("uid", ""))
        wanted = delete.preconditions
        if wanted and wanted.uid is not None and wanted.uid != uid:
            raise failures.precondition_failed(kind, stored.key.name, "UID", wanted.uid, uid)
        if wanted and wanted.resource_version is not None and wanted.resource_version != str(stored.revision):
            raise failures.precondition_failed(
                kind, stored.key.name, "ResourceVersion", wanted.resource_version, str(stored.revision)
            )
        changed = begin_deletion(kind, old, delete)
        if changed == old:
            return Deleted(stored.body, False, uid)
        if options.dry_run:
            return Deleted(stored.body, changed is None, uid)
        try:
            if changed is None:
                return Deleted((await self.store.delete(stored.key, _stamp(old), stored.revision)).body, True, uid)
            return Deleted((await self.store.update(stored.key, _stamp(changed), stored.revision)).body, False, uid)
        except Conflict as conflict:
            raise _Overtaken from conflict

    async def delete_collection(
        self, kind: AnyKind, chosen: Iterable[Stored], delete: DeleteOptions, options: WriteOptions
    ) -> list[Deleted]:
        """Delete the chosen objects, one after the other; those that are gone by then are left out."""
        done = []
        for stored in chosen:
            try:
                done.append(await self.delete(kind, stored.key.namespace, stored.key.name, delete, options))
            except NotFound:
                continue
        return done

    def _admitted(
        self,
        kind: AnyKind,
        document: Document,
        old: Document | None,
        options: WriteOptions,
        settled: contextlib.ExitStack,
    ) -> Document:
        """The document with defaults, after admission. Admission may add parts that need defaults in their turn."""
        decode(kind, document)  # so that what follows can rely on the types
        kind.default(document)
        about = document["metadata"]
        admitted = admit(
            self.admissions,
            AdmissionRequest(
                kind=kind,
                operation="UPDATE" if old else "CREATE",
                namespace=about.get("namespace", ""),
                name=about.get("name", ""),
                document=document,
                old=old,
                user=options.user,
                get=self.read,
                list_all=self.read_all,
                on_settled=settled.callback,
            ),
        )
        if admitted is not document:
            admitted = msgspec.json.decode(_encode(admitted))
            kind.default(admitted)
        return admitted

    def _check(self, kind: AnyKind, document: Document, old: Document | None) -> tuple[str, ...]:
        """Warnings about the object. Raises Invalid with every fault of it, or of the change."""
        typed = decode(kind, document)
        errors: list[FieldError] = list(metadata.metadata_errors(kind, typed.metadata))
        errors += kind.validate(typed)
        if old is not None:
            errors += metadata.immutability_errors(document, old)
            errors += kind.validate_update(typed, decode(kind, old))
        if errors:
            raise Invalid.of(kind.kind, kind.group, typed.metadata.name, errors)
        return tuple(about(kind, document, str(warning)) for warning in kind.warn(typed))

    def _check_namespace(self, kind: AnyKind, namespace: str, name: str) -> None:
        if not kind.namespaced:
            return
        found = self.read(NAMESPACE, "", namespace)
        if found is None:
            raise failures.not_found(NAMESPACE, namespace)
        if metadata.being_deleted(found):
            raise failures.namespace_terminating(kind, name, namespace)


class _Overtaken(Exception):
    """The object changed between reading and writing it."""


def key_of(kind: AnyKind, namespace: str, name: str) -> Key:
    return Key(kind.resource, namespace if kind.namespaced else "", name)


def _place(kind: AnyKind, document: Document, namespace: str, name: str = "") -> None:
    """Put the URL's namespace and name into the document, or refuse a document that says something else."""
    about = document["metadata"]
    if kind.namespaced:
        given = about.setdefault("namespace", namespace)
        if given != namespace:
            raise BadRequest(
                f"the namespace of the provided object does not match the namespace sent on the request "
                f"({given} is not {namespace})"
            )
    else:
        about.pop("namespace", None)
    if name and about.setdefault("name", name) != name:
        raise BadRequest(f"the name of the object ({about['name']}) does not match the name on the URL ({name})")


def _has_spec(kind: AnyKind) -> bool:
    return "spec" in kind.type.__struct_fields__


def _without_bookkeeping(document: Document) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k not in ("metadata", "status")}


def _encode(document: Document) -> bytes:
    return msgspec.json.encode(document)


def _stamp(document: Document) -> Callable[[int], bytes]:
    def stamp(revision: int) -> bytes:
        document["metadata"]["resourceVersion"] = str(revision)
        return msgspec.json.encode(document)

    return stamp
