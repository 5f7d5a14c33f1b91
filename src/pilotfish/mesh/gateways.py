"""Istio's Gateways as servers, found by the labels of the pods that serve them."""

from __future__ import annotations

from pilotfish.api import networking
from pilotfish.api.meta import Object
from pilotfish.api.networking.gateway import Server as GatewayServer
from pilotfish.mesh import protocols, terminations
from pilotfish.mesh.index import SelectorIndex
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Labels, ObjectKey, Record, labels_of
from pilotfish.mesh.servers import ANYONE, Server, ServerHost, Tls

_EVERYWHERE = ""  # Gateways select pods of every namespace
_PASSED_ON = {"PASSTHROUGH": Tls.PASSTHROUGH, "AUTO_PASSTHROUGH": Tls.AUTO_PASSTHROUGH}


class _Held(Record):
    selector: Labels
    servers: tuple[Server, ...]


class Gateways:
    """All Gateways of the mesh."""

    def __init__(self) -> None:
        self._held: dict[ObjectKey, _Held] = {}
        self._selecting: SelectorIndex[ObjectKey] = SelectorIndex()
        self._everyones: set[ObjectKey] = set()

    def servers(self, labels: Labels) -> tuple[Server, ...]:
        """The servers of all Gateways that select pods with these labels, those of the oldest first."""
        selecting = (*self._selecting.matching(_EVERYWHERE, labels), *self._everyones)
        found = [server for key in dict.fromkeys(selecting) for server in self._held[key].servers]
        return tuple(sorted(found, key=lambda server: server.age))

    def apply(self, before: Object | None, after: Object | None) -> frozenset[str]:
        """Take in a changed object; gives the names ("<namespace>/<name>") of Gateways that are not what they were."""
        obj = after if after is not None else before
        if not isinstance(obj, networking.Gateway):
            return frozenset()
        key = ObjectKey("Gateway", obj.namespace, obj.name)
        had = self._held.pop(key, None)
        self._selecting.discard(key)
        self._everyones.discard(key)
        held = None
        if after is not None:
            held = self._held[key] = _Held(labels_of(obj.spec.selector), servers_of(obj))
            if held.selector:
                self._selecting.put(key, _EVERYWHERE, held.selector)
            else:
                self._everyones.add(key)
        return frozenset() if had == held else frozenset({f"{key.namespace}/{key.name}"})


def servers_of(gateway: networking.Gateway) -> tuple[Server, ...]:
    """What a Gateway asks its pods to serve."""
    return tuple(_server(gateway, position, server) for position, server in enumerate(gateway.spec.servers))


def _server(gateway: networking.Gateway, position: int, server: GatewayServer) -> Server:
    protocol = protocols.parse(server.port.protocol)
    tls = Tls.NONE
    if server.tls is not None and not protocol.is_http:
        tls = _PASSED_ON.get(server.tls.mode, Tls.TERMINATE)
    return Server(
        source=ObjectKey("Gateway", gateway.namespace, gateway.name),
        created=gateway.metadata.creation_timestamp or "",
        position=position,
        port=server.port.number,
        port_name=server.port.name,
        protocol=Protocol.TCP if protocol is Protocol.AUTO else protocol,
        hosts=_hosts(server.hosts, gateway.namespace),
        bind=server.bind,
        label=server.name,
        tls=tls,
        termination=terminations.termination(server.tls) if server.tls is not None and tls is Tls.TERMINATE else None,
        https_redirect=server.tls is not None and server.tls.https_redirect,
    )


def _hosts(hosts: tuple[str, ...], own: str) -> tuple[ServerHost, ...]:
    """Hosts as "<namespace>/<host>", where "." is the Gateway's namespace and "*", like none at all, is any."""
    found = []
    for host in hosts:
        namespace, slash, hostname = host.rpartition("/")
        found.append(ServerHost({".": own}.get(namespace, namespace) if slash else ANYONE, hostname.lower()))
    return tuple(dict.fromkeys(found))
