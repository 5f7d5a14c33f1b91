"""How an object that a client sent is read: its identity, its nulls, the fields that its kind does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pilotfish.api.decode import fields_of, present_paths, unknown_fields
from pilotfish.api.errors import BadRequest, Invalid
from pilotfish.api.faults import wrong_type
from pilotfish.api.meta import Document, Struct, metadata_of, timestamp
from pilotfish.api.scheme import AnyKind

FieldValidation = Literal["Ignore", "Warn", "Strict"]

HONOURED = "pilotfish.dev/Honoured"
"""The condition that names the fields of an object which are valid and change nothing yet."""


def normalise(kind: AnyKind, document: Any) -> Document:
    """The document under its kind's stored version, without nulls. Raises BadRequest when it is another kind."""
    if not isinstance(document, dict):
        raise BadRequest(f"the body is not an object, but {type(document).__name__}: send one {kind.kind}")
    given_version, given_kind = document.get("apiVersion"), document.get("kind")
    versions = [kind.api_version_of(version) for version in kind.versions]
    if given_version and given_version not in versions:
        raise BadRequest(
            f"the API version in the data ({given_version}) does not match the expected API version ({versions[0]})"
        )
    if given_kind and given_kind != kind.kind:
        raise BadRequest(
            f'{given_kind} in version "{kind.versions[0]}" cannot be handled as a {kind.kind}: '
            f"the kind in the data does not match the resource {kind.plural}"
        )
    if not isinstance(document.get("metadata") or {}, dict):
        fault = wrong_type("metadata", "an object")
        raise Invalid.of(kind.kind, kind.group, "", [fault])
    rest = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata")}
    identity = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": document.get("metadata") or {}}
    return without_nulls(kind.type, {**identity, **rest})


def without_nulls(cls: type[Struct], document: Mapping[str, Any]) -> Document:
    """A copy without null fields, which mean absent in Kubernetes' types; what has no type here keeps its nulls."""
    known = fields_of(cls)
    kept: Document = {}
    for name, value in document.items():
        shape, nested = known.get(name, ("one", None))
        if value is None:
            continue
        if nested is not None:
            if shape == "one" and isinstance(value, Mapping):
                value = without_nulls(nested, value)
            elif shape == "list" and isinstance(value, list):
                value = [without_nulls(nested, item) if isinstance(item, Mapping) else item for item in value]
            elif shape == "map" and isinstance(value, Mapping):
                value = {k: without_nulls(nested, v) if isinstance(v, Mapping) else v for k, v in value.items()}
        kept[name] = value
    return kept


def check_fields(
    kind: AnyKind,
    document: Document,
    validation: FieldValidation,
    *,
    before: Document | None = None,
    duplicates: Sequence[str] = (),
) -> tuple[str, ...]:
    """Warnings about unknown and repeated fields, or the error that the client asked for instead.

    `before` is the object that a change started from: what was unknown there already is no news. Strict kinds refuse
    unknown fields in any case, with the nearest known name; their status is written by controllers and left alone.
    """
    if validation == "Ignore" and not kind.strict:
        return ()
    unknown = list(unknown_fields(kind.type, document))
    if before is not None and unknown:
        old = {error.path for error in unknown_fields(kind.type, before)}
        unknown = [error for error in unknown if error.path not in old]
    if kind.strict and (refused := [e for e in unknown if not e.path.startswith("status.")]):
        raise Invalid.of(kind.kind, kind.group, str(metadata_of(document).get("name", "")), refused)
    if validation == "Ignore":
        return ()
    problems = [f'duplicate field "{path}"' for path in duplicates]
    problems += [f'unknown field "{error.path}"' for error in unknown]
    if problems and validation == "Strict":
        raise BadRequest(
            f'{kind.kind} in version "{kind.versions[0]}" cannot be handled as a {kind.kind}: '
            f"strict decoding error: {', '.join(problems)}"
        )
    return tuple(problems)


def note_not_honoured(kind: AnyKind, document: Document) -> tuple[str, ...]:
    """Set or take away the condition that names the fields without effect; gives a warning for each of them."""
    if not kind.without_effect:
        return ()
    paths = present_paths(document, kind.without_effect)
    status = document.get("status") or {}
    conditions = status.get("conditions") or []
    others = [c for c in conditions if c.get("type") != HONOURED]
    if not paths:
        if len(others) != len(conditions):
            document["status"] = {k: v for k, v in {**status, "conditions": others}.items() if v != []}
        return ()
    condition = {
        "type": HONOURED,
        "status": "False",
        "reason": "FieldsWithoutEffect",
        "message": f"these fields are accepted and have no effect: {', '.join(paths)}",
    }
    held: Document = next((c for c in conditions if c.get("type") == HONOURED), {})
    since = held.get("lastTransitionTime") or timestamp()
    document["status"] = {**status, "conditions": [*others, {**condition, "lastTransitionTime": since}]}
    neither = kind.istio_neither
    reasons = (f"in Istio neither: {neither[path]}" if path in neither else "yet" for path in paths)
    return tuple(
        about(kind, document, f"{path} is accepted and has no effect {reason}")
        for path, reason in zip(paths, reasons, strict=True)
    )


def about(kind: AnyKind, document: Document, warning: str) -> str:
    """A warning with the object that it is about: kubectl prints equal ones only once for a whole manifest."""
    return f"{kind.kind} {metadata_of(document).get('name', '')}: {warning}"
