"""Configuration on demand: the part of a scope that one proxy uses.

Only the route configurations of shared ports are made for it, put together from virtual hosts that the scope has given
their domains; and the clusters of addresses that it reaches without a lookup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, KeysView

import msgspec

from pilotfish.mesh.model import Model
from pilotfish.xds import source
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import FixedClusterSpec
from pilotfish.xds.common import Common
from pilotfish.xds.scope import Contribution
from pilotfish.xds.shown import Key, Shown


class Selection(Shown):
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
            self.put(
                FixedClusterSpec(
                    cluster, settings.connect_timeout, audience.ipv6, settings.cluster_policy(outside=True)
                )
            )

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
