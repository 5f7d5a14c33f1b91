"""What one host puts into the configuration of the proxies that see it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from pilotfish.mesh.imports import CAPTURED, SOCKET, Binding
from pilotfish.mesh.policies import Rule
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Age, Host, Resolution, Service, ServicePort
from pilotfish.mesh.seen import Seen
from pilotfish.mesh.traffic_policy import traffic_policy
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.clusters import ClusterSpec
from pilotfish.xds.build.endpoints import AssignmentSpec
from pilotfish.xds.build.listeners import Chain, HttpChain, TcpChain
from pilotfish.xds.build.routes import RouteConfigurationSpec, VirtualHostSpec
from pilotfish.xds.build.tcp_policy import tcp_policy
from pilotfish.xds.byte_routes import routed_chains
from pilotfish.xds.request_routes import cluster_of, routes_of
from pilotfish.xds.stat_names import stat_name
from pilotfish.xds.upstreams import assignments, cluster_name, clusters
from pilotfish.xds.wanted_hosts import (
    WantedHost,
    of_alias,
    on_sockets,
    route_name,
    server_names,
    single_addresses,
    unregistered,
    virtual_host,
)


class Claim(NamedTuple):
    """What one host wants of the listener at an address and port (0 for a Unix socket); `bound` as in `Binding`."""

    address: str
    port: int
    protocol: Protocol
    age: Age
    chains: tuple[Chain, ...]
    bound: bool = False


class Outbound(NamedTuple):
    """All that one host contributes."""

    clusters: tuple[ClusterSpec, ...] = ()
    assignments: tuple[AssignmentSpec, ...] = ()
    claims: tuple[Claim, ...] = ()
    virtual_hosts: tuple[WantedHost, ...] = ()
    routes: tuple[RouteConfigurationSpec, ...] = ()
    on_sockets: tuple[tuple[str, WantedHost], ...] = ()
    """Virtual hosts of listeners on Unix sockets, by the socket, and of the port for requests to an HTTP proxy."""

    def targets(self) -> Iterator[str]:
        """The clusters to which its listeners and routes lead, those of other hosts among them."""
        for claim in self.claims:
            for chain in claim.chains:
                yield from chain.clusters
        for host in (*self.virtual_hosts, *(host for _, host in self.on_sockets)):
            for route in host.routes:
                yield from route.clusters

    def addresses(self) -> tuple[tuple[str, int], ...]:
        """The addresses and ports of its own to which there are requests."""
        return tuple((address.strip("[]"), host.port) for host in self.virtual_hosts for address in host.addresses)


def outbound(seen: Seen, audience: Audience) -> Outbound:
    """A host's contribution to what proxies of an audience get.

    A host that no VirtualService routes looks the same from everywhere but its own namespace, which has short names for
    it, and behind a Sidecar: that is made once for all namespaces.
    """
    if seen.host is None or seen.routings or audience.egress:
        return _outbound(seen, audience)
    viewer = audience.at_home if _at_home(seen.host.service, audience) else audience.anywhere
    made = _made.setdefault(seen.host, {})
    rule, found = made.get(viewer, (None, None))
    if found is None or rule is not seen.rule:
        if len(made) >= _KEPT:
            made.clear()
        found = _outbound(seen, viewer)
        made[viewer] = seen.rule, found
    return found


_KEPT = 4
"""For how many audiences a host's contribution is kept: two are usual, and there are others after settings changed."""
_made: WeakKeyDictionary[Host, dict[Audience, tuple[Rule | None, Outbound]]] = WeakKeyDictionary()


def _at_home(service: Service, audience: Audience) -> bool:
    own = f".{audience.namespace}.svc."
    return any(own in name for name in (service.hostname.lower(), *service.aliases))


def _outbound(seen: Seen, audience: Audience) -> Outbound:
    host = seen.host
    if host is None:
        return Outbound(virtual_hosts=tuple(unregistered(seen, audience)))
    if seen.aside:
        return Outbound(clusters=clusters(seen, audience), assignments=assignments(seen, audience))
    service = host.service
    if service.resolution is Resolution.ALIAS:
        return Outbound(virtual_hosts=tuple(of_alias(seen, service, audience)))
    ports = [port for port in service.ports if port.protocol is not Protocol.UDP]
    http = [port for port in ports if _takes_requests(service, port, audience)]
    claims = tuple(claim for port in ports for claim in _claims(seen, host, port, audience))
    asked_for = {chain.route for claim in claims for chain in claim.chains if isinstance(chain, HttpChain)}
    return Outbound(
        clusters=clusters(seen, audience),
        assignments=assignments(seen, audience),
        claims=claims,
        virtual_hosts=tuple(virtual_host(seen, service, port, audience) for port in http),
        routes=tuple(
            _own_routes(seen, service, port, audience) for port in http if route_name(service, port) in asked_for
        ),
        on_sockets=tuple(on_sockets(seen, service, http, audience)),
    )


def _takes_requests(service: Service, port: ServicePort, audience: Audience) -> bool:
    if port.protocol.is_http or port.protocol is Protocol.AUTO:
        return True
    bindings = audience.viewer.bindings(service, port.number) if audience.egress else ()
    return any(binding.protocol.is_http for binding in bindings)


