"""Who controls what: owner references, and the adoption and release of what a selector finds (ControllerRefManager)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from pilotfish.api.meta import Document, LabelSelector, Object, OwnerReference
from pilotfish.api.scheme import AnyKind
from pilotfish.api.selectors import matches
from pilotfish.controllers.writes import Patch

T = TypeVar("T", bound=Object)


def controller_reference(kind: AnyKind, owner: Object) -> OwnerReference:
    """The reference that makes `owner` the controller of whatever carries it."""
    return OwnerReference(
        api_version=kind.api_version,
        kind=kind.kind,
        name=owner.name,
        uid=owner.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )


@dataclass(frozen=True)
class Claim(Generic[T]):
    """What belongs to an owner now, and the patches that make it so."""

    objects: tuple[T, ...]
    patches: tuple[Patch[T], ...]


def claim(kind: AnyKind, owner: Object, selector: LabelSelector, candidates: Iterable[T]) -> Claim[T]:
    """The candidates that belong to `owner`: its own that match the selector, and matching ones that nobody controls.

    Its own that match no longer are released. An owner that is being deleted adopts nothing.
    """
    leaving = owner.metadata.deletion_timestamp is not None
    objects: list[T] = []
    patches: list[Patch[T]] = []
    for obj in candidates:
        controller = obj.metadata.controller
        fits = matches(selector, obj.metadata.labels)
        if controller is not None and controller.uid == owner.metadata.uid:
            if fits:
                objects.append(obj)
            elif not leaving:
                rest = tuple(r for r in obj.metadata.owner_references if r.uid != owner.metadata.uid)
                patches.append(_references(obj, rest))
        elif controller is None and fits and not leaving and obj.metadata.deletion_timestamp is None:
            ours = controller_reference(kind, owner)
            others = tuple(r for r in obj.metadata.owner_references if r.uid != ours.uid)
            patches.append(_references(obj, (*others, ours)))
            objects.append(obj)
    return Claim(tuple(objects), tuple(patches))


def _references(obj: T, references: tuple[OwnerReference, ...]) -> Patch[T]:
    # The version guards against writing over references that changed since we looked.
    patch: Document = {
        "metadata": {
            "uid": obj.metadata.uid,
            "resourceVersion": obj.metadata.resource_version,
            "ownerReferences": msgspec.to_builtins(references),
        }
    }
    return Patch(obj, patch)
