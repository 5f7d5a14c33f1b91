"""Configuration on demand: what all proxies of an audience need, whatever they ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import SecretKey
from pilotfish.xds import source
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.build.listeners import VirtualOutboundSpec
from pilotfish.xds.build.routes import VirtualHostSpec
from pilotfish.xds.outbound import announced
from pilotfish.xds.scope import Contribution, Scope
from pilotfish.xds.shown import Key, Shown
from pilotfish.xds.source import Changes

if TYPE_CHECKING:
    from pilotfish.xds.selection import Selection

_FIXED: tuple[Key, ...] = (
    (source.CLUSTER, names.BLACK_HOLE),
    (source.CLUSTER, names.PASSTHROUGH),
    (source.CLUSTER, names.INBOUND_PASSTHROUGH),
)


class Common(Shown):
    """What every proxy of an audience has: the fixed parts, the listeners that no host owns, and hosts that nobody asks
    for before they use them. It keeps the whole scope, and the selections of its proxies up to date.
    """

    def __init__(self, audience: Audience, model: Model) -> None:
        super().__init__(Scope(audience, model, shared_routes=False))
        self.audience = audience
        self._always: dict[str, Contribution] = {}
        self._virtual_hosts: dict[int, dict[str, VirtualHostSpec]] = {}
        self._contributions: dict[str, Contribution] = {}
        self._with: MultiMap[str, str] = MultiMap()  # member → hosts whose kept contribution depends on it
        self._by_member: MultiMap[str, Selection] = MultiMap()
        self._on_port: MultiMap[int, Selection] = MultiMap()
        self._reaching: MultiMap[tuple[str, int], Selection] = MultiMap()
        self.show("", frozenset(_FIXED))
        self.put(VirtualOutboundSpec(audience.wildcard, audience.settings, audience.on_demand))
        there = {url: frozenset(self.scope.entries(url)) for url in (source.LISTENER, source.ROUTE)}
        self._update(frozenset(self.scope.hostnames), there)
        self.take_changes()

    def anew(self, model: Model) -> Common:
        return Common(self.audience, model)

    def update(self, hostnames: Iterable[str], secrets: Collection[SecretKey] = ()) -> list[Selection]:
        """Look again at hosts by name (in lower case), and at Secrets; gives the selections that were touched."""
        affected = self.scope.update(hostnames, secrets)
        if not affected:
            return []
        affected |= {dependent for name in affected for dependent in self._with[name]}
        ports = self._update(affected, self.scope.take_changes())
        touched = {selection: None for name in affected for selection in self._by_member[name]}
        touched.update((selection, None) for port in ports for selection in self._on_port[port])
        where = (destination for name in affected for destination in self.scope.destinations(name))
        touched.update((selection, None) for destination in where for selection in self._reaching[destination])
        for selection in touched:
            selection.update(affected, ports)
        return list(touched)

    def _update(self, affected: frozenset[str], changes: Changes) -> set[int]:
        """Take over what changed in the scope; gives the ports on which all virtual hosts are to be looked at again."""
        ports: set[int] = set()
        for hostname in affected:
            for member in self._contributions.pop(hostname, Contribution()).members:
                self._with.remove(member, hostname)
            seen = self.scope.seen(hostname)
            always = hostname in self.audience.settings.collectors or hostname == self.audience.viewer.egress_proxy
            if seen is not None and (always or not announced(seen, self.audience)):
                ports |= self._show_always(hostname, self.contribution(hostname))
            elif hostname in self._always:
                ports |= self._show_always(hostname, None)
        for name in changes.get(source.LISTENER, ()):
            if name.startswith(f"{self.audience.wildcard}_"):
                self.keep(source.LISTENER, name, self.scope.entries(source.LISTENER).get(name))
        for name in changes.get(source.ROUTE, ()):
            if name.isdecimal() and (name in self.scope.entries(source.ROUTE)) != self.shares(int(name)):
                ports.add(int(name))
        for port in ports:
            if str(port) in self.scope.entries(source.ROUTE):
                self.put_routes(port, self.virtual_hosts(port))
            else:
                self.drop(source.ROUTE, str(port))
        return ports

    def _show_always(self, hostname: str, found: Contribution | None) -> set[int]:
        """Have everybody have a host, or not (None); gives the ports on which its virtual hosts changed."""
        before = self._always.pop(hostname, Contribution())
        if found is not None:
            self._always[hostname] = found
        now = found or Contribution()
        self.show(hostname, now.resources)
        ports: set[int] = set()
        for port, name in before.virtual_hosts | now.virtual_hosts:
            hosts = self._virtual_hosts.setdefault(port, {})
            was = hosts.pop(name, None)
            spec = self.scope.virtual_host(port, name) if (port, name) in now.virtual_hosts else None
            if spec is not None:
                hosts[name] = spec
            if spec != was:
                ports.add(port)
        return ports

    def contribution(self, hostname: str) -> Contribution:
        """What a host needs (`Scope.contribution`), kept while nothing of it changes."""
        found = self._contributions.get(hostname)
        if found is None:
            found = self._contributions[hostname] = self.scope.contribution(hostname)
            for member in found.members:
                self._with.add(member, hostname)
        return found

    def is_always(self, hostname: str) -> bool:
        """Whether every proxy has the host anyway."""
        return hostname in self._always

    def shares(self, port: int) -> bool:
        """Whether there are routes for a port at any address."""
        return str(port) in self.entries(source.ROUTE)

    def virtual_hosts(self, port: int) -> Iterable[VirtualHostSpec]:
        """Those of hosts that are always there."""
        return self._virtual_hosts.get(port, {}).values()

    # Selections

    def enter(self, selection: Selection, members: frozenset[str], ports: Iterable[int]) -> None:
        """Have a selection told of changes to these hosts, and to these ports as a whole."""
        for member in members:
            self._by_member.add(member, selection)
        for port in ports:
            self._on_port.add(port, selection)

    def leave(self, selection: Selection, members: frozenset[str], ports: Iterable[int]) -> None:
        for member in members:
            self._by_member.remove(member, selection)
        for port in ports:
            self._on_port.remove(port, selection)

    def enter_at(self, selection: Selection, destination: tuple[str, int]) -> None:
        """Have a selection told of hosts that come to have a listener at an address and port."""
        self._reaching.add(destination, selection)

    def leave_at(self, selection: Selection, destination: tuple[str, int]) -> None:
        self._reaching.remove(destination, selection)
