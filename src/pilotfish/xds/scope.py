"""Scopes: the outbound configuration that proxies of one namespace share, kept up host by host."""

from __future__ import annotations

from collections.abc import Iterable

from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Host, Resolution
from pilotfish.xds import source
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import FixedClusterSpec
from pilotfish.xds.build.listeners import Chain, HttpChain, OutboundListenerSpec, TcpChain, VirtualOutboundSpec
from pilotfish.xds.build.routes import RouteConfigurationSpec
from pilotfish.xds.outbound import Audience, Claim, Outbound, assignments, outbound
from pilotfish.xds.parts import Part
from pilotfish.xds.route_table import RouteTable


class Scope(Part):
    """What proxies of an audience know of the mesh. Work for a changed host does not grow with the other hosts."""

    def __init__(self, audience: Audience, model: Model) -> None:
        super().__init__()
        self.audience = audience
        self._model = model
        self._hosts: dict[str, Host] = {}
        self._tables: dict[int, RouteTable] = {}
        self._claims: dict[tuple[str, int], _Claims] = {}
        timeout = audience.settings.connect_timeout
        for name in (names.BLACK_HOLE, names.PASSTHROUGH, names.INBOUND_PASSTHROUGH):
            self.put(FixedClusterSpec(name, timeout, audience.ipv6))
        self.put(VirtualOutboundSpec(audience.wildcard, audience.settings))
        self.update(model.host_names())
        self.take_changes()

    def anew(self, model: Model) -> Scope:
        return Scope(self.audience, model)

    def update(self, hostnames: Iterable[str]) -> None:
        """Look again at hosts by name (in lower case)."""
        tables: set[int] = set()
        listeners: set[tuple[str, int]] = set()
        for hostname in hostnames:
            before = self._hosts.get(hostname)
            after = self._model.seen_from(self.audience.namespace, hostname)
            if before == after:
                continue
            if after is None:
                del self._hosts[hostname]
            else:
                self._hosts[hostname] = after
            if before and after and before.service == after.service and after.service.resolution is Resolution.STATIC:
                self.replace(assignments(before), assignments(after))
                continue
            was = outbound(before, self.audience) if before else Outbound()
            now = outbound(after, self.audience) if after else Outbound()
            self.replace((*was.clusters, *was.assignments, *was.routes), (*now.clusters, *now.assignments, *now.routes))
            tables |= self._update_tables(was, now)
            listeners |= self._update_claims(hostname, was, now)
        self._rebuild(tables, listeners)

    def _update_tables(self, was: Outbound, now: Outbound) -> set[int]:
        if was.virtual_hosts == now.virtual_hosts:
            return set()
        for host in was.virtual_hosts:
            self._tables[host.port].drop(host.name)
        for host in now.virtual_hosts:
            self._tables.setdefault(host.port, RouteTable()).put(host)
        return {host.port for host in (*was.virtual_hosts, *now.virtual_hosts)}

    def _update_claims(self, hostname: str, was: Outbound, now: Outbound) -> set[tuple[str, int]]:
        if was.claims == now.claims:
            return set()
        for claim in was.claims:
            self._claims[claim.address, claim.port].drop(hostname)
        for claim in now.claims:
            self._claims.setdefault((claim.address, claim.port), _Claims()).put(hostname, claim)
        return {(claim.address, claim.port) for claim in (*was.claims, *now.claims)}

    def _rebuild(self, tables: set[int], listeners: set[tuple[str, int]]) -> None:
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
                        settings.detection_timeout,
                        settings.access_log,
                    )
                )
            else:
                del self._claims[address, port]
                self.drop(source.LISTENER, names.listener(address, port))
            if address == self.audience.wildcard:
                tables.add(port)
        for port in sorted(tables):
            wanted = self._claims.get((self.audience.wildcard, port))
            if wanted is not None and wanted.has_http:
                hosts = self._tables[port].virtual_hosts()
                self.put(RouteConfigurationSpec(str(port), hosts, settings.catch_all_host))
            else:
                self.drop(source.ROUTE, str(port))


class _Claims:
    """Who wants what of one listener. HTTP hosts want one and the same chain, so their number costs nothing."""

    def __init__(self) -> None:
        self._http: dict[str, HttpChain] = {}
        self._others: dict[str, Claim] = {}

    def put(self, hostname: str, claim: Claim) -> None:
        if claim.protocol.is_http and isinstance(claim.chains[0], HttpChain):
            self._http[hostname] = claim.chains[0]
        else:
            self._others[hostname] = claim

    def drop(self, hostname: str) -> None:
        self._http.pop(hostname, None)
        self._others.pop(hostname, None)

    @property
    def has_http(self) -> bool:
        return bool(self._http) or any(
            isinstance(c, HttpChain) for other in self._others.values() for c in other.chains
        )

    def chains(self) -> tuple[Chain, ...]:
        """The chains of the listener: of two that match the same connections the oldest host's is there.

        A protocol in which the server speaks first cannot share a listener with one that must be looked at: the oldest
        of them has it (Istio drops the younger in the same way).
        """
        found: dict[tuple[object, ...], Chain] = {}
        others = sorted(self._others.values(), key=lambda claim: claim.age)
        if self._http:
            others = [claim for claim in others if not claim.protocol.server_first]
            chain = next(iter(self._http.values()))
            found[chain.match] = chain
        elif others and any(claim.protocol.server_first for claim in others):
            others = [claim for claim in others if claim.protocol is others[0].protocol]
        for claim in others:
            for each in claim.chains:
                found.setdefault(each.match, each)
        return tuple(sorted(found.values(), key=_position))


def _position(chain: Chain) -> tuple[bool, str]:
    return isinstance(chain, HttpChain), repr(chain.match) if isinstance(chain, TcpChain) else ""
