"""Who owns which field of an object: `metadata.managedFields` (apiserver pkg/endpoints/handlers/fieldmanager).

As Kubernetes does for objects that it has not tracked from the start, tracking begins with the first server-side apply:
what stands in the object then belongs to a manager of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pilotfish.api.meta import Document, metadata_of, timestamp
from pilotfish.api.scheme import AnyKind
from pilotfish.apiserver.fieldsets import FieldSet, Path, from_fields_v1, leaves, to_fields_v1
from pilotfish.apiserver.listtypes import Shape

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_UNOWNED_METADATA = frozenset(
    f"f:{name}"
    for name in (
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    )
)


class Manager(NamedTuple):
    """One owner; a program that applies and updates is two."""

    name: str
    operation: Literal["Apply", "Update"]
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Managed:
    """What one manager owns, and since when."""

    fields: FieldSet
    time: str


Managers = Mapping[Manager, Managed]


def owned_leaves(kind: AnyKind, document: Document, *, status: bool) -> dict[Path, Any]:
    """The paths of a document that can have an owner, with their values."""
    found = leaves({k: v for k, v in document.items() if k not in ("apiVersion", "kind")}, Shape(type=kind.type))
    return {path: value for path, value in found if _ownable(path, status)}


def _ownable(path: Path, status: bool) -> bool:
    if path[0] == "f:metadata":
        return len(path) > 1 and path[1] not in _UNOWNED_METADATA
    return status or path[0] != "f:status"


def read_managers(document: Document) -> dict[Manager, Managed]:
    """The managers of an object; none where it is not tracked."""
    found: dict[Manager, Managed] = {}
    for entry in metadata_of(document).get("managedFields") or ():
        if not isinstance(entry, dict) or entry.get("operation") not in ("Apply", "Update"):
            continue
        manager = Manager(str(entry.get("manager", "")), entry["operation"], str(entry.get("subresource", "")))
        found[manager] = Managed(from_fields_v1(entry.get("fieldsV1")), str(entry.get("time") or timestamp()))
    return found


def write_managers(kind: AnyKind, document: Document, managers: Managers) -> None:
    """Put managers into an object; those that own nothing are left out."""
    entries = list(_entries(kind, managers))
    if entries:
        document["metadata"]["managedFields"] = entries
    else:
        document["metadata"].pop("managedFields", None)


def _entries(kind: AnyKind, managers: Managers) -> Iterator[Document]:
    for manager, managed in sorted(managers.items(), key=lambda item: (item[0].operation, item[1].time, item[0])):
        if managed.fields:
            entry: Document = {
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": kind.api_version,
                "time": managed.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": to_fields_v1(managed.fields),
            }
            yield {**entry, "subresource": manager.subresource} if manager.subresource else entry


def first_managers(kind: AnyKind, live: Document) -> dict[Manager, Managed]:
    """The owner of what an object holds before its first server-side apply; kubectl knows both names."""
    applied = LAST_APPLIED in (metadata_of(live).get("annotations") or {})
    manager = Manager("kubectl-client-side-apply" if applied else "before-first-apply", "Update")
    fields = frozenset(owned_leaves(kind, live, status="status" not in kind.subresources))
    return {manager: Managed(fields, timestamp())}


def track_update(kind: AnyKind, document: Document, old: Document, name: str, subresource: str) -> None:
    """Note in the new object who owns what after an update: whoever changes a field takes it from everyone else."""
    kept = metadata_of(old).get("managedFields")
    sent = metadata_of(document).get("managedFields")
    if sent is None and kept:
        document["metadata"]["managedFields"] = kept
    elif not sent or sent == [{}]:
        # An empty list is how a client asks for tracking to end.
        document["metadata"].pop("managedFields", None)
        return
    managers = read_managers(document)
    before, after = owned_leaves(kind, old, status=True), owned_leaves(kind, document, status=True)
    changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    gone = before.keys() - after.keys()
    if not changed and not gone:
        return
    me = Manager(name, "Update", subresource)
    mine = managers.pop(me, Managed(frozenset(), timestamp()))
    rest = {manager: Managed(m.fields - changed - gone, m.time) for manager, m in managers.items()}
    own = (mine.fields | changed) - gone
    rest[me] = mine if own == mine.fields else Managed(own, timestamp())
    write_managers(kind, document, rest)
