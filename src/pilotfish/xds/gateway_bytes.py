"""The filter chains of gateways that pass bytes on: TCP, TLS that ends here, and TLS that is passed through by its
server name (Istio: buildGatewayNetworkFiltersFromTCPRoutes, buildGatewayNetworkFiltersFromTLSRoutes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pilotfish.api.networking.destination import RouteDestination
from pilotfish.mesh.listening import Listening
from pilotfish.mesh.policies import Policies, Routing
from pilotfish.mesh.servers import Server, Termination, Tls, TlsDefaults
from pilotfish.xds.build.gateway import BytesChain
from pilotfish.xds.build.tcp_policy import TcpPolicy
from pilotfish.xds.byte_routes import is_at

Targets = Callable[[Routing, tuple[RouteDestination, ...], int], tuple[tuple[tuple[str, int], ...], TcpPolicy]]
"""The clusters of a VirtualService's destinations with their weights, for clients of a server's port, and what is said
of connections to them.
"""


class GatewayBytes:
    """What the servers of a listener do that route no requests, by the TCP and TLS routes of VirtualServices."""

    def __init__(
        self, listening: Listening, namespace: str, policies: Policies, targets: Targets, defaults: TlsDefaults
    ) -> None:
        """`namespace` is the gateway's."""
        self._defaults = defaults
        self._servers = tuple(server for server in listening.servers if not server.is_http)
        self._ended = frozenset(
            name for server in listening.servers if server.tls is Tls.TERMINATE for name in server.hostnames
        )
        self._gateways = frozenset(server.gateway for server in self._servers)
        self._namespace = namespace
        self._policies = policies
        self._targets = targets
        self._names: frozenset[str] = frozenset()
        self.chains: tuple[BytesChain, ...] = ()
        self._look()

    def update(self, hostnames: Iterable[str]) -> bool:
        """Look again where these hosts (in lower case) matter; whether the chains are not what they were."""
        if not any(name in self._names or self._bound_to(name) for name in hostnames):
            return False
        before = self.chains
        self._look()
        return self.chains != before

    @property
    def clusters(self) -> frozenset[str]:
        """Where the bytes go."""
        return frozenset(cluster for chain in self.chains for cluster, _ in chain.clusters)

    def _bound_to(self, hostname: str) -> bool:
        """Whether a VirtualService of these servers names a host."""
        return any(self._gateways.intersection(routing.gateways) for routing in self._policies.naming(hostname))

    def _look(self) -> None:
        chains: list[BytesChain] = []
        names: set[str] = set()
        taken = set(self._ended)
        for server in self._servers:
            routings = self._routings(server)
            names.update(name for routing in routings for name in (*routing.hosts, *routing.destinations))
            if server.tls is Tls.PASSTHROUGH:
                chains += self._passed_on(server, routings, taken)
            elif server.tls is not Tls.AUTO_PASSTHROUGH and (chain := self._single(server, routings)) is not None:
                chains.append(chain)
        self.chains, self._names = tuple(chains), frozenset(names)

    def _routings(self, server: Server) -> list[Routing]:
        """The VirtualServices that are bound to a server and have a host which it serves, the oldest first."""
        return [
            routing
            for routing in self._policies.at_gateway(server.gateway)
            if self._policies.sees(self._namespace, routing)
            and any(name for host in routing.hosts for name in server.serves(routing.namespace, host))
        ]

    def _single(self, server: Server, routings: Iterable[Routing]) -> BytesChain | None:
        """All connections to a server, or those for its names where TLS ends here, to where the first route leads that
        means it; None where none does.
        """
        for routing in routings:
            for route in routing.spec.tcp:
                means = not route.match or any(
                    is_at(match, server.gateway, server.port, routing.namespace) for match in route.match
                )
                if means and route.route:
                    names = server.hostnames if server.tls is Tls.TERMINATE else ()
                    targets, policy = self._targets(routing, route.route, server.port)
                    return BytesChain(targets, names, self._termination(server), policy=policy)
        return None

    def _termination(self, server: Server) -> Termination | None:
        return self._defaults.applied(server.termination) if server.termination is not None else None

    def _passed_on(self, server: Server, routings: Iterable[Routing], taken: set[str]) -> Iterator[BytesChain]:
        """A chain for each match of server names; a match with a name that is taken already is left out (as in Istio:
        Envoy takes each name once).
        """
        for routing in routings:
            for route in routing.spec.tls:
                for match in route.match if route.route else ():
                    names = tuple(dict.fromkeys(name.lower() for name in match.sni_hosts))
                    if is_at(match, server.gateway, server.port, routing.namespace) and taken.isdisjoint(names):
                        taken.update(names)
                        targets, policy = self._targets(routing, route.route, server.port)
                        yield BytesChain(targets, names, policy=policy)
