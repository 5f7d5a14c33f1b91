"""The configuration of gRPC's own xDS clients, which resolve `xds:///host:port` and call without a sidecar.

A client names what it wants, so that having all that it may want ready costs it nothing. Of a host's port it finds a
listener under each name that the host goes by, and one route configuration, cluster and load assignment (Istio:
grpcgen; there a short name means the client's own namespace, here whatever a pod's search domains make of it).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from pilotfish.mesh.model import Model
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Endpoint, Host, Resolution, ServicePort
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.endpoints import AssignmentSpec
from pilotfish.xds.build.proxyless import ApiListenerSpec, ProxylessClusterSpec
from pilotfish.xds.build.routes import Route, RouteConfigurationSpec, VirtualHostSpec
from pilotfish.xds.entries import Spec
from pilotfish.xds.outbound import short_names
from pilotfish.xds.parts import NO_AGE, ContestedPart
from pilotfish.xds.upstreams import assignment, cluster_name

_OWN, _SHORT = 0, 1
"""Ranks of names: a host's own goes before another's short one."""


class Proxyless(ContestedPart):
    """What gRPC clients of an audience may ask for. Work for a changed host does not grow with the other hosts."""

    def __init__(self, audience: Audience, model: Model) -> None:
        super().__init__()
        self.audience = audience
        self._model = model
        self._hosts: dict[str, Host] = {}
        self.update(model.names_seen(audience.namespace))
        self.take_changes()

    def anew(self, model: Model) -> Proxyless:
        return Proxyless(self.audience, model)

    def update(self, hostnames: Iterable[str]) -> None:
        """Look again at hosts by name (in lower case)."""
        for hostname in hostnames:
            host = self._model.seen_from(self.audience.namespace, hostname)
            if host == self._hosts.get(hostname):
                continue
            if host is None:
                del self._hosts[hostname]
                self._claim(hostname, None, (), ())
                continue
            self._hosts[hostname] = host
            ports = list(_ports(host))
            service = host.service
            # gRPC keeps the spelling of a target, and host names ignore case.
            own = dict.fromkeys((service.hostname, service.hostname.lower(), *service.aliases))
            named = (service.hostname, *service.aliases)
            short = [short for name in named for short in short_names(name, self.audience)]
            self._claim(
                hostname,
                host,
                (*_listeners(host, ports, own), *(spec for port in ports for spec in _behind(host, port))),
                tuple(_listeners(host, ports, short)),
            )

    def _claim(self, hostname: str, host: Host | None, own: tuple[Spec, ...], short: tuple[Spec, ...]) -> None:
        age = host.service.age if host else NO_AGE
        self.claim((_OWN, hostname), age, own, rank=_OWN)
        self.claim((_SHORT, hostname), age, short, rank=_SHORT)


def _ports(host: Host) -> Iterator[ServicePort]:
    """Those that a client can be led to: a host behind which nothing is known has none, nor has a wildcard."""
    service = host.service
    if "*" in service.hostname or (service.resolution is Resolution.PASSTHROUGH and not service.headless):
        return
    for port in service.ports:
        if port.protocol is not Protocol.UDP:
            yield port


def _listeners(host: Host, ports: Iterable[ServicePort], names: Iterable[str]) -> Iterator[ApiListenerSpec]:
    for port in ports:
        for name in names:
            yield ApiListenerSpec(f"{name}:{port.number}", cluster_name(host.service, port))


def _behind(host: Host, port: ServicePort) -> Iterator[Spec]:
    """What listeners of a port lead to. All have the cluster's name, as in Istio."""
    name = cluster_name(host.service, port)
    yield RouteConfigurationSpec(name, (VirtualHostSpec(name, ("*",), (Route(name),)),), catch_all="")
    serving = assignment(host, port)
    addresses = tuple(endpoint for endpoint in serving.endpoints if _is_address(endpoint))
    if host.service.by_name and len(addresses) < len(serving.endpoints):
        # gRPC looks up one name a cluster (proposal A37), as Envoy's LOGICAL_DNS does.
        named = next(endpoint for endpoint in serving.endpoints if endpoint not in addresses)
        yield ProxylessClusterSpec(name, lookup=named)
    else:
        yield ProxylessClusterSpec(name)
        yield AssignmentSpec(name, addresses)


def _is_address(endpoint: Endpoint) -> bool:
    """gRPC refuses a load assignment with a Unix socket or a name in it."""
    try:
        ipaddress.ip_address(endpoint.address)
    except ValueError:
        return False
    return True
