"""What a deletion does to an object: at once, gracefully, or when its finalizers are done (apiserver registry/rest)."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any, Literal

from pilotfish.api.errors import BadRequest, Invalid
from pilotfish.api.faults import forbidden
from pilotfish.api.meta import Document, Struct, metadata_of, timestamp
from pilotfish.api.scheme import AnyKind

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
NAMESPACE_FINALIZER = "kubernetes"
"""The entry of a namespace's `spec.finalizers` that goes when the namespace is empty."""

PropagationPolicy = Literal["", "Orphan", "Background", "Foreground"]


class Preconditions(Struct):
    uid: str | None = None
    resource_version: str | None = None


class DeleteOptions(Struct):
    """meta/v1 DeleteOptions; a grace period of None is the object's own."""

    api_version: str = ""
    kind: str = ""
    grace_period_seconds: int | None = None
    preconditions: Preconditions | None = None
    propagation_policy: PropagationPolicy | None = None
    orphan_dependents: bool | None = None
    dry_run: tuple[str, ...] = ()

    @property
    def policy(self) -> PropagationPolicy:
        """The propagation policy, whichever of the two fields says it. Raises Invalid when both do."""
        if self.orphan_dependents is None:
            return self.propagation_policy or ""
        if self.propagation_policy is not None:
            fault = forbidden("propagationPolicy", "orphanDependents and propagationPolicy cannot both be set")
            raise Invalid.of("DeleteOptions", "meta.k8s.io", "", [fault])
        return "Orphan" if self.orphan_dependents else "Background"


BACKGROUND = DeleteOptions()
"""What a deletion is that says nothing."""


def begin_deletion(kind: AnyKind, document: Document, options: DeleteOptions) -> Document | None:
    """The object with its deletion noted, the same document when nothing changes; None when it is to go at once."""
    changed = copy.deepcopy(document)
    metadata = metadata_of(changed)
    _note_propagation(metadata, options.policy)
    asked = options.grace_period_seconds
    if asked is not None and asked < 0:
        raise BadRequest(f"gracePeriodSeconds is {asked}: it must not be negative")
    grace = kind.grace_period(document, asked) if kind.grace_period else 0
    if not grace and not _finalizers(kind, changed):
        return None
    _set_deletion_time(metadata, grace)
    if "finalize" in kind.subresources:
        changed.setdefault("status", {})["phase"] = "Terminating"
    if "generation" in metadata and changed != document:
        metadata["generation"] += 1
    return changed


def _note_propagation(metadata: dict[str, Any], policy: PropagationPolicy) -> None:
    """The garbage collector finds its task in a finalizer; the default leaves what stands there."""
    if not policy:
        return
    wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy)
    others = [f for f in metadata.get("finalizers") or () if f not in (FOREGROUND, ORPHAN)]
    finalizers = [*others, wanted] if wanted else others
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def _set_deletion_time(metadata: dict[str, Any], grace: int) -> None:
    """A second deletion may shorten the grace period, never lengthen it."""
    if "deletionTimestamp" in metadata and grace >= metadata.get("deletionGracePeriodSeconds", 0):
        return
    metadata["deletionTimestamp"] = timestamp(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=grace))
    metadata["deletionGracePeriodSeconds"] = grace


def deletion_complete(kind: AnyKind, document: Document) -> bool:
    """Whether an object that is being deleted has nothing to wait for any more."""
    metadata = metadata_of(document)
    return (
        bool(metadata.get("deletionTimestamp"))
        and not metadata.get("deletionGracePeriodSeconds")
        and not _finalizers(kind, document)
    )


def _finalizers(kind: AnyKind, document: Document) -> list[Any]:
    of_spec = (document.get("spec") or {}).get("finalizers") if "finalize" in kind.subresources else None
    return [*(metadata_of(document).get("finalizers") or ()), *(of_spec or ())]