def announced(seen: Seen, audience: Audience) -> bool:
    """Whether all of a host is reached by an address that its name alone tells, so that nobody uses it unasked.

    Not so a host without an address of its own, or with a whole range: its connections are told by their port, by a
    server name or by a `Host` header alone, or by an address that a Sidecar binds. Nor one whose address somebody wrote
    into a ServiceEntry, or a name that no registry has; nor one of whose connections the address does not say where
    they go, but a VirtualService, by server name or by weight.
    """
    if seen.host is None:
        return False
    if seen.aside:
        return True
    if any(listener.binding.address != CAPTURED for listener in audience.egress):
        return False
    service = seen.host.service
    if service.literal or not (service.headless or single_addresses(service, audience)):
        return False
    claims = outbound(seen, audience).claims
    chains = (chain for claim in claims for chain in claim.chains if isinstance(chain, TcpChain))
    if any(chain.server_names or len(chain.targets) > 1 for chain in chains):
        return False
    return all(claim.protocol.is_http for claim in claims if claim.address == audience.wildcard)


def _claims(seen: Seen, host: Host, port: ServicePort, audience: Audience) -> list[Claim]:
    found: list[Claim] = []
    for binding in audience.viewer.bindings(host.service, port.number):
        spoken = port if binding.protocol is Protocol.AUTO else replace(port, protocol=binding.protocol)
        if binding.address == CAPTURED:
            found += _captured(seen, host, spoken, audience)
        elif not binding.address.startswith(SOCKET):
            found.append(_bound_claim(seen, host.service, spoken, audience, binding, str(port.number), port.number))
        elif spoken.protocol.is_http or port.key == _first_port(host.service).key:
            found.append(_bound_claim(seen, host.service, spoken, audience, binding, binding.address, 0))
    return found


def _bound_claim(
    seen: Seen, service: Service, port: ServicePort, audience: Audience, binding: Binding, route: str, at: int
) -> Claim:
    """What a host wants of a listener that its Sidecar binds, where nothing tells one host's bytes from another's."""
    if port.protocol.is_http:
        chains: tuple[Chain, ...] = (HttpChain(route),)
    else:
        chains = _chains(seen, service, port, audience, anywhere=True)
        chains = tuple(chain for chain in chains if at or isinstance(chain, TcpChain))
    return Claim(binding.address, at, port.protocol, service.age, chains, binding.bound)


def _first_port(service: Service) -> ServicePort:
    """The port to which bytes go of which nothing says to which."""
    return next(port for port in service.ports if port.protocol is not Protocol.UDP)


def _captured(seen: Seen, host: Host, port: ServicePort, audience: Audience) -> list[Claim]:
    service = host.service
    wildcard = audience.wildcard

    def claim(address: str, *chains: Chain) -> Claim:
        return Claim(address, port.number, port.protocol, service.age, chains)

    if port.protocol.is_http:
        dynamic = service.resolution is Resolution.DYNAMIC_DNS
        found = [claim(wildcard, HttpChain(str(port.number), dynamic))]
    elif service.headless:
        found = [
            claim(address, *_chains(seen, service, port, audience)) for address in _pod_addresses(host, port, audience)
        ]
    else:
        found = [
            claim(address, *_chains(seen, service, port, audience)) for address in single_addresses(service, audience)
        ]
        addresses = audience.addresses(service)
        ranges = tuple(sorted(a for a in addresses if "/" in a and audience.reaches(a)))
        if ranges:
            found.append(claim(wildcard, *_chains(seen, service, port, audience, ranges)))
        elif not addresses:
            found.append(claim(wildcard, *_chains(seen, service, port, audience, anywhere=True)))
    return [c for c in found if c.address != wildcard or not audience.settings.reserved(c.port)]


def _pod_addresses(host: Host, port: ServicePort, audience: Audience) -> list[str]:
    """A headless service has listeners at its pods' own addresses."""
    return sorted({e.address for e in host.serving(port) if audience.reaches(e.address)})


def _chains(
    seen: Seen,
    service: Service,
    port: ServicePort,
    audience: Audience,
    ranges: tuple[str, ...] = (),
    *,
    anywhere: bool = False,
) -> tuple[Chain, ...]:
    """Bytes to where the host's VirtualService sends them, else to its own cluster, and HTTP by routes where nothing
    says what the port speaks.

    TLS that a VirtualService routes at all goes nowhere else (Istio). Where the address does not tell whose a TLS
    connection is, its server name must; and where that is looked up.
    """
    dynamic = service.resolution is Resolution.DYNAMIC_DNS
    name = port.protocol.is_tls and (anywhere or bool(ranges) or dynamic)
    own = TcpChain(
        ((cluster_name(service, port), 1),),
        ranges,
        server_names(service, audience) if name else (),
        lookup_port=int(port.target) if dynamic else 0,
        mongo=port.protocol is Protocol.MONGO,
        policy=tcp_policy(traffic_policy(seen.rule, port.number, default=audience.settings.default_policy)),
        stat_prefix=stat_name(audience.settings.outbound_stat_name, service, port),
    )
    routed: tuple[TcpChain, ...] = ()
    if seen.routings:
        routed = routed_chains(seen, port, audience, partial(cluster_of, seen, port.number, audience), own)
    if port.protocol.is_tls:
        return routed or (own,)
    if port.protocol is not Protocol.AUTO:
        return *routed, own
    shared = anywhere or bool(ranges)
    return *routed, own, HttpChain(str(port.number) if shared else route_name(service, port))


def _own_routes(seen: Seen, service: Service, port: ServicePort, audience: Audience) -> RouteConfigurationSpec:
    """The routes of a listener that stands for one host alone."""
    name = route_name(service, port)
    host = VirtualHostSpec(name, ("*",), routes_of(seen, service, port, audience))
    return RouteConfigurationSpec(name, (host,), catch_all="", headers=audience.settings.http.on_routes)
