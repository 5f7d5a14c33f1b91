"""Whether objects are in force: known to the control plane, and answered for by the proxies that they concern.

Nothing is noted for an object on its way. That a version of it has been taken in, its informer shows; from then on
every proxy that it concerns has had word of what it changes, so what counts is up to which word each has answered.
(istiod had this at `/debug/config_distribution`, counted by object and nonce.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pilotfish.api.meta import micro_timestamp
from pilotfish.api.scheme import AnyKind
from pilotfish.mesh.records import ObjectKey
from pilotfish.xds.debug import full_name
from pilotfish.xds.feed import Known
from pilotfish.xds.status import Progress

Named = tuple[AnyKind, str, str]
"""An object: its kind, namespace and name."""


def distribution(
    objects: Iterable[tuple[Named, Known]],
    proxies: Iterable[Progress],
    refusals: Callable[[ObjectKey], Mapping[str, str]],
) -> dict[str, Any]:
    """`/debug/config_distribution`: the version in which the objects are known, and how far each proxy has come.

    An object without a version is none, or waits to be taken in ("pending"). A proxy has what was known at one time
    once `answered` has come to what `told` was then, on the same connection ("since").
    """
    wanted = list(objects)
    refused: dict[str, str] = {}
    for (kind, namespace, name), _ in wanted:
        refused |= refusals(ObjectKey(kind.kind, namespace, name))
    return {
        "resources": [_resource(named, known) for named, known in wanted],
        "proxies": [
            {
                "proxy": full_name(proxy.node),
                "since": micro_timestamp(proxy.connected_at),
                "told": proxy.told,
                "answered": proxy.answered,
                **({"refused": refused[proxy.node.id]} if proxy.node.id in refused else {}),
            }
            for proxy in proxies
        ],
    }


def _resource(named: Named, known: Known) -> dict[str, Any]:
    kind, namespace, name = named
    shown: dict[str, Any] = {"kind": kind.kind, "namespace": namespace, "name": name}
    if not known.settled:
        return {**shown, "pending": True}
    if known.object is None:
        return shown
    metadata = known.object.metadata
    return {**shown, "resourceVersion": metadata.resource_version, "generation": metadata.generation}
