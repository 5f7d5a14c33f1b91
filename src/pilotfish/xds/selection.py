"""Configuration on demand: the part of a scope that one proxy uses, and the part that all of them need.

A selection shows a scope's own entries, so whatever a proxy has is what it would have with everything, built and
serialised once for all. Only the route configurations of shared ports are put together for it, of virtual hosts that
the scope has given their domains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, KeysView

import msgspec

from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.model import Model
from pilotfish.xds import source
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import FixedClusterSpec
from pilotfish.xds.build.listeners import VirtualOutboundSpec
from pilotfish.xds.build.routes import VirtualHostSpec
from pilotfish.xds.outbound import announced
from pilotfish.xds.parts import Part
from pilotfish.xds.scope import Contribution, Scope
from pilotfish.xds.source import Changes

Key = tuple[str, str]
"""Type URL and name."""

_FIXED: tuple[Key, ...] = (
    (source.CLUSTER, names.BLACK_HOLE),
    (source.CLUSTER, names.PASSTHROUGH),
    (source.CLUSTER, names.INBOUND_PASSTHROUGH),
)


class _Shown(Part):
    """A part that shows entries of a scope, each as long as something wants it."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope.patching)
        self.scope = scope
        self._wanted: dict[str, frozenset[Key]] = {}
        self._wanting: Counter[Key] = Counter()

    def show(self, owner: str, keys: frozenset[Key]) -> None:
        """Have an owner want these resources and no others, and show them as they are now."""
        before = self._wanted.pop(owner, frozenset())
        if keys:
            self._wanted[owner] = keys
        self._wanting.update(keys - before)
        for key in before - keys:
            self._wanting[key] -= 1
            if not self._wanting[key]:
                del self._wanting[key]
                self.drop(*key)
        for type_url, name in keys:
            self.keep(type_url, name, self.scope.entries(type_url).get(name))

    def put_routes(self, port: int, hosts: Iterable[VirtualHostSpec]) -> None:
        """Have a route configuration of these virtual hosts for a port that many hosts share."""
        ordered = tuple(sorted(hosts, key=lambda host: host.name))
        audience = self.scope.audience
        asked_for = audience.on_demand.ranges if audience.on_demand else ()
        self.put(audience.settings.route_configuration(port, ordered, asked_for))


class Common(_Shown):
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

    def update(self, hostnames: Iterable[str]) -> list[Selection]:
        """Look again at hosts by name (in lower case); gives the selections that were touched."""
        affected = self.scope.update(hostnames)
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


