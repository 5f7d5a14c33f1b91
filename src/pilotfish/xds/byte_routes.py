"""The TCP and TLS routes of a VirtualService: which mean a connection, and where it goes then.

Istio: pilot/pkg/networking/core/tls.go for sidecars, gateway.go for gateways.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from pilotfish.api.networking.destination import RouteDestination
from pilotfish.api.networking.virtual_service import L4MatchAttributes, TLSMatchAttributes
from pilotfish.mesh.gateway_names import MESH_GATEWAY, gateway_name
from pilotfish.mesh.hostnames import resolve
from pilotfish.mesh.policies import Routing, Rule
from pilotfish.mesh.records import ServicePort
from pilotfish.mesh.seen import Seen
from pilotfish.mesh.traffic_policy import traffic_policy
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.listeners import TcpChain
from pilotfish.xds.build.tcp_policy import TcpPolicy, tcp_policy
from pilotfish.xds.http_routes import ClusterOf
from pilotfish.xds.stat_names import stat_name

L4Match = L4MatchAttributes | TLSMatchAttributes
Targets = tuple[tuple[str, int], ...]
ChainOf = Callable[..., TcpChain]
"""The chain for the destinations of a route, where the host is or in subnets, with server names if need be."""


def is_at(match: L4Match, gateway: str, port: int, namespace: str) -> bool:
    """Whether a match of a VirtualService in `namespace` means connections to a port of a gateway."""
    gateways = {gateway_name(name, namespace) for name in match.gateways}
    return match.port in (0, port) and (not gateways or gateway in gateways)


def targets(route: tuple[RouteDestination, ...], cluster_of: ClusterOf) -> Targets:
    """The clusters of a route with their weights; of several those without a weight get nothing."""
    weighed = [to for to in route if to.weight] if len(route) > 1 else route
    return tuple((cluster_of(to.destination), to.weight) for to in weighed or route[:1])


def routed_chains(
    seen: Seen, port: ServicePort, audience: Audience, clusters_of: Callable[[Routing], ClusterOf], own: TcpChain
) -> tuple[TcpChain, ...]:
    """What sidecars do with connections to a port of a host by the routes of all its VirtualServices; none where no
    route means them. `own` is the chain that the host has without routes.

    A route of bytes that takes all of them is the last.
    """
    found: dict[tuple[object, ...], TcpChain] = {}
    for routing in (routing for group in seen.routings for routing in group):
        chain_of = partial(_chain, seen, routing, port.number, audience, clusters_of(routing), own)
        made = _by_server_name if port.protocol.is_tls else _by_address
        for chain in made(routing, port.number, audience, own.ranges, chain_of):
            found.setdefault(chain.match, chain)
            if not port.protocol.is_tls and chain.ranges == own.ranges:
                return tuple(found.values())
    return tuple(found.values())


def _chain(
    seen: Seen,
    routing: Routing,
    port: int,
    audience: Audience,
    cluster_of: ClusterOf,
    own: TcpChain,
    route: tuple[RouteDestination, ...],
    ranges: tuple[str, ...],
    names: tuple[str, ...] = (),
) -> TcpChain:
    return msgspec.structs.replace(
        own,
        targets=targets(route, cluster_of),
        ranges=ranges,
        server_names=names,
        policy=_policy(seen, routing, route, port, audience),
        stat_prefix=_stat_name(seen, routing, route, port, audience),
    )


def _stat_name(seen: Seen, routing: Routing, route: tuple[RouteDestination, ...], port: int, audience: Audience) -> str:
    """What connections to the only destination of a route are called in statistics."""
    to = route[0].destination
    found = seen.destination(resolve(to.host, routing.namespace, audience.settings.cluster_domain))
    number = to.port.number if to.port else port
    if found is None or len(route) > 1:
        return ""
    ports = (each for each in found.service.ports if each.number == number)
    pattern = audience.settings.outbound_stat_name
    return next((stat_name(pattern, found.service, each, to.subset) for each in ports), "")


def _policy(
    seen: Seen, routing: Routing, route: tuple[RouteDestination, ...], port: int, audience: Audience
) -> TcpPolicy:
    to = route[0].destination
    found = seen.destination(resolve(to.host, routing.namespace, audience.settings.cluster_domain))
    return policy_of(found.rule if found else None, route, port, audience)


def policy_of(rule: Rule | None, route: tuple[RouteDestination, ...], port: int, audience: Audience) -> TcpPolicy:
    """What the DestinationRule of a route's first destination says of connections that came at a port (Istio)."""
    to = route[0].destination
    number = to.port.number if to.port else port
    subset = to.subset if len(route) == 1 else ""
    return tcp_policy(traffic_policy(rule, number, subset, audience.settings.default_policy))


def _by_server_name(
    routing: Routing, port: int, audience: Audience, ranges: tuple[str, ...], chain_of: ChainOf
) -> Iterator[TcpChain]:
    for route in routing.spec.tls:
        for match in route.match if route.route else ():
            subnets = tuple(_subnets([match], audience))
            if _is_for(match, routing, port, audience) and (subnets or not match.destination_subnets):
                names = tuple(dict.fromkeys(name.lower() for name in match.sni_hosts))
                yield chain_of(route.route, subnets or ranges, () if "*" in names else names)


def _by_address(
    routing: Routing, port: int, audience: Audience, ranges: tuple[str, ...], chain_of: ChainOf
) -> Iterator[TcpChain]:
    """A route without a condition on subnets takes all connections to `ranges`."""
    for route in routing.spec.tcp:
        matches = [match for match in route.match if _is_for(match, routing, port, audience)]
        if not route.route or (route.match and not matches):
            continue
        if not route.match or any(not match.destination_subnets for match in matches):
            yield chain_of(route.route, ranges)
        elif subnets := tuple(_subnets(matches, audience)):
            yield chain_of(route.route, subnets)


def _is_for(match: L4Match, routing: Routing, port: int, audience: Audience) -> bool:
    return (
        is_at(match, MESH_GATEWAY, port, routing.namespace)
        and match.source_labels.items() <= dict(audience.labels).items()
        and match.source_namespace in ("", audience.namespace)
    )


def _subnets(matches: Iterable[L4Match], audience: Audience) -> Iterator[str]:
    """The subnets of the audience's IP family, each once and in one way of writing it: Envoy refuses a second."""
    given = {str(ipaddress.ip_network(subnet, strict=False)) for each in matches for subnet in each.destination_subnets}
    yield from sorted(filter(audience.reaches, given))
