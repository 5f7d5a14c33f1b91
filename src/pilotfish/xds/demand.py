"""Who asked for which host: from lookups that DNS processes tell of to the selections of proxies, and back.

A DNS process subscribes to a resource for each workload and host that was looked up (`pilotfish.api.demand`). The
workload's proxy gets the host; when it has all of it in force the resource appears, and the answer is released. Where
nothing is to wait for (a proxy that has everything, or the host already) it appears at once. While no proxy is
connected there (it starts, or comes back) only what was there before stays: the DNS process does not wait for long.

What a workload asked for it keeps as long as it uses it (`pilotfish.xds.usage`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from pilotfish.api.demand import Demand, read_demand
from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.model import Model, Touched
from pilotfish.xds.build import names
from pilotfish.xds.grants import Asker
from pilotfish.xds.idle import is_over, next_period
from pilotfish.xds.selection import Selection
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, Held
from pilotfish.xds.usage import Usage

Clock = Callable[[], float]


class User:
    """A sidecar on demand while it is connected: the hosts that it has, and those that it does not have in force.

    Without a `selection` it has everything for the time being.
    """

    def __init__(self, address: str, idle_time: float = 0.0) -> None:
        """What it does not use for `idle_time` seconds it does not keep; 0: it keeps everything."""
        self.address = address
        self.usage = Usage(idle_time)
        self.hostnames: set[str] = set()
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

    def __init__(self, model: Model, clock: Clock = time.monotonic, date: Clock = time.time) -> None:
        """`clock` says how much time has passed, `date` what the time is; both in seconds."""
        self._model = model
        self._clock, self._date = clock, date
        self._asking: MultiMap[Demand, tuple[Asker, str]] = MultiMap()  # demand → who waits under which resource name
        self._asked: dict[Asker, dict[str, Demand]] = {}
        self._hosts_at: MultiMap[str, str] = MultiMap()
        self._addresses_of: MultiMap[str, str] = MultiMap()
        self._users: MultiMap[str, User] = MultiMap()
        self._having: MultiMap[str, User] = MultiMap()
        self._eager: Counter[str] = Counter()

    # Sidecars

    def enter(self, address: str, idle_time: float = 0.0) -> User:
        """A sidecar connects; it begins with what its workload asked for before. See `User` for `idle_time`."""
        user = User(address, idle_time)
        self._users.add(address, user)
        for hostname in self._hosts_at[address]:
            self.want(user, hostname)
        return user

    def leave(self, user: User) -> None:
        """A sidecar is gone."""
        self._users.remove(user.address, user)
        for hostname in user.hostnames:
            self._having.remove(hostname, user)

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

    def reach(self, user: User, clusters: Iterable[str], kept: Collection[str] = ()) -> bool:
        """A sidecar has connections for addresses that its workload did not look up, and asks for clusters named by
        them. Gives whether it is to be told something.

        With a new stream it asks again for all that it ever asked for. Of what it has not kept, the names of periods
        that are over were withdrawn, and it has no use for them.
        """
        new = []
        for name in (*clusters, *kept):
            found = names.destination(name)
            if found is None or name in user.reached or (name not in kept and is_over(found.period, self._date())):
                continue
            new.append(name)
            user.reached[name] = None
            user.usage.touch(name, self._clock())
            if user.selection is not None:
                user.selection.reach(name)
        return bool(new)

    def report(self, address: str, used: Collection[str]) -> list[User]:
        """A sidecar has used these clusters (by their names in statistics) since the last report, and no others.

        What it has not used for its idle time is withdrawn: `pilotfish.xds.usage` says how. Gives who is to be told.
        """
        changed: list[User] = []
        for user in self._users[address]:
            self.keep(user)
            if user.selection is None:
                continue
            idle = user.usage.report(user.selection, used, self._clock())
            for hostname in idle.noticed:
                self._revoke(Demand(address, hostname))
            following = self._following(idle.lasting)
            coming = self.reach(user, following)
            for cluster in following:
                user.usage.touch(cluster, self._clock())
            for cluster in set(idle.clusters) - following:
                user.reached.pop(cluster, None)
                user.selection.unreach(cluster)
            for hostname in idle.hosts:
                self._give_up(user, hostname)
            if idle.hosts or idle.clusters or coming:
                changed.append(user)
        return changed

    def keep(self, user: User) -> None:
        """What a sidecar came to have by its connections it has from now on like what its workload asked for."""
        if user.selection is not None:
            for hostname in user.selection.hostnames - user.hostnames:
                self._own(user, hostname)

    def _own(self, user: User, hostname: str) -> None:
        user.hostnames.add(hostname)
        self._having.add(hostname, user)

    def _following(self, clusters: Iterable[str]) -> set[str]:
        """What clusters of addresses will be called in the next period: who has them by then does not wait for the
        control plane when it begins.
        """
        found = (names.destination(cluster) for cluster in clusters)
        ahead = ((at, next_period(at.period, self._date())) for at in found if at is not None)
        return {at._replace(period=period).cluster for at, period in ahead if period}

    def _give_up(self, user: User, hostname: str) -> None:
        """Have a sidecar have a host no more."""
        self._having.remove(hostname, user)
        user.hostnames.discard(hostname)
        user.waiting.discard(hostname)
        if user.selection is not None:
            user.selection.remove(hostname)

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
        user.usage.touch(hostname, self._clock())
        if hostname in user.hostnames:
            return False
        self._own(user, hostname)
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
            if (before is None) != (after is None):
                self._changed(key.hostname, there=after is not None)

    def _changed(self, hostname: str, *, there: bool) -> None:
        demands = [Demand(address, hostname) for address in self._addresses_of[hostname]]
        for demand in demands:
            self._revoke(demand)
        users = self._having[hostname]
        if there:
            for user in users:
                user.waiting.add(hostname)
        if there or self._model.definitions(hostname):
            for user in users:
                self.settle(user)
            for demand in demands:
                self._settle(demand)

    def _revoke(self, demand: Demand) -> None:
        for asker, resource in self._asking[demand]:
            asker.revoke(resource)


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
