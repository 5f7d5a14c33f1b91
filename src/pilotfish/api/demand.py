"""How a node's DNS process asks for configuration on demand: a resource of the name table for a workload and a host.

Its name is "@<the workload's address>/<host>". No namespace begins with "@", so it is no host's own resource, which is
named "*/<host>" or "<namespace>/<host>". It is there once the workload's proxy has the host's configuration in force.
"""

from __future__ import annotations

from typing import NamedTuple

_MARK = "@"

EAGER = "eager"
CONFIG_ANNOTATION = "pilotfish.dev/config"
"""On a pod: "eager" asks for everything at once, "on-demand" for what the pod uses."""
CONFIG_METADATA = "PILOTFISH_CONFIG"
"""The same in a proxy's metadata (the mesh's defaultConfig: `proxyMetadata: {ISTIO_META_PILOTFISH_CONFIG: eager}`)."""


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
