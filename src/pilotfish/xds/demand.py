"""Who asked for which host: from lookups that DNS processes tell of to the selections of proxies, and back.

A DNS process subscribes to a resource for each workload and host that was looked up (`pilotfish.api.demand`). The
workload's proxy gets the host; when it has all of it in force the resource appears, and the answer is released. Where
nothing is to wait for (a proxy that has everything, or the host already) it appears at once. While no proxy is
connected there (it starts, or comes back) only what was there before stays: the DNS process does not wait for long.

What a workload asked for it keeps as long as it runs: to remove a cluster would end its connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from pilotfish.api.demand import CONFIG_ANNOTATION, CONFIG_METADATA, EAGER, Demand, read_demand
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.records import Record
from pilotfish.xds.build import names
from pilotfish.xds.parts import Part
from pilotfish.xds.selection import Selection
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, Held, ProxyNode


class GrantSpec(Record):
    """That a workload's proxy has what was asked for: a name table without a name."""

    name: str

    @property
    def type_url(self) -> str:
        return NAME_TABLE_TYPE

    def body(self) -> bytes:
        return b""


def on_demand(node: ProxyNode) -> bool:
    """Whether a proxy gets its configuration on demand: a sidecar whose workload's lookups are seen, unless its pod
    (by annotation) or its ProxyConfig (by metadata) asks for everything at once.
    """
    captured = str(node.metadata.get("DNS_CAPTURE", "")).lower() in ("true", "1")
    annotations = node.metadata.get("ANNOTATIONS")
    by_default = node.metadata.get(CONFIG_METADATA, "")
    mode = annotations.get(CONFIG_ANNOTATION, by_default) if isinstance(annotations, Mapping) else by_default
    return node.type == "sidecar" and captured and mode != EAGER


class Grants(Part):
    """The resources of demands that a DNS process has."""

    def __init__(self, resources: Iterable[str] = ()) -> None:
        super().__init__()
        for resource in resources:
            self.put(GrantSpec(resource))
        self.take_changes()

    def anew(self, model: Model) -> Grants:
        return Grants(self.entries(NAME_TABLE_TYPE))


class Asker(Protocol):
    """A connected DNS process."""

    def grant(self, resource: str) -> None:
        """Have the resource of a demand."""
        ...

    def revoke(self, resource: str) -> None:
        """Have it no more."""
        ...


class User:
    """A sidecar on demand while it is connected: the hosts that it has, and those that it does not have in force.

    Without a `selection` it has everything for the time being.
    """

    def __init__(self, address: str, hostnames: Iterable[str]) -> None:
        self.address = address
        self.hostnames = set(hostnames)
        self.reached: dict[str, None] = {}
        """The clusters that it asked for by address and port."""
        self.waiting: set[str] = set()
        self.selection: Selection | None = None
        self.held: Held | None = None

    def ready(self) -> list[str]:
        """The hosts whose wait is over."""
        return [name for name in self.waiting if self._has(name)]

    def _has(self, hostname: str) -> bool:
        if self.selection is None:
            return True
        held = self.held
        return all(held is not None and held.settled(*key) for key in self.selection.needs(hostname))


