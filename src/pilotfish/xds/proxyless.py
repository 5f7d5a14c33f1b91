"""The configuration of gRPC's own xDS clients, which resolve `xds:///host:port` and call without a sidecar.

A client names what it wants, so that having all that it may want ready costs it nothing. Of a host's port it finds a
listener under each name that the host goes by, and a route configuration; and a cluster and load assignment for each
port and subset (Istio: grpcgen; there a short name means the client's own namespace, here whatever a pod's search
domains make of it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pilotfish.api.networking.connection_pool import ConnectionPoolSettings
from pilotfish.api.networking.load_balancer import LoadBalancerSettings
from pilotfish.mesh.hosts import is_ip
from pilotfish.mesh.model import Model
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Host, Resolution, Service, ServicePort
from pilotfish.mesh.seen import Seen
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names as names_of
from pilotfish.xds.build.cluster_policy import ClusterPolicy
from pilotfish.xds.build.endpoints import AssignmentSpec
from pilotfish.xds.build.http_routes import HttpRoute
from pilotfish.xds.build.proxyless import ApiListenerSpec, ProxylessClusterSpec
from pilotfish.xds.build.proxyless_routes import ProxylessRoutesSpec
from pilotfish.xds.build.routes import Route
from pilotfish.xds.entries import Spec
from pilotfish.xds.parts import NO_AGE, ContestedPart
from pilotfish.xds.request_routes import hashing, routes_of, written
from pilotfish.xds.upstreams import Use, cluster_name, shown, uses
from pilotfish.xds.wanted_hosts import short_names

_OWN, _ALIAS, _SHORT = range(3)
"""Ranks of names: a host's own goes before one that stands for it, and that before another's short one."""


class Proxyless(ContestedPart):
    """What gRPC clients of an audience may ask for. Work for a changed host does not grow with the other hosts."""

    def __init__(self, audience: Audience, model: Model) -> None:
        super().__init__()
        self.audience = audience
        self._model = model
        self._hosts: dict[str, Seen] = {}
        self.update(model.names_seen(audience.namespace))
        self.take_changes()

    def anew(self, model: Model) -> Proxyless:
        return Proxyless(self.audience, model)

    def update(self, hostnames: Iterable[str]) -> None:
        """Look again at hosts by name (in lower case)."""
        for hostname in hostnames:
            seen = self._model.look(self.audience.viewer, hostname)
            if seen == self._hosts.get(hostname):
                continue
            if seen is None:
                del self._hosts[hostname]
                for rank in (_OWN, _ALIAS, _SHORT):
                    self.claim((rank, hostname), NO_AGE, (), rank=rank)
                continue
            self._hosts[hostname] = seen
            age = seen.host.service.age if seen.host else NO_AGE
            for rank, specs in enumerate(_wanted(seen, self.audience)):
                self.claim((rank, hostname), age, specs, rank=rank)


def _wanted(seen: Seen, audience: Audience) -> tuple[list[Spec], list[Spec], list[Spec]]:
    """What a host asks for, by rank."""
    host = seen.host
    if host is None:
        return [], [], []
    service = host.service
    # gRPC keeps the spelling of a target, and host names ignore case.
    own = dict.fromkeys((service.hostname, service.hostname.lower()))
    short = short_names(service.hostname, audience)
    if service.resolution is Resolution.ALIAS:
        routed = [(number, routes) for number in _ports_behind(seen) if (routes := written(seen, number, audience))]
        names = {number: names_of.outbound(number, service.hostname) for number, _ in routed}
        of_alias = [_routes(names[number], seen, routes, audience) for number, routes in routed]
        listeners = (ApiListenerSpec(f"{name}:{number}", names[number]) for number in names for name in (*own, *short))
        return [*of_alias, *listeners], [], []
    ports = list(_ports(host))
    behind = [spec for port in ports for spec in _behind(seen, host, port, audience)]
    if seen.aside:
        return behind, [], []
    of_aliases = [form for alias in service.aliases for form in (alias, *short_names(alias, audience))]
    requests = [
        _routes(cluster_name(service, port), seen, routes_of(seen, service, port, audience), audience) for port in ports
    ]
    return (
        [*_listeners(service, ports, own), *requests, *behind],
        [*_listeners(service, ports, of_aliases)],
        [*_listeners(service, ports, short)],
    )


def _ports(host: Host) -> Iterator[ServicePort]:
    """Those that a client can be led to: a host behind which nothing is known has none, nor has a wildcard."""
    service = host.service
    if "*" in service.hostname or (service.resolution is Resolution.PASSTHROUGH and not service.headless):
        return
    for port in service.ports:
        if port.protocol is not Protocol.UDP:
            yield port


def _ports_behind(seen: Seen) -> Iterator[int]:
    """The ports of what an alias stands for."""
    ports = seen.stands_for.ports if seen.stands_for else ()
    return (port.number for port in ports if port.protocol is not Protocol.UDP)


def _listeners(service: Service, ports: Iterable[ServicePort], names: Iterable[str]) -> Iterator[ApiListenerSpec]:
    """All lead to routes that have the cluster's name, as in Istio."""
    called = tuple(names)
    for port in ports:
        for name in called:
            yield ApiListenerSpec(f"{name}:{port.number}", cluster_name(service, port))


def _routes(name: str, seen: Seen, routes: tuple[Route | HttpRoute, ...], audience: Audience) -> ProxylessRoutesSpec:
    """Routes, with what they are to hash calls by: gRPC looks for it there, and not in clusters."""
    clusters = dict.fromkeys(cluster for route in routes for cluster in route.clusters)
    found = ((cluster, hashing(cluster, seen, audience)) for cluster in clusters)
    return ProxylessRoutesSpec(name, routes, tuple((cluster, each) for cluster, each in found if each is not None))


def _behind(seen: Seen, host: Host, port: ServicePort, audience: Audience) -> Iterator[Spec]:
    """The clusters of a port, and their endpoints."""
    for use in uses(seen, host, port, audience):
        name = cluster_name(host.service, port, use.subset)
        policy = _policy(use)
        endpoints, preferred = shown(use, audience)
        addresses = tuple(endpoint for endpoint in endpoints if is_ip(endpoint.address))
        if host.service.by_name and len(addresses) < len(endpoints):
            # gRPC looks up one name a cluster (proposal A37), as Envoy's LOGICAL_DNS does.
            named = next(endpoint for endpoint in endpoints if endpoint not in addresses)
            yield ProxylessClusterSpec(name, named, policy)
        else:
            # gRPC refuses a load assignment with a Unix socket or a name in it.
            yield ProxylessClusterSpec(name, policy=policy)
            yield AssignmentSpec(name, addresses, preferred)


def _policy(use: Use) -> ClusterPolicy:
    """What gRPC can do of what is said of a cluster."""
    return ClusterPolicy(
        connection_pool=use.said.connection_pool or ConnectionPoolSettings(),
        outlier_detection=use.said.outlier_detection,
        load_balancer=use.said.load_balancer or LoadBalancerSettings(),
    )
