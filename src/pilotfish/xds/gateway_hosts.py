"""The virtual hosts of a gateway's route configuration, kept up host by host (Istio: buildGatewayHTTPRouteConfig)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from pilotfish.mesh.hostnames import matches, patterns
from pilotfish.mesh.policies import Policies, Routing
from pilotfish.mesh.records import ObjectKey
from pilotfish.mesh.servers import Server
from pilotfish.xds.build.http_routes import HttpRoute
from pilotfish.xds.build.http_settings import RouteHeaders
from pilotfish.xds.build.routes import RouteConfigurationSpec, VirtualHostSpec

RoutesOf = Callable[[Routing, Server], tuple[HttpRoute, ...]]
"""The routes of a VirtualService for requests that come to a server."""


class GatewayHosts:
    """What the servers behind one route configuration serve: all plain HTTP servers of a port, or one with TLS.

    A host has the routes of all VirtualServices that name it, the oldest first; requests for others are answered 404.
    """

    def __init__(
        self,
        name: str,
        servers: tuple[Server, ...],
        namespace: str,
        policies: Policies,
        routes: RoutesOf,
        headers: RouteHeaders,
    ) -> None:
        """`namespace` is the gateway's."""
        self.name = name
        self._servers = servers
        self._namespace = namespace
        self._policies = policies
        self._routes = routes
        self._headers = headers
        self._hosts: dict[str, VirtualHostSpec] = {}
        self._ordered: list[str] = []
        for gateway in dict.fromkeys(server.gateway for server in servers):
            bound = (name for routing in policies.at_gateway(gateway) for name in routing.hosts)
            self.update(dict.fromkeys(bound))
        self._look_again(name for server in servers if server.https_redirect for name in server.hostnames)

    def update(self, hostnames: Iterable[str]) -> frozenset[str]:
        """Look again at hosts and wildcards (in lower case) that VirtualServices may name; gives the virtual hosts that
        are not what they were.
        """
        return self._look_again(domain for name in hostnames for domain in self._domains(name))

    def clusters(self, domain: str) -> frozenset[str]:
        """Where the requests for a virtual host go; nowhere where there is none."""
        host = self._hosts.get(domain)
        return frozenset(cluster for route in host.routes for cluster in route.clusters) if host else frozenset()

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._ordered)

    def configuration(self) -> RouteConfigurationSpec:
        hosts = tuple(self._hosts[domain] for domain in self._ordered)
        if not hosts:
            # Istio's: a route configuration without any virtual host would be taken for one that is missing.
            hosts = (VirtualHostSpec(f"blackhole:{self._servers[0].port}", ("*",), ()),)
        return RouteConfigurationSpec(self.name, hosts, catch_all="", headers=self._headers)

    def _domains(self, hostname: str) -> Iterator[str]:
        """The virtual hosts on which a host name or wildcard of a VirtualService can have an influence."""
        for name in dict.fromkeys(name for server in self._servers for name in server.hostnames):
            if matches(hostname, name):
                yield hostname
            elif matches(name, hostname):
                yield name

    def _look_again(self, domains: Iterable[str]) -> frozenset[str]:
        changed = set()
        for domain in dict.fromkeys(domains):
            before, after = self._hosts.get(domain), self._virtual_host(domain)
            if before == after:
                continue
            changed.add(domain)
            if after is None:
                del self._hosts[domain]
                del self._ordered[bisect_left(self._ordered, domain)]
            else:
                self._hosts[domain] = after
                if before is None:
                    insort(self._ordered, domain)
        return frozenset(changed)

    def _virtual_host(self, domain: str) -> VirtualHostSpec | None:
        routes: dict[tuple[str, ObjectKey], tuple[HttpRoute, ...]] = {}
        port, require_tls = 0, False
        for server in self._servers:
            bound = self._bound(server, domain)
            for routing in bound:
                routes.setdefault((server.gateway, routing.key), self._routes(routing, server))
            redirected = server.https_redirect and (bool(bound) or domain in server.hostnames)
            require_tls |= redirected
            if bound or redirected:
                port = port or server.port
        if not port:
            return None
        found = [route for each in routes.values() for route in each]
        found.sort(key=lambda route: route.catches_all)  # what takes everything would hide the others
        return VirtualHostSpec(f"{domain}:{port}", (domain,), tuple(found), require_tls)

    def _bound(self, server: Server, domain: str) -> list[Routing]:
        """The VirtualServices by which a server serves a domain, the oldest first."""
        names = patterns(domain) if domain in server.hostnames else (domain,)
        found = {
            routing.key: routing
            for name in names
            for routing in self._policies.naming(name)
            if server.gateway in routing.gateways
            and self._policies.sees(self._namespace, routing)
            and domain in server.serves(routing.namespace, name)
        }
        return sorted(found.values(), key=lambda routing: routing.age)


def route_name(server: Server, port: int) -> str:
    """Istio's name of the route configuration of a server that listens on `port`."""
    bind = f".{server.bind}" if server.bind else ""
    if server.protocol.is_http:
        return f"http.{port}{bind}"
    source = server.source
    return f"https.{server.port}.{server.port_name}.{source.name}.{source.namespace}{bind}"