class Selection(_Shown):
    """What one proxy has asked for, beyond what is common: hosts by name, and clusters that are `reached` without a
    lookup, which are named by an address and port (`names.destination`).
    """

    def __init__(self, common: Common, hostnames: Iterable[str], reached: Iterable[str] = ()) -> None:
        super().__init__(common.scope)
        self.common = common
        self._hosts: dict[str, Contribution] = {}
        self._members: Counter[str] = Counter()
        self._ports: Counter[int] = Counter()
        self._reached: dict[str, names.Destination] = {}
        for hostname in hostnames:
            self.add(hostname)
        for cluster in reached:
            self.reach(cluster)
        self.take_changes()

    def anew(self, model: Model) -> Selection:
        return Selection(self.common.anew(model), self._hosts, self._reached)

    @property
    def hostnames(self) -> KeysView[str]:
        """The hosts that it has, in lower case: those asked for, and those behind the addresses that are reached."""
        return self._hosts.keys()

    @property
    def reached(self) -> Collection[str]:
        """The clusters that are named by an address and port."""
        return self._reached.keys()

    def clusters_of(self, hostname: str) -> Iterator[str]:
        """The clusters that a host needs, those of other hosts among them."""
        return (name for type_url, name in self._hosts[hostname].resources if type_url == source.CLUSTER)

    def behind(self, cluster: str) -> tuple[str, ...]:
        """The hosts that are served where a cluster leads that is reached."""
        return self.scope.hosts_at(*self._reached[cluster][:2])

    def close(self) -> None:
        """Be told of nothing any more."""
        self.common.leave(self, frozenset(self._members), tuple(self._ports))
        for destination in self._reached.values():
            self.common.leave_at(self, destination[:2])

    def add(self, hostname: str) -> None:
        """Have a host, whether it is there yet or not."""
        if hostname not in self._hosts:
            self._hosts[hostname] = Contribution()
            self._put_routes(self._look_at(hostname))

    def remove(self, hostname: str) -> None:
        """Have a host no more."""
        had = self._hosts.pop(hostname, None)
        if had is not None:
            self._put_routes(self._exchange(hostname, had, Contribution()))

    def reach(self, cluster: str) -> None:
        """Have the cluster of this name if it is an address and port, and the hosts that have a listener there."""
        destination = names.destination(cluster)
        if destination is not None and cluster not in self._reached:
            self._reached[cluster] = destination
            self.common.enter_at(self, destination[:2])
            self._connect(cluster)

    def unreach(self, cluster: str) -> None:
        """Have a cluster no more; the hosts that it led to stay."""
        destination = self._reached.pop(cluster, None)
        if destination is not None:
            if all(other[:2] != destination[:2] for other in self._reached.values()):
                self.common.leave_at(self, destination[:2])
            self.drop(source.CLUSTER, cluster)

    def _connect(self, cluster: str) -> None:
        """The cluster leads where the host of its address is; without one, to the address itself."""
        for hostname in self.behind(cluster):
            self.add(hostname)
        found = self.scope.cluster_at(*self._reached[cluster][:2])
        audience = self.common.audience
        if found is not None:
            self.put(msgspec.structs.replace(found, name=cluster, assignment=found.name))
        else:
            settings = audience.settings
            self.put(FixedClusterSpec(cluster, settings.connect_timeout, audience.ipv6, settings.cluster_policy()))

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._hosts

    def update(self, affected: frozenset[str], ports: set[int]) -> None:
        """Look again at hosts that may have changed, and at all virtual hosts of some ports."""
        again = [name for name, had in self._hosts.items() if not affected.isdisjoint(had.members)]
        touched = {port for port in ports if port in self._ports}
        for hostname in again:
            touched |= self._look_at(hostname)
        self._put_routes(touched)
        for cluster in self._reached:
            self._connect(cluster)

    def needs(self, hostname: str) -> Iterator[Key]:
        """The resources that a proxy must have before it serves a host."""
        found = self._hosts[hostname]
        for type_url, name in found.resources:
            if name in self.entries(type_url):
                yield type_url, name
        for port, _ in found.virtual_hosts:
            if self.common.shares(port):
                yield source.ROUTE, str(port)

    def _look_at(self, hostname: str) -> set[int]:
        """Gives the ports whose routes may have changed."""
        before = self._hosts[hostname]
        found = self.common.contribution(hostname)
        if self.common.is_always(hostname):
            found = Contribution(members=found.members)
        self._hosts[hostname] = found
        return self._exchange(hostname, before, found)

    def _exchange(self, hostname: str, before: Contribution, found: Contribution) -> set[int]:
        """Have a host contribute something else; gives the ports whose routes may have changed."""
        ports, had = ({port for port, _ in c.virtual_hosts} for c in (found, before))
        new, left = _recount(self._members, found.members, before.members)
        new_ports, left_ports = _recount(self._ports, ports, had)
        self.common.enter(self, frozenset(new), new_ports)
        self.common.leave(self, frozenset(left), left_ports)
        self.show(hostname, found.resources)
        return ports | had

    def _put_routes(self, ports: Iterable[int]) -> None:
        for port in ports:
            if not (port in self._ports and self.common.shares(port)):
                self.drop(source.ROUTE, str(port))
                continue
            own = (where for found in self._hosts.values() for where in found.virtual_hosts if where[0] == port)
            found = (self.scope.virtual_host(*where) for where in own)
            self.put_routes(port, (*self.common.virtual_hosts(port), *(host for host in found if host is not None)))


def _recount(counts: Counter, now: Iterable, before: Iterable) -> tuple[list, list]:  # type: ignore[type-arg]
    """Count what is there now in place of what was; gives what is counted for the first time, and no more."""
    had = set(counts)
    counts.update(now)
    counts.subtract(before)
    for key in [key for key, count in counts.items() if not count]:
        del counts[key]
    return [key for key in counts if key not in had], [key for key in had if key not in counts]
