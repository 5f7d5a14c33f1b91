"""The errors that the API server itself raises, in Kubernetes' words (apimachinery pkg/api/errors)."""

from __future__ import annotations

from typing import Any

from pilotfish.api.errors import Conflict, Forbidden, NotFound
from pilotfish.api.scheme import AnyKind


def details(kind: AnyKind, name: str, uid: str = "") -> dict[str, Any]:
    """What `Status.details` says of an object; `kind` is the plural there."""
    found = {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid}
    return {key: value for key, value in found.items() if value}


def not_found(kind: AnyKind, name: str) -> NotFound:
    return NotFound(f'{kind.resource} "{name}" not found', details=details(kind, name))


def modified(kind: AnyKind, name: str) -> Conflict:
    """A write that was made from an older version of the object."""
    return Conflict(
        f'Operation cannot be fulfilled on {kind.resource} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again",
        details=details(kind, name),
    )


def precondition_failed(kind: AnyKind, name: str, field: str, wanted: str, found: str) -> Conflict:
    """A `preconditions` entry of DeleteOptions, or a uid in the object, that names another object."""
    return Conflict(
        f'Operation cannot be fulfilled on {kind.resource} "{name}": the {field} in the precondition ({wanted}) does '
        f"not match the {field} in record ({found}). The object might have been deleted and then recreated",
        details=details(kind, name),
    )


def namespace_terminating(kind: AnyKind, name: str, namespace: str) -> Forbidden:
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return Forbidden(
        f'{kind.resource} "{name}" is forbidden: unable to create new content in namespace {namespace} '
        "because it is being terminated",
        details={**details(kind, name), "causes": [cause]},
    )
