"""What a write to an object, or to one of its subresources, takes from what the client sent; and the Scale form."""

from __future__ import annotations

from typing import Any

import msgspec

from pilotfish.api.columns import NONE, selector_text
from pilotfish.api.errors import BadRequest, Invalid
from pilotfish.api.faults import invalid
from pilotfish.api.meta import Document, LabelSelector, metadata_of
from pilotfish.api.scheme import AnyKind

SCALE_API_VERSION = "autoscaling/v1"


def taken_by(kind: AnyKind, subresource: str, asked: Document, old: Document) -> Document:
    """The object to store. The main resource leaves the status alone, and each subresource all but its own part."""
    match subresource:
        case "":
            return _main(kind, asked, old)
        case "status":
            return {**old, "metadata": {**old["metadata"]}, **_part(asked, "status")}
        case "finalize":
            spec = {k: v for k, v in (old.get("spec") or {}).items() if k != "finalizers"}
            finalizers = _part(asked.get("spec") or {}, "finalizers")
            return {**old, "metadata": {**old["metadata"]}, "spec": {**spec, **finalizers}}
        case _:
            raise AssertionError(f"{subresource} is no subresource with a form of its own")


def _main(kind: AnyKind, asked: Document, old: Document) -> Document:
    document = dict(asked)
    if "status" in kind.subresources:
        document.pop("status", None)
        document |= _part(old, "status")
    if "finalize" in kind.subresources:
        document["spec"] = {**(document.get("spec") or {}), **_part(old.get("spec") or {}, "finalizers")}
    return document


def _part(document: Document, field: str) -> Document:
    return {field: document[field]} if field in document else {}


def scale_of(document: Document) -> Document:
    """The autoscaling/v1 Scale of an object with replicas."""
    about, spec, status = metadata_of(document), document.get("spec") or {}, document.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = selector_text(msgspec.convert(spec.get("selector") or {}, LabelSelector))
    scale: dict[str, Any] = {
        "kind": "Scale",
        "apiVersion": SCALE_API_VERSION,
        "metadata": {field: about[field] for field in kept if field in about},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {"replicas": status.get("replicas", 0)},
    }
    if selector != NONE:
        scale["status"]["selector"] = selector
    return scale


def scaled(document: Document, scale: Any) -> Document:
    """The object with the replicas of a Scale. Raises BadRequest or Invalid when it is no good Scale."""
    if not isinstance(scale, dict) or scale.get("kind", "Scale") != "Scale":
        raise BadRequest(f"send a Scale of {SCALE_API_VERSION} to the scale subresource")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        fault = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise Invalid.of("Scale", "autoscaling", str(metadata_of(scale).get("name", "")), [fault])
    about = {**document["metadata"], **_part(metadata_of(scale), "resourceVersion")}
    return {**document, "metadata": about, "spec": {**(document.get("spec") or {}), "replicas": replicas}}
