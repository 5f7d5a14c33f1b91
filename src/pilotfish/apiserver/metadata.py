"""What the API server does with `metadata`: fills it, keeps what is its own, and says what names may look like."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator

from pilotfish.api import rules
from pilotfish.api.errors import FieldError
from pilotfish.api.faults import forbidden, invalid, required, too_long
from pilotfish.api.meta import Document, ObjectMeta, metadata_of, timestamp
from pilotfish.api.scheme import AnyKind

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_LONGEST_GENERATED = 63

_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def generated_name(prefix: str) -> str:
    """A name from `generateName`: five random characters of Kubernetes' alphabet, which spells no words."""
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return prefix[: _LONGEST_GENERATED - _SUFFIX_LENGTH] + suffix


def fill_new(document: Document, *, has_generation: bool) -> None:
    """Give a document that is to be created an identity; what only the server may say is taken away first."""
    metadata = document["metadata"]
    for field in (*_SERVER_OWNED, "resourceVersion", "selfLink"):
        metadata.pop(field, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = timestamp()
    if has_generation:
        metadata["generation"] = 1


def keep_owned(document: Document, old: Document) -> None:
    """Undo what a client did to the fields that belong to the server."""
    metadata, kept = document["metadata"], metadata_of(old)
    for field in _SERVER_OWNED:
        if field in kept:
            metadata[field] = kept[field]
        else:
            metadata.pop(field, None)
    metadata.pop("selfLink", None)
    metadata["resourceVersion"] = kept.get("resourceVersion", "")


def take_owners(document: Document, asked: Document) -> None:
    """Have the owners of fields that a change noted itself; none where nobody owns anything."""
    if managed := asked["metadata"].get("managedFields"):
        document["metadata"]["managedFields"] = managed
    else:
        document["metadata"].pop("managedFields", None)


def being_deleted(document: Document) -> bool:
    return bool(metadata_of(document).get("deletionTimestamp"))


_LARGEST_ANNOTATIONS = 256 * 1024


def metadata_errors(kind: AnyKind, metadata: ObjectMeta) -> Iterator[FieldError]:
    """What is wrong with an object's metadata (apimachinery ValidateObjectMeta)."""
    if metadata.name:
        yield from rules.name("metadata.name", metadata.name, kind.name_format)
    else:
        yield required("metadata.name", "name or generateName is required")
    yield from rules.labels("metadata.labels", metadata.labels)
    for key in metadata.annotations:
        yield from rules.qualified_name("metadata.annotations", key.lower())
    if sum(len(k) + len(v) for k, v in metadata.annotations.items()) > _LARGEST_ANNOTATIONS:
        yield too_long("metadata.annotations", _LARGEST_ANNOTATIONS)
    for position, finalizer in enumerate(metadata.finalizers):
        yield from rules.qualified_name(f"metadata.finalizers[{position}]", finalizer)
    controllers = [f"{ref.kind}/{ref.name}" for ref in metadata.owner_references if ref.controller]
    if len(controllers) > 1:
        yield invalid(
            "metadata.ownerReferences",
            controllers,
            "only one reference can have controller set to true",
        )


def immutability_errors(new: Document, old: Document) -> Iterator[FieldError]:
    """What an update changed in metadata that may not change (ValidateObjectMetaUpdate)."""
    after, before = metadata_of(new), metadata_of(old)
    for field in ("name", "namespace", "uid"):
        if after.get(field, "") != before.get(field, ""):
            yield invalid(f"metadata.{field}", after.get(field, ""), "field is immutable")
    added = [f for f in after.get("finalizers") or () if f not in (before.get("finalizers") or ())]
    if being_deleted(old) and added:
        listed = ", ".join(f'"{f}"' for f in added)
        yield forbidden(
            "metadata.finalizers",
            f"no new finalizers can be added if the object is being deleted, found new finalizers {listed}",
        )
