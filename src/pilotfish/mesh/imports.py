"""What Sidecar resources let workloads see of the mesh, and which Sidecar is a workload's.

Istio: pilot/pkg/model/sidecar.go.
"""

from __future__ import annotations

from typing import NamedTuple

from pilotfish.api import networking
from pilotfish.api.istio_validation.tls import TERMINATING
from pilotfish.api.meta import Object
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings
from pilotfish.api.networking.destination import Destination
from pilotfish.api.networking.sidecar import IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy
from pilotfish.mesh import protocols
from pilotfish.mesh.hostnames import matches
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Age, Labels, ObjectKey, Record, labels_of
from pilotfish.mesh.servers import Termination
from pilotfish.mesh.terminations import termination

_OWN, _ANY, _EXCLUDED = ".", "*", "~"
CAPTURED = ""
"""The address of a binding that is none: connections are captured."""
SOCKET = "unix://"
"""How the address of a binding begins that is a Unix socket."""


class Binding(NamedTuple):
    """Where a workload reaches a port of a host: `address` is CAPTURED where it connects to the host's own, else an
    address or Unix socket, on which (`bound`) the proxy itself may listen. `protocol` is what the listener speaks,
    AUTO for what the port does.
    """

    address: str = CAPTURED
    bound: bool = False
    protocol: Protocol = Protocol.AUTO


class Egress(Record):
    """An egress listener: `hosts` are (namespace, host name or wildcard), without those that are `excluded`; `port` 0
    is any.
    """

    hosts: tuple[tuple[str, str], ...]
    excluded: tuple[tuple[str, str], ...] = ()
    port: int = 0
    binding: Binding = Binding()

    def imports(self, namespace: str, hostname: str) -> bool:
        return _among(self.hosts, namespace, hostname) and not _among(self.excluded, namespace, hostname)

    @property
    def on_socket(self) -> bool:
        return self.binding.address.startswith(SOCKET)


def _among(hosts: tuple[tuple[str, str], ...], namespace: str, hostname: str) -> bool:
    return any(where in (_ANY, namespace) and matches(hostname, pattern) for where, pattern in hosts)


def bindings(egress: tuple[Egress, ...], namespace: str, hostname: str, port: int) -> tuple[Binding, ...]:
    """Where a workload with these listeners reaches a port of a host: the bindings of the listeners that import it.

    A listener for a port goes before the one for any port, and sockets are beside them. None: it does not see the port.
    """
    if not egress:
        return (Binding(),)
    found = [listener for listener in egress if listener.on_socket or (port and listener.port == port)]
    if all(listener.binding.address for listener in found):
        found += [listener for listener in egress if not listener.port and not listener.on_socket]
    return tuple(dict.fromkeys(each.binding for each in found if each.imports(namespace, hostname)))


class Ingress(Record):
    """An ingress listener: a port of the workload, and where its program listens for it.

    `address` is "" where that is the address to which the connection came, `target` 0 where it is the same port (and
    where `address` is a Unix socket). `pool` limits the connections to the program. `bind` is the address that the
    listener is named by, "" for the usual; `bound`: the proxy listens there, since nothing captures. `tls` ends here,
    and `protocol` is what is within it.
    """

    port: int
    protocol: Protocol
    bind: str = ""
    bound: bool = False
    tls: Termination | None = None
    address: str = ""
    target: int = 0
    pool: ConnectionPoolSettings | None = None


class SidecarScope(Record):
    """A Sidecar. Without `egress` its workloads see the whole mesh; without `ingress` they serve what selects them.

    `inbound_pool` limits the connections to all that they serve.
    """

    source: ObjectKey
    created: str
    selector: Labels
    egress: tuple[Egress, ...]
    ingress: tuple[Ingress, ...]
    inbound_pool: ConnectionPoolSettings | None
    outbound: OutboundTrafficPolicy | None

    @property
    def age(self) -> Age:
        return self.created, self.source.namespace, self.source.name, ""

    @property
    def refuses_unknown(self) -> bool | None:
        """Whether connections to unknown destinations are refused; None where the mesh decides."""
        return self.outbound.mode == "REGISTRY_ONLY" if self.outbound else None

    @property
    def egress_proxy(self) -> Destination | None:
        """Where goes what is for no host that the workloads see."""
        return self.outbound.egress_proxy if self.outbound else None


