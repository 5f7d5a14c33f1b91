"""Scopes: the outbound configuration that proxies of one namespace share, kept up host by host."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from pilotfish.mesh.imports import CAPTURED
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Resolution, SecretKey
from pilotfish.mesh.seen import Seen
from pilotfish.xds import source
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import ClusterSpec
from pilotfish.xds.build.listeners import Chain, HttpChain, OutboundListenerSpec, TcpChain
from pilotfish.xds.build.on_demand import OnDemand
from pilotfish.xds.build.routes import VirtualHostSpec
from pilotfish.xds.claims import Claims
from pilotfish.xds.entries import Spec
from pilotfish.xds.fixed import fixed
from pilotfish.xds.outbound import Outbound, outbound
from pilotfish.xds.parts import Part
from pilotfish.xds.patching import Patching, unpatched
from pilotfish.xds.route_table import RouteTable
from pilotfish.xds.secrets import Secrets, needs_of_clusters
from pilotfish.xds.upstreams import assignments
from pilotfish.xds.wanted_hosts import WantedHost


class Contribution(NamedTuple):
    """What one host needs of a scope: resources by type and name, and (port, name) of its virtual hosts.

    `members` are the hosts on which that depends: the host, those to which it is routed, and those that share a
    listener's address with it.
    """

    resources: frozenset[tuple[str, str]] = frozenset()
    virtual_hosts: frozenset[tuple[int, str]] = frozenset()
    members: frozenset[str] = frozenset()


class Scope(Part):
    """What proxies of an audience know of the mesh. Work for a changed host does not grow with the other hosts."""

    def __init__(self, audience: Audience, model: Model, *, shared_routes: bool = True) -> None:
        """Without `shared_routes` the route configurations of ports that all hosts share are there, but empty: whoever
        shows parts of the scope makes them of the virtual hosts that it shows.
        """
        super().__init__(Patching(audience.patches))
        self.audience = audience
        self._shared_routes = shared_routes
        self._model = model
        self._hosts: dict[str, Seen] = {}
        self.secrets = Secrets(self, audience.namespace, model, vouched=audience.vouched)
        self._tables: dict[int, RouteTable] = {}
        self._claims: dict[tuple[str, int], Claims] = {}
        self._sockets: dict[str, RouteTable] = {}
        binds = (listener.binding.address for listener in audience.egress)
        self._shared = frozenset((audience.wildcard, *binds)) - {CAPTURED}
        """The addresses at which hosts share listeners, and with them the routes of a port."""
        always = tuple(fixed(audience))
        self.replace((), always)
        self.secrets.use("", needs_of_clusters(always))
        self.update(model.names_seen(audience.namespace))
        self.take_changes()

    def anew(self, model: Model) -> Scope:
        return Scope(self.audience, model, shared_routes=self._shared_routes)

    def update(self, hostnames: Iterable[str], secrets: Collection[SecretKey] = ()) -> frozenset[str]:
        """Look again at hosts by name (in lower case), and at Secrets; gives the hosts whose contribution may not be
        what it was.
        """
        affected = set(map(str, self.secrets.update(secrets)))
        tables: set[int] = set()
        listeners: set[tuple[str, int]] = set()
        sockets: set[str] = set()
        for hostname in hostnames:
            before = self._hosts.get(hostname)
            after = self._model.look(self.audience.viewer, hostname)
            if before == after:
                continue
            affected.add(hostname)
            if after is None:
                del self._hosts[hostname]
            else:
                self._hosts[hostname] = after
            if before and after and _endpoints_alone(before, after):
                self.replace(assignments(before, self.audience), assignments(after, self.audience))
                continue
            was = outbound(before, self.audience) if before else Outbound()
            now = outbound(after, self.audience) if after else Outbound()
            self.replace((*was.clusters, *was.assignments, *was.routes), (*now.clusters, *now.assignments, *now.routes))
            self.secrets.use(hostname, needs_of_clusters(now.clusters))
            tables |= self._update_tables(was, now)
            sockets |= self._update_sockets(was, now)
            listeners |= self._update_claims(hostname, was, now)
        for where in listeners:
            if where[0] != self.audience.wildcard:
                affected.update(self._claims[where].hostnames)
        for port in tables & self._tables.keys():
            affected.update(_hostname(name) for name in self._tables[port].settle())
        self._rebuild(tables, listeners, sockets)
        return frozenset(affected)

    # What single hosts contribute

    @property
    def hostnames(self) -> Iterable[str]:
        """The names of all hosts that the audience sees, in lower case."""
        return self._hosts.keys()

    def seen(self, hostname: str) -> Seen | None:
        return self._hosts.get(hostname)

    def claimants(self, address: str, port: int) -> tuple[str, ...]:
        """The hosts that share the listener of an address and port."""
        claims = self._claims.get((address, port))
        return claims.hostnames if claims else ()

    def hosts_at(self, address: str, port: int) -> tuple[str, ...]:
        """The hosts that are served at an address and port: by a listener there, or by one that many hosts share."""
        wanted = self._wanted_at(address, port)
        requested = (_hostname(wanted.name),) if wanted is not None else ()
        return tuple(dict.fromkeys((*self.claimants(address, port), *requested)))

    def cluster_at(self, address: str, port: int) -> ClusterSpec | None:
        """The cluster of an address and port, where bytes go, or requests of which no route says anything in
        particular; None where no host is served there.
        """
        claims = self._claims.get((address, port))
        chains = claims.chains() if claims else ()
        wanted = self._wanted_at(address, port)
        clusters = [chain.clusters[0] for chain in chains if isinstance(chain, TcpChain)]
        for name in (*clusters, *([wanted.fallback] if wanted is not None else ())):
            if (spec := self._cluster(name)) is not None:
                return spec
        return None

    def _cluster(self, name: str) -> ClusterSpec | None:
        found = self.entries(source.CLUSTER).get(name)
        spec = unpatched(found.spec) if found is not None else None
        return spec if isinstance(spec, ClusterSpec) else None

    def _wanted_at(self, address: str, port: int) -> WantedHost | None:
        """The virtual host that has an address among its domains."""
        table = self._tables.get(port)
        return table.owner(f"[{address}]" if ":" in address else address) if table is not None else None

    def destinations(self, hostname: str) -> Iterable[tuple[str, int]]:
        """The addresses and ports at which a host is served."""
        seen = self._hosts.get(hostname)
        if seen is None:
            return ()
        found = outbound(seen, self.audience)
        return (*((claim.address, claim.port) for claim in found.claims), *found.addresses())

    def contribution(self, hostname: str) -> Contribution:
        """What a host needs, with what those need that share its listeners, and the clusters of other hosts to which it
        is routed; nothing for a host that nobody sees.

        Listeners at the wildcard address belong to no host.
        """
        seen = self._hosts.get(hostname)
        if seen is None:
            return Contribution(members=frozenset({hostname}))
        found = outbound(seen, self.audience)
        resources = set(_behind_listeners(found))
        members = {hostname}
        for claim in found.claims:
            if claim.address == self.audience.wildcard:
                continue
            resources.add((source.LISTENER, names.listener(claim.address, claim.port)))
            resources.update((source.ROUTE, socket) for socket, _ in found.on_sockets)
            members.update(self.claimants(claim.address, claim.port))
        everything = [found, *(outbound(self._hosts[other], self.audience) for other in members - {hostname})]
        for each in everything:
            resources.update(_behind_listeners(each))
            for cluster in each.targets():
                resources.update({(source.CLUSTER, cluster), (source.ENDPOINT, cluster)})
                resources.update(_with_secrets(filter(None, [self._cluster(cluster)])))
                members.add(names.host_of(cluster))
        virtual_hosts = frozenset((wanted.port, wanted.name) for wanted in found.virtual_hosts)
        return Contribution(frozenset(resources), virtual_hosts, frozenset(members))

    def virtual_host(self, port: int, name: str) -> VirtualHostSpec | None:
        """A virtual host with the domains that it has; None where others have all of them, or it is not there."""
        table = self._tables.get(port)
        return table.virtual_host(name) if table else None

    def _update_tables(self, was: Outbound, now: Outbound) -> set[int]:
        if was.virtual_hosts == now.virtual_hosts:
            return set()
        for host in was.virtual_hosts:
            self._tables[host.port].drop(host.name)
        for host in now.virtual_hosts:
            self._tables.setdefault(host.port, RouteTable()).put(host)
        return {host.port for host in (*was.virtual_hosts, *now.virtual_hosts)}

    def _update_sockets(self, was: Outbound, now: Outbound) -> set[str]:
        if was.on_sockets == now.on_sockets:
            return set()
        for socket, host in was.on_sockets:
            self._sockets[socket].drop(host.name)
        for socket, host in now.on_sockets:
            self._sockets.setdefault(socket, RouteTable()).put(host)
        return {socket for socket, _ in (*was.on_sockets, *now.on_sockets)}

    def _update_claims(self, hostname: str, was: Outbound, now: Outbound) -> set[tuple[str, int]]:
        if was.claims == now.claims:
            return set()
        for claim in was.claims:
            self._claims[claim.address, claim.port].drop(hostname)
        for claim in now.claims:
            self._claims.setdefault((claim.address, claim.port), Claims()).put(hostname, claim)
        return {(claim.address, claim.port) for claim in (*was.claims, *now.claims)}

    def _rebuild(self, tables: set[int], listeners: set[tuple[str, int]], sockets: set[str]) -> None:
        settings = self.audience.settings
        for address, port in sorted(listeners):
            chains = self._claims[address, port].chains()
            if chains:
                self.put(
                    OutboundListenerSpec(
                        address,
                        port,
                        chains,
                        settings.catch_all_cluster,
                        settings.detection_timeout or 0,
                        settings.client,
                        bound=self._claims[address, port].bound,
                        looks_up=settings.goes_by_name,
                        http=settings.http,
                        on_demand=self._asking(address, chains),
                    )
                )
            else:
                del self._claims[address, port]
                self.drop(source.LISTENER, names.listener(address, port))
            if address in self._shared and port:
                tables.add(port)
        for port in sorted(tables):
            wanted = (self._claims.get((address, port)) for address in self._shared)
            if any(claims is not None and claims.has_http for claims in wanted):
                hosts = self._tables[port].virtual_hosts() if self._shared_routes else ()
                self.put(settings.route_configuration(port, hosts))
            else:
                self.drop(source.ROUTE, str(port))
        for socket in sorted(sockets):
            if socket == names.HTTP_PROXY:
                self.put(settings.proxied(self._sockets[socket].virtual_hosts()))
            elif hosts := self._sockets[socket].virtual_hosts():
                self.put(settings.route_configuration(socket, hosts))
            else:
                self.drop(source.ROUTE, socket)

    def _asking(self, address: str, chains: tuple[Chain, ...]) -> OnDemand | None:
        """What a listener must know of configuration on demand; None where it is what everybody else has."""
        terms = self.audience.on_demand
        if terms is None or not any(isinstance(chain, HttpChain) for chain in chains):
            return None
        if address == self.audience.wildcard:
            return terms
        return msgspec.structs.replace(terms, ranges=()) if terms.http_idle else None


def _endpoints_alone(before: Seen, after: Seen) -> bool:
    """Whether two states of a host differ in nothing but endpoints that are sent by themselves."""
    was, now = before.host, after.host
    if was is None or now is None or now.service.resolution is not Resolution.STATIC:
        return False
    if (was.service, was.accounts, was.secured) != (now.service, now.accounts, now.secured):
        return False  # whom clusters believe, and whether they speak TLS, is told by endpoints as well
    return (before.rule, before.routings, before.destinations) == (after.rule, after.routings, after.destinations)


def _behind_listeners(found: Outbound) -> Iterable[tuple[str, str]]:
    """Clusters with their endpoints, and the routes of listeners that stand for one host alone."""
    specs: tuple[Spec, ...] = (*found.clusters, *found.assignments, *found.routes)
    yield from ((spec.type_url, spec.name) for spec in specs)
    yield from _with_secrets(found.clusters)


def _with_secrets(clusters: Iterable[ClusterSpec]) -> Iterable[tuple[str, str]]:
    """The secrets that clusters need."""
    for need in needs_of_clusters(clusters):
        yield source.SECRET, need if isinstance(need, str) else need.name


def _hostname(virtual_host: str) -> str:
    return virtual_host.rpartition(":")[0].lower()
