"""Where EnvoyFilters meet specs: a spec that patches mean is wrapped together with them, and is a key like any other.

What no patch means stays what it is, and costs nothing more.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

from pilotfish.mesh.envoy_filters import Patch
from pilotfish.mesh.records import Record
from pilotfish.xds import source
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import ClusterSpec, InboundClusterSpec
from pilotfish.xds.entries import Spec, serialise
from pilotfish.xds.patches.clusters import means_cluster, patch_cluster
from pilotfish.xds.patches.listeners import patch_listener
from pilotfish.xds.patches.routes import means_routes, patch_routes
from pilotfish.xds.patches.values import value_of

Context = Literal["SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"]
_OF_ROUTES = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_INSIDE = {
    source.LISTENER: _OF_ROUTES | {"LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"},
    source.ROUTE: _OF_ROUTES,
    source.CLUSTER: frozenset({"CLUSTER"}),
}
"""What there is to patch in resources of each type."""
ADDED = {"LISTENER": source.LISTENER, "CLUSTER": source.CLUSTER, "EXTENSION_CONFIG": source.EXTENSION}
"""What patches add as a whole, and its type."""
GatewayPorts = tuple[tuple[int, tuple[int, ...]], ...]


class PatchedSpec(Record):
    """A spec whose resource is changed by patches after it is built; `ports` are a gateway's (see `Patching`)."""

    base: Spec
    patches: tuple[Patch, ...]
    ports: GatewayPorts | None = None

    @property
    def type_url(self) -> str:
        return self.base.type_url

    @property
    def name(self) -> str:
        return self.base.name

    def body(self) -> bytes:
        """Under the name that it had: by another one nobody would find it, and no update take it away."""
        body = self.base.body()
        if self.type_url == source.CLUSTER:
            cluster = cluster_pb2.Cluster.FromString(body)
            patch_cluster(cluster, self.patches)
            cluster.name = self.name
            return serialise(cluster)
        if self.type_url == source.ROUTE:
            configuration = route_pb2.RouteConfiguration.FromString(body)
            patch_routes(configuration, self.patches)
            configuration.name = self.name
            return serialise(configuration)
        listener = listener_pb2.Listener.FromString(body)
        patch_listener(listener, self.patches, dict(self.ports) if self.ports is not None else None)
        listener.name = self.name
        return serialise(listener)

    def is_removed(self) -> bool:
        """Whether a patch takes the whole resource away."""
        if self.type_url == source.CLUSTER:
            return any(patch.operation == "REMOVE" for patch in self.patches)
        removing = tuple(p for p in self.patches if p.apply_to == "LISTENER" and p.operation == "REMOVE")
        if self.type_url != source.LISTENER or not removing:
            return False
        return not patch_listener(listener_pb2.Listener.FromString(self.base.body()), removing)


class Patching(Record):
    """What is done to the specs of a sidecar or a gateway. `ports` are those on which a gateway listens, each with the
    ports of its servers that lead there.
    """

    patches: tuple[Patch, ...] = ()
    gateway: bool = False
    ports: GatewayPorts = ()

    def patched(self, spec: Spec) -> Spec | None:
        """The spec of the resource as the patches leave it; None where they remove it."""
        if not self.patches:
            return spec
        found = _fitting(self, spec.type_url, _context(spec.name, gateway=self.gateway))
        if spec.type_url == source.ROUTE:
            ports = dict(self.ports) if self.gateway else None
            found = tuple(patch for patch in found if means_routes(patch.routes, spec.name, ports))
        elif spec.type_url == source.CLUSTER:
            name, service = _known_as(spec)
            found = tuple(patch for patch in found if means_cluster(patch.cluster, name, service))
        if not found:
            return spec
        of_listener = self.gateway and spec.type_url == source.LISTENER
        patched = PatchedSpec(spec, found, self.ports if of_listener else None)
        return None if patched.is_removed() else patched


UNPATCHED = Patching()


def unpatched(spec: Spec) -> Spec:
    """The spec as it was before anything was patched."""
    return spec.base if isinstance(spec, PatchedSpec) else spec


def responsible(patches: tuple[Patch, ...], type_url: str, name: str, *, gateway: bool) -> tuple[Patch, ...]:
    """The patches that may have made a resource what it is, as far as its name tells."""
    found = []
    for patch in _fitting(Patching(patches, gateway), type_url, _context(name, gateway=gateway)):
        match type_url:
            case source.ROUTE:
                meant = means_routes(patch.routes, name, {} if gateway else None)
            case source.CLUSTER:
                meant = means_cluster(patch.cluster, name, names.host_of(name))
            case _:
                meant = patch.listener is None or patch.listener.name in ("", name)
        if meant:
            found.append(patch)
    added = (p for p in patches if p.operation == "ADD" and type_url == ADDED.get(p.apply_to))
    return (*found, *(patch for patch in added if getattr(value_of(patch), "name", None) == name))


def _context(name: str, *, gateway: bool) -> Context:
    if gateway:
        return "GATEWAY"
    inbound = name in (names.VIRTUAL_INBOUND, names.INBOUND_PASSTHROUGH) or name.startswith("inbound|")
    return "SIDECAR_INBOUND" if inbound else "SIDECAR_OUTBOUND"


@lru_cache(maxsize=1024)
def _fitting(patching: Patching, type_url: str, context: Context) -> tuple[Patch, ...]:
    """The patches that something in resources of a type may be meant by; adding whole ones is left out."""
    inside = _INSIDE.get(type_url, frozenset())
    return tuple(
        patch
        for patch in patching.patches
        if patch.apply_to in inside
        and patch.context in ("ANY", context)
        and not (patch.apply_to in ADDED and patch.operation != "REMOVE" and not patch.merges)
    )


def _known_as(spec: Spec) -> tuple[str, str]:
    """The name by which a cluster is matched, and its service.

    One that an address and a port name stands for that of the host which has them.
    """
    if isinstance(spec, InboundClusterSpec):
        return spec.name, spec.service.host if spec.service else ""
    name = spec.assignment or spec.name if isinstance(spec, ClusterSpec) else spec.name
    return name, names.host_of(name) if "|" in name else ""