class Sidecars:
    """All Sidecars of the mesh, by namespace."""

    def __init__(self, root_namespace: str) -> None:
        self.root_namespace = root_namespace
        self._scopes: dict[str, dict[ObjectKey, SidecarScope]] = {}

    def apply(self, before: Object | None, after: Object | None) -> bool:
        """Take in a changed Sidecar; gives whether it says something else now, and False for other kinds."""
        obj = after if after is not None else before
        if not isinstance(obj, networking.Sidecar):
            return False
        key = ObjectKey("Sidecar", obj.namespace, obj.name)
        scopes = self._scopes.setdefault(key.namespace, {})
        was = scopes.pop(key, None)
        if after is not None:
            scopes[key] = _scope(key, obj)
        if not scopes:
            del self._scopes[key.namespace]
        return was != scopes.get(key)

    def of(self, namespace: str, labels: Labels) -> SidecarScope | None:
        """The Sidecar of a workload: one that selects it, else its namespace's, else the root namespace's. Of several
        the oldest.
        """
        own = sorted(self._scopes.get(namespace, {}).values(), key=lambda scope: scope.age)
        for scope in own:
            if scope.selector and set(scope.selector) <= set(labels):
                return scope
        for where in (namespace, self.root_namespace):
            for scope in sorted(self._scopes.get(where, {}).values(), key=lambda scope: scope.age):
                if not scope.selector:
                    return scope
        return None

    @property
    def ending_tls(self) -> frozenset[str]:
        """The namespaces whose Sidecars have workloads end TLS of their own."""
        return frozenset(where for where, scopes in self._scopes.items() if any(map(_ended_ports, scopes.values())))

    def ends_tls(self, namespace: str, labels: Labels, port: int) -> bool:
        """Whether a workload's proxy ends TLS of its own at a port, and so takes no mutual TLS of the mesh there."""
        scope = self.of(namespace, labels) if self._scopes else None
        return scope is not None and port in _ended_ports(scope)

    def reaches(self, where: frozenset[str], namespace: str) -> bool:
        """Whether the Sidecars of some of these namespaces may be those of workloads of another one."""
        return namespace in where or self.root_namespace in where


def _ended_ports(scope: SidecarScope) -> tuple[int, ...]:
    return tuple(listener.port for listener in scope.ingress if listener.tls is not None)


def _scope(key: ObjectKey, obj: networking.Sidecar) -> SidecarScope:
    spec = obj.spec
    return SidecarScope(
        source=key,
        created=obj.metadata.creation_timestamp or "",
        selector=labels_of(spec.workload_selector.labels) if spec.workload_selector else (),
        egress=tuple(_egress(listener, key.namespace) for listener in spec.egress),
        ingress=tuple(_ingress(listener, spec.inbound_connection_pool) for listener in spec.ingress),
        inbound_pool=spec.inbound_connection_pool,
        outbound=spec.outbound_traffic_policy,
    )


def _ingress(listener: IstioIngressListener, pool: ConnectionPoolSettings | None) -> Ingress:
    """0.0.0.0 and [::] as an endpoint are the workload's own address (Istio)."""
    endpoint = listener.default_endpoint
    address, port = endpoint, "0"
    if not endpoint.startswith("unix://"):
        address, _, port = endpoint.rpartition(":")
    protocol = protocols.parse(listener.port.protocol)
    tls = termination(listener.tls) if listener.tls and listener.tls.mode in TERMINATING else None
    return Ingress(
        port=listener.port.number,
        protocol=protocol.decrypted if tls else protocol,
        bind=listener.bind,
        bound=listener.capture_mode == "NONE",
        tls=tls,
        address="" if address in ("0.0.0.0", "[::]") else address.strip("[]"),
        target=int(port or 0),
        pool=listener.connection_pool or pool,
    )


def _egress(listener: IstioEgressListener, namespace: str) -> Egress:
    """A host is excluded by a "~" before its namespace; one that stands alone means any."""
    hosts: list[tuple[str, str]] = []
    excluded: list[tuple[str, str]] = []
    for host in listener.hosts:
        where, _, pattern = host.lower().partition("/")
        listed = excluded if where.startswith(_EXCLUDED) else hosts
        where = where.removeprefix(_EXCLUDED) or _ANY
        listed.append((namespace if where == _OWN else where, pattern))
    bound = listener.capture_mode == "NONE" or listener.bind.startswith(SOCKET)
    protocol = protocols.parse(listener.port.protocol) if listener.port else Protocol.AUTO
    return Egress(
        hosts=tuple(hosts),
        excluded=tuple(excluded),
        port=listener.port.number if listener.port else 0,
        binding=Binding(listener.bind or ("127.0.0.1" if bound else CAPTURED), bound, protocol),
    )