class Demands:
    """What workloads ask for, by their address."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._asking: MultiMap[Demand, tuple[Asker, str]] = MultiMap()  # demand → who waits under which resource name
        self._asked: dict[Asker, dict[str, Demand]] = {}
        self._hosts_at: MultiMap[str, str] = MultiMap()
        self._addresses_of: MultiMap[str, str] = MultiMap()
        self._users: MultiMap[str, User] = MultiMap()
        self._eager: Counter[str] = Counter()

    # Sidecars

    def enter(self, address: str) -> User:
        """A sidecar connects; it begins with what its workload asked for before."""
        user = User(address, self._hosts_at[address])
        user.waiting = set(user.hostnames)
        self._users.add(address, user)
        return user

    def leave(self, user: User) -> None:
        """A sidecar is gone."""
        self._users.remove(user.address, user)

    def enter_eager(self, address: str) -> None:
        """A sidecar connects that has everything."""
        self._eager[address] += 1
        for hostname in self._hosts_at[address]:
            self._settle(Demand(address, hostname))

    def leave_eager(self, address: str) -> None:
        self._eager[address] -= 1
        if not self._eager[address]:
            del self._eager[address]

    def resumed(self, user: User, hostnames: Iterable[str]) -> bool:
        """A sidecar comes back with hosts that it had before: they stay, whoever asked for them.

        Gives whether it is to be told something.
        """
        new = [hostname for hostname in hostnames if self.want(user, hostname)]
        for hostname in hostnames:
            user.waiting.discard(hostname)
            self._settle(Demand(user.address, hostname))
        return bool(new)

    def answered(self, user: User, held: Held) -> None:
        """A sidecar has taken something into force."""
        user.held = held
        self.settle(user)

    def settle(self, user: User) -> None:
        """Tell those who wait for what a sidecar has by now."""
        for hostname in user.ready():
            user.waiting.discard(hostname)
            self._settle(Demand(user.address, hostname))

    def reach(self, user: User, clusters: Iterable[str]) -> bool:
        """A sidecar has connections for addresses that its workload did not look up, and asks for clusters named by
        them. Gives whether it is to be told something.
        """
        new = [name for name in clusters if names.destination(name) and name not in user.reached]
        for name in new:
            user.reached[name] = None
            if user.selection is not None:
                user.selection.reach(name)
        return bool(new)

    # DNS processes

    def ask(self, asker: Asker, resources: Iterable[str], kept: Collection[str] = ()) -> list[User]:
        """A DNS process asks for these resources of the name table. Those that it has from an earlier stream stay: the
        proxy had the host then, and has it still or gets it with all else when it starts.

        Gives the sidecars that get something new; `settle` them when they have been told.
        """
        changed: list[User] = []
        for resource in resources:
            demand = read_demand(resource)
            if demand is None:
                continue
            demand = Demand(demand.address, self._hostname(demand.host))
            self._withdraw(asker, resource)
            self._asked.setdefault(asker, {})[resource] = demand
            self._asking.add(demand, (asker, resource))
            self._hosts_at.add(demand.address, demand.host)
            self._addresses_of.add(demand.host, demand.address)
            for user in self._users[demand.address]:
                if self.want(user, demand.host):
                    changed.append(user)
            self._settle(demand)
            if resource in kept:
                asker.grant(resource)
        return changed

    def want(self, user: User, hostname: str) -> bool:
        """Have a sidecar have a host; gives whether that is new: then it is to be told, and to be settled."""
        if hostname in user.hostnames:
            return False
        user.hostnames.add(hostname)
        if user.selection is not None:
            user.selection.add(hostname)
        user.waiting.add(hostname)
        return True

    def withdraw(self, asker: Asker, resources: Iterable[str]) -> None:
        """A DNS process no longer asks for these, since the workload is gone."""
        for resource in resources:
            self._withdraw(asker, resource)

    def forget(self, asker: Asker) -> None:
        """A DNS process is gone."""
        self.withdraw(asker, tuple(self._asked.get(asker, ())))
        self._asked.pop(asker, None)

    def _withdraw(self, asker: Asker, resource: str) -> None:
        demand = self._asked.get(asker, {}).pop(resource, None)
        if demand is None:
            return
        asker.revoke(resource)
        self._asking.remove(demand, (asker, resource))
        if not self._asking.count(demand):
            self._hosts_at.remove(demand.address, demand.host)
            self._addresses_of.remove(demand.host, demand.address)

    def _hostname(self, name: str) -> str:
        """The host that has a name of the name table, in lower case: pods of a headless service belong to it."""
        name = name.lower()
        parent = name.partition(".")[2]
        return parent if not self._model.definitions(name) and self._model.definitions(parent) else name

    def _settle(self, demand: Demand) -> None:
        """Grant a demand if a proxy has what it asks for. A proxy that came back may be there twice for a while."""
        there = any(demand.host not in user.waiting for user in self._users[demand.address])
        if there or self._eager[demand.address]:
            for asker, resource in self._asking[demand]:
                asker.grant(resource)

    # The mesh

    def update(self, touched: Touched) -> None:
        """A host that is gone is granted to nobody; one that has come is waited for like a new one.

        To be called when the sidecars have been told of the change.
        """
        for key, (before, after) in touched.hosts.items():
            if (before is None) == (after is None):
                continue
            for address in self._addresses_of[key.hostname]:
                self._changed(Demand(address, key.hostname), there=after is not None)

    def _changed(self, demand: Demand, *, there: bool) -> None:
        for asker, resource in self._asking[demand]:
            asker.revoke(resource)
        for user in self._users[demand.address]:
            if there:
                user.waiting.add(demand.host)
        if there or self._model.definitions(demand.host):
            for user in self._users[demand.address]:
                self.settle(user)
            self._settle(demand)


def kept_hosts(selection: Selection, type_url: str, kept: Collection[str]) -> set[str]:
    """The hosts (in lower case) that a proxy has by the names of what it kept from an earlier stream."""
    found: set[str] = set()
    for name in kept:
        if type_url in (CLUSTER, ENDPOINT) and name.startswith("outbound"):
            found.add(name.split("|", 3)[3].lower())
        elif type_url == LISTENER:
            address, _, port = name.rpartition("_")
            if port.isdecimal() and address != selection.common.audience.wildcard:
                found.update(selection.scope.claimants(address, int(port)))
    return {name for name in found if not selection.common.is_always(name) and selection.scope.seen(name)}
