"""How a node's DNS process asks for configuration on demand: a resource of the name table for a workload and a host.

Its name is "@<the workload's address>/<host>". No namespace begins with "@", so it is no host's own resource, which is
named "*/<host>" or "<namespace>/<host>". It is there once the workload's proxy has the host's configuration in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_MARK = "@"

EAGER = "eager"
CONFIG_ANNOTATION = "pilotfish.dev/config"
"""On a pod: "eager" asks for everything at once, "on-demand" for what the pod uses."""
CONFIG_METADATA = "PILOTFISH_CONFIG"
"""The same in a proxy's metadata (the mesh's defaultConfig: `proxyMetadata: {ISTIO_META_PILOTFISH_CONFIG: eager}`)."""
IDLE_ANNOTATION = "pilotfish.dev/idle-timeout"
"""On a pod: after what time ("24h") a host that the pod does not use is taken from its proxy; "0s" is never."""
IDLE_METADATA = "PILOTFISH_IDLE_TIMEOUT"
"""The same in a proxy's metadata (`proxyMetadata: {ISTIO_META_PILOTFISH_IDLE_TIMEOUT: 1h}`)."""

DESTINATION_HEADER = "x-pilotfish-destination"
"""Names the cluster of a request for an address about which a proxy asks; set and removed by the proxy itself."""


class Demand(NamedTuple):
    """A host that a workload has asked for."""

    address: str
    host: str


def demand_name(demand: Demand) -> str:
    return f"{_MARK}{demand.address}/{demand.host}"


def read_demand(resource: str) -> Demand | None:
    """The demand for which a name table's resource stands; None for other resources."""
    if not resource.startswith(_MARK):
        return None
    address, _, host = resource.removeprefix(_MARK).partition("/")
    return Demand(address, host) if address and host else None


def chosen(metadata: Mapping[str, Any], annotation: str, key: str) -> str:
    """What a pod says by an annotation, or else by its proxy's metadata; "" where it says nothing.

    `metadata` is a proxy's, as Envoy's node has it.
    """
    annotations = metadata.get("ANNOTATIONS")
    by_default = str(metadata.get(key, ""))
    return str(annotations.get(annotation, by_default)) if isinstance(annotations, Mapping) else by_default


def captures_dns(metadata: Mapping[str, Any]) -> bool:
    """Whether what a workload looks up comes to the mesh's DNS. `metadata` is its proxy's."""
    return str(metadata.get("DNS_CAPTURE", "")).lower() in ("true", "1")


def on_demand(metadata: Mapping[str, Any]) -> bool:
    """Whether a sidecar gets its configuration on demand: its workload's lookups are seen, and neither its pod (by
    annotation) nor its ProxyConfig (by metadata) asks for everything at once.
    """
    return captures_dns(metadata) and chosen(metadata, CONFIG_ANNOTATION, CONFIG_METADATA) != EAGER
