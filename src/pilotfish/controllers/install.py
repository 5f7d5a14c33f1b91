"""Writing an installation's objects, again and again without losing what others wrote; and taking them away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from pilotfish.api.errors import NotFound
from pilotfish.api.install import IstioOperator
from pilotfish.api.kinds import CONFIG_MAP, DEPLOYMENT, ISTIO_OPERATOR, SCHEME, SERVICE, SERVICE_ACCOUNT
from pilotfish.api.meta import Document, metadata_of
from pilotfish.api.scheme import AnyKind
from pilotfish.client.client import Client

OWNER_LABEL = "install.operator.istio.io/owning-resource"
NAMESPACE = "istio-system"
INSTALLED_STATE = "installed-state"
_OWNED_KINDS: tuple[AnyKind, ...] = (DEPLOYMENT, SERVICE, SERVICE_ACCOUNT, CONFIG_MAP)


@dataclass(frozen=True)
class Applied:
    """What became of one object, as kubectl says it: "service/istiod created"."""

    kind: AnyKind
    name: str
    action: Literal["created", "configured", "unchanged", "deleted"]

    def __str__(self) -> str:
        word = self.kind.singular or self.kind.kind.lower()
        return f"{f'{word}.{self.kind.group}' if self.kind.group else word}/{self.name} {self.action}"


async def install(client: Client, objects: Sequence[Document], components: Iterable[str] = ()) -> list[Applied]:
    """Write the objects in order, and delete what an earlier installation wrote and this one does not ask for.

    `components` are told as healthy in the status of the IstioOperator among the objects. Raises ApiError.
    """
    applied = [await _apply(client, document) for document in objects]
    wanted = {(metadata_of(d).get("name"), d["kind"]) for d in objects}
    applied += await _delete_others(client, wanted)
    healthy = {name: {"status": "HEALTHY"} for name in components}
    status: Document = {"status": {"status": "HEALTHY", "componentStatus": healthy}}
    await client.patch(ISTIO_OPERATOR, INSTALLED_STATE, NAMESPACE, status, subresource="status")
    return applied


async def uninstall(client: Client) -> list[Applied]:
    """Delete what `install` wrote, but not the namespace: other things may be in it. Raises ApiError."""
    gone = await _delete_others(client, set())
    try:
        await client.delete(ISTIO_OPERATOR, INSTALLED_STATE, NAMESPACE)
    except NotFound:
        return gone
    return [*gone, Applied(ISTIO_OPERATOR, INSTALLED_STATE, "deleted")]


async def _apply(client: Client, document: Document) -> Applied:
    kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
    assert kind is not None, f"{document['kind']} is no kind of ours"
    name, namespace = metadata_of(document)["name"], metadata_of(document).get("namespace", "")
    try:
        held = await client.get(kind, name, namespace)
    except NotFound:
        await client.create(kind, document, namespace)
        return Applied(kind, name, "created")
    patch: Document = {field: document[field] for field in ("metadata", "spec", "data") if field in document}
    if isinstance(held, IstioOperator):
        # Its spec is ours alone; of everything else stays what others added.
        patch["spec"] = _with_removals(patch["spec"], msgspec.to_builtins(held.spec))
    written = await client.patch(kind, name, namespace, patch)
    unchanged = written.metadata.resource_version == held.metadata.resource_version
    return Applied(kind, name, "unchanged" if unchanged else "configured")


def _with_removals(wanted: Document, current: Document) -> Document:
    """The wanted fields, and null for what is no longer among them."""
    result: dict[str, Any] = dict.fromkeys(current.keys() - wanted.keys())
    for name, value in wanted.items():
        held = current.get(name)
        result[name] = _with_removals(value, held) if isinstance(value, dict) and isinstance(held, dict) else value
    return result


async def _delete_others(client: Client, wanted: set[tuple[Any, Any]]) -> list[Applied]:
    gone: list[Applied] = []
    for kind in _OWNED_KINDS:
        listing = await client.list(kind, NAMESPACE, labels=f"{OWNER_LABEL}={INSTALLED_STATE}")
        for obj in listing.items:
            if (obj.name, kind.kind) not in wanted:
                await client.delete(kind, obj.name, NAMESPACE, uid=obj.metadata.uid)
                gone.append(Applied(kind, obj.name, "deleted"))
    return gone
