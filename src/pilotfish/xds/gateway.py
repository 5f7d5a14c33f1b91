"""The configuration of gateways: what servers that mean them ask for, and no more of the mesh than their routes use.

Istio sends a gateway every service of the mesh unless it is told not to (PILOT_FILTER_GATEWAY_CLUSTER_CONFIG).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import msgspec

from pilotfish.api.networking.destination import Destination, RouteDestination
from pilotfish.mesh.hostnames import resolve
from pilotfish.mesh.listening import Listening, Merged, Speech, merge
from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.policies import Routing
from pilotfish.mesh.records import Labels, Record, Service, Workload
from pilotfish.mesh.servers import Server, Tls
from pilotfish.mesh.traffic_policy import traffic_policy
from pilotfish.xds import source
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.gateway import GatewayChain, GatewayListenerSpec, RoutedChain
from pilotfish.xds.build.http_routes import HttpRoute
from pilotfish.xds.build.tcp_policy import TcpPolicy
from pilotfish.xds.byte_routes import policy_of, targets
from pilotfish.xds.gateway_auto import AutoPassthrough
from pilotfish.xds.gateway_bytes import GatewayBytes
from pilotfish.xds.gateway_hosts import GatewayHosts, route_name
from pilotfish.xds.http_routes import Asker, http_routes
from pilotfish.xds.parts import Part
from pilotfish.xds.patching import Patching
from pilotfish.xds.secrets import Secrets, needs_of_server
from pilotfish.xds.settings import Edge
from pilotfish.xds.upstreams import destination_cluster
from pilotfish.xds.used_clusters import UsedClusters


class GatewayGroup(Record):
    """What gateways have in common that are configured alike: their pods' namespace, labels and named ports, and how
    they take their clients' word.
    """

    audience: Audience
    labels: Labels
    ports: tuple[tuple[str, int], ...] = ()
    edge: Edge = Edge()


class Gateway(Part):
    """What the gateways of a group have.

    A change of a host's endpoints costs that host; one of a VirtualService the hosts that it names; one of a Gateway
    or of the Services in front of the pods all of it.
    """

    def __init__(self, group: GatewayGroup, model: Model) -> None:
        super().__init__(Patching(group.audience.patches, gateway=True))
        self.group = group
        self._model = model
        self.secrets = Secrets(self, group.audience.namespace, model, vouched=group.audience.vouched)
        self._used = UsedClusters(self, group.audience, model, self.secrets)
        self._merged = Merged((), ())
        self._hosts: dict[str, GatewayHosts] = {}
        self._bytes: dict[Listening, GatewayBytes] = {}
        self._auto: dict[Listening, AutoPassthrough] = {}
        self._listen(self._servers())
        self._used.settle()
        self.take_changes()

    def anew(self, model: Model) -> Gateway:
        return Gateway(self.group, model)

    def update(self, touched: Touched) -> None:
        """Look again at what changed of the mesh."""
        if (touched.gateways or self._in_front(touched)) and (merged := self._servers()) != self._merged:
            self._listen(merged)
        else:
            for hosts in self._hosts.values():
                if changed := hosts.update(touched.names):
                    self.put(hosts.configuration())
                    for domain in changed:
                        self._used.use((hosts.name, domain), hosts.clusters(domain))
            for listening, passed_on in self._bytes.items():
                if passed_on.update(touched.names):
                    self._serve(listening)
                    self._used.use(listening, passed_on.clusters)
            for listening, automatic in self._auto.items():
                if automatic.update(touched.names):
                    self._serve(listening)
        self._used.settle(touched.names)
        self.secrets.update(touched.secrets)

    def problems(self) -> Iterator[tuple[Server, str]]:
        """The servers that are not served as they ask for it, each with the reason."""
        yield from ((refusal.server, refusal.reason) for refusal in self._merged.refused)
        yield from ((user, reason) for user, reason in self.secrets.lacking() if isinstance(user, Server))

    # Where routes lead

    def _routes(self, routing: Routing, server: Server) -> tuple[HttpRoute, ...]:
        group = self.group
        tls = server.tls is Tls.TERMINATE
        asker = Asker(
            server.gateway,
            server.port,
            group.audience.namespace,
            group.labels,
            tls,
            group.audience.settings.retries,
            traced=group.audience.settings.client.tracing is not None,
            hashed=self._hashed,
        )
        return http_routes(routing, asker, lambda destination: self._cluster(routing, destination, server.port))

    def _hashed(self, cluster: str) -> bool:
        """Whether a cluster chooses endpoints by hashing."""
        _, port, subset, hostname = cluster.split("|")
        audience = self.group.audience
        host = self._model.seen_from(audience.namespace, hostname.lower())
        rule = self._model.policies.rule(audience.viewer, host.service) if host is not None else None
        said = traffic_policy(rule, int(port), subset, audience.settings.default_policy).load_balancer
        return said is not None and said.consistent_hash is not None

    def _targets(
        self, routing: Routing, route: tuple[RouteDestination, ...], port: int
    ) -> tuple[tuple[tuple[str, int], ...], TcpPolicy]:
        audience = self.group.audience
        _, service = self._destination(routing, route[0].destination)
        rule = self._model.policies.rule(audience.viewer, service) if service is not None else None
        clusters = targets(route, lambda destination: self._cluster(routing, destination, port))
        return clusters, policy_of(rule, route, port, audience)

    def _cluster(self, routing: Routing, destination: Destination, port: int) -> str:
        return destination_cluster(destination, *self._destination(routing, destination), port)

    def _destination(self, routing: Routing, destination: Destination) -> tuple[str, Service | None]:
        """The whole name of a destination, and its service where the gateway sees one."""
        hostname = resolve(destination.host, routing.namespace, self._model.cluster_domain)
        host = self._model.seen_from(self.group.audience.namespace, hostname)
        return hostname, host.service if host is not None else None

    # What is listened on

    def _servers(self) -> Merged:
        group = self.group
        pod = Workload(group.audience.namespace, name="", address="", labels=group.labels, ports=group.ports)
        ports = self._model.target_ports(pod.namespace, pod.labels, pod)
        settings = group.audience.settings
        return merge(self._model.gateways.servers(group.labels), lambda port: ports.get(port, port), settings.reserved)

    def _in_front(self, touched: Touched) -> bool:
        """Whether a Service in front of the pods may not be what it was."""
        namespace, labels = self.group.audience.namespace, set(self.group.labels)
        return any(
            host.service.namespace == namespace and host.service.selector and labels.issuperset(host.service.selector)
            for before_and_after in touched.hosts.values()
            for host in before_and_after
            if host is not None
        )

    def _listen(self, merged: Merged) -> None:
        """Listen on these and nothing else."""
        self._merged = merged
        self.patching = msgspec.structs.replace(self.patching, ports=_ports(merged))
        policies, namespace = self._model.policies, self.group.audience.namespace
        headers = self.group.audience.settings.http.on_routes
        routed = {name: servers for listening in merged.listening for name, servers in _routed(listening)}
        self._hosts = {
            name: GatewayHosts(name, servers, namespace, policies, self._routes, headers)
            for name, servers in routed.items()
        }
        self._bytes = {
            listening: GatewayBytes(
                listening, namespace, policies, self._targets, self.group.audience.settings.tls_defaults
            )
            for listening in merged.listening
            if any(not server.is_http for server in listening.servers)
        }
        for automatic in self._auto.values():
            automatic.close()
        self._auto = {
            listening: AutoPassthrough(listening, self, self.group.audience, self._model)
            for listening in merged.listening
            if any(server.tls is Tls.AUTO_PASSTHROUGH for server in listening.servers)
        }
        before = [entry.spec for url in (source.LISTENER, source.ROUTE) for entry in self.entries(url).values()]
        listeners = (self._listener(listening) for listening in merged.listening)
        configurations = (hosts.configuration() for hosts in self._hosts.values())
        self.replace(before, [*configurations, *(listener for listener in listeners if listener.chains)])
        used: dict[Hashable, frozenset[str]] = {
            (hosts.name, domain): hosts.clusters(domain) for hosts in self._hosts.values() for domain in hosts.domains
        }
        used.update((listening, passed_on.clusters) for listening, passed_on in self._bytes.items())
        self._used.use_only(used)
        servers = (server for listening in merged.listening for server in listening.servers)
        self.secrets.use_only({server: needs_of_server(server.termination) for server in servers}, among=Server)

    def _serve(self, listening: Listening) -> None:
        """Have the listener, unless nothing is to be done with its connections: they are refused then."""
        listener = self._listener(listening)
        if listener.chains:
            self.put(listener)
        elif listener.name in self.entries(source.LISTENER):
            self.drop(source.LISTENER, listener.name)

    def _listener(self, listening: Listening) -> GatewayListenerSpec:
        audience = self.group.audience
        address = listening.bind or audience.wildcard
        chains = tuple(self._chains(listening))
        settings = audience.settings
        return GatewayListenerSpec(
            address, listening.port, chains, self.group.edge, settings.client, settings.listener_log, settings.http
        )

    def _chains(self, listening: Listening) -> Iterator[GatewayChain]:
        for name, (first, *_) in _routed(listening):
            if listening.speech is Speech.HTTP:
                yield RoutedChain(name, first.protocol)
            else:
                defaults = self.group.audience.settings.tls_defaults
                termination = defaults.applied(first.termination) if first.termination is not None else None
                yield RoutedChain(name, first.protocol, first.label, first.hostnames, termination)
        if listening in self._bytes:
            yield from self._bytes[listening].chains
        if listening in self._auto:
            yield from self._auto[listening].chains


def _ports(merged: Merged) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The ports on which a gateway listens, each with those of its servers that lead there."""
    return tuple(sorted((on.port, tuple(sorted({server.port for server in on.servers}))) for on in merged.listening))


def _routed(listening: Listening) -> Iterator[tuple[str, tuple[Server, ...]]]:
    """The route configurations of a listener, each with its servers: all of plain HTTP have one, others one each."""
    if listening.speech is Speech.HTTP:
        yield route_name(listening.servers[0], listening.port), listening.servers
    else:
        yield from ((route_name(s, listening.port), (s,)) for s in listening.servers if s.is_http)
