"""Which API objects a refused resource came from, and which of them Envoys refuse at present.

A NACK names resources; users know Services and ServiceEntries. Where too many objects shape a resource for any of
them to be the cause on its name alone, the proxy's own pod is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from pilotfish.mesh.envoy_filters import Patch
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import ObjectKey, Registry, Service, WorkloadKey, labels_of
from pilotfish.mesh.servers import Server
from pilotfish.xds.build.names import listener as listener_name
from pilotfish.xds.faults import Unapplied
from pilotfish.xds.gateway_hosts import route_name
from pilotfish.xds.patching import responsible
from pilotfish.xds.secrets import secret_resources
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, ProxyNode
from pilotfish.xds.status import Log, Rejection, Versions
from pilotfish.xds.workload import workload_of

FEW = 5
"""How many objects can share the blame for one resource."""

Report = Callable[[ObjectKey, str | None], None]
"""Called with an object and Envoy's words, or None once no proxy refuses anything of it any more."""


def _nobody(key: ObjectKey, words: str | None) -> None: ...


_Refusal = tuple[str, str, str]
"""(proxy id, type URL, resource name)."""

_CLUSTER = re.compile(r"^outbound(?P<udp>_udp)?\|(?P<port>\d+)\|[^|]*\|(?P<host>.+)$")
_LISTENER = re.compile(r"^(?P<udp>udp_)?(?P<address>.+)_(?P<port>\d+)$")
_ROUTE = re.compile(r"^(?:(?P<host>.+):)?(?P<port>\d+)$")


class Blame(Log):
    """The observer of ADS streams that tells of objects what proxies refuse of them."""

    def __init__(self, model: Model, report: Report, unapplied: Report = _nobody) -> None:
        """`unapplied` is told of EnvoyFilters that have no effect somewhere, which is known when proxies are served."""
        self._unapplied = Unapplied(model.envoy_filters, unapplied)
        self._model = model
        self._report = report
        self._blamed: dict[_Refusal, tuple[ObjectKey, ...]] = {}
        self._standing: dict[ObjectKey, dict[_Refusal, str]] = {}

    def rejected(self, node: ProxyNode, rejection: Rejection) -> None:
        super().rejected(node, rejection)
        for name in rejection.names:
            refusal = (node.id, rejection.type_url, name)
            self._forgive(refusal)
            objects = blamed(self._model, node, rejection.type_url, name)
            self._blamed[refusal] = objects
            for key in objects:
                words = f"{node.name}.{node.namespace} refused {name}: {rejection.message}"
                self._standing.setdefault(key, {})[refusal] = words
                self._report(key, words)

    def acknowledged(self, node: ProxyNode, type_url: str, versions: Versions) -> None:
        for name in versions if self._blamed else ():
            self._forgive((node.id, type_url, name))
        self._unapplied.look()

    def disconnected(self, node: ProxyNode) -> None:
        for refusal in [refusal for refusal in self._blamed if refusal[0] == node.id]:
            self._forgive(refusal)

    def refusals(self, key: ObjectKey) -> dict[str, str]:
        """The proxies that refuse something of an object at present, by node id, and what they say."""
        return {proxy: words for (proxy, _, _), words in self._standing.get(key, {}).items()}

    def _forgive(self, refusal: _Refusal) -> None:
        for key in self._blamed.pop(refusal, ()):
            standing = self._standing[key]
            del standing[refusal]
            if not standing:
                del self._standing[key]
            self._report(key, next(iter(standing.values()), None))


def blamed(model: Model, node: ProxyNode, type_url: str, name: str) -> tuple[ObjectKey, ...]:
    """The objects that a proxy's resource came from: at most a few, else its pod.

    Where EnvoyFilters have changed it they have the blame alone: what it was before is ours.
    """
    keys = {patch.source for patch in _patches(model, node, type_url, name)}
    if 0 < len(keys) <= FEW:
        return tuple(sorted(keys))
    keys = {object_of(service) for service in _sources(model, node, type_url, name)}
    if not keys and node.type == "router":
        keys = {server.source for server in _servers(model, node, type_url, name)}
    if 0 < len(keys) <= FEW:
        return tuple(sorted(keys))
    return (ObjectKey("Pod", node.namespace, node.name),)


def object_of(service: Service) -> ObjectKey:
    """The API object that defines a service."""
    kind = "Service" if service.registry is Registry.KUBERNETES else "ServiceEntry"
    return ObjectKey(kind, service.namespace, service.name)


def _patches(model: Model, node: ProxyNode, type_url: str, name: str) -> Iterable[Patch]:
    if node.type not in ("sidecar", "router"):
        return ()
    workload = model.workload(workload_of(node))
    labels = workload.labels if workload else labels_of(node.labels)
    patches = model.envoy_filters.of(node.namespace, labels, node.metadata)
    return responsible(patches, type_url, name, gateway=node.type == "router")


def _servers(model: Model, node: ProxyNode, type_url: str, name: str) -> Iterator[Server]:
    """The servers that a gateway's listener, route configuration or secret is for."""
    workload = model.workload(WorkloadKey(node.namespace, node.name))
    if workload is None:
        return
    ports = model.target_ports(workload.namespace, workload.labels, workload)
    for server in model.gateways.servers(workload.labels):
        port = ports.get(server.port, server.port)
        termination = server.termination
        if (
            (type_url == LISTENER and name == listener_name(server.bind or "0.0.0.0", port))
            or (type_url == ROUTE and name == route_name(server, port))
            or (type_url == SECRET and termination is not None and name in secret_resources(termination))
        ):
            yield server


def _sources(model: Model, node: ProxyNode, type_url: str, name: str) -> Iterator[Service]:
    if type_url in (CLUSTER, ENDPOINT) and (found := _CLUSTER.match(name)):
        hostname = found["host"].lower()
        hosts = model.definitions(hostname)
        seen = None if node.type == "router" else model.seen_from(node.namespace, hostname)
        return (host.service for host in ([seen] if seen else hosts))
    if type_url == LISTENER and (found := _LISTENER.match(name)):
        return _on_port(model, node, int(found["port"]), address=found["address"], udp=bool(found["udp"]))
    if type_url == ROUTE and (found := _ROUTE.match(name)):
        return _on_port(model, node, int(found["port"]), hostname=found["host"] or "")
    return iter(())


def _on_port(
    model: Model, node: ProxyNode, port: int, *, address: str = "0.0.0.0", hostname: str = "", udp: bool = False
) -> Iterator[Service]:
    for service in _visible(model, node):
        if node.type == "router":
            if any(p.node_port == port and p.key.udp is udp for p in service.ports):
                yield service
        elif (
            any(p.number == port and p.key.udp is udp for p in service.ports)
            and (address in ("0.0.0.0", "::") or address in service.addresses)
            and hostname.lower() in ("", service.hostname.lower())
        ):
            yield service


def _visible(model: Model, node: ProxyNode) -> Iterable[Service]:
    services = (host.service for host in model.hosts())
    return services if node.type == "router" else (s for s in services if s.visible_in(node.namespace))
