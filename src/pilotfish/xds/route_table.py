"""The virtual hosts of one port: who gets which domain when several hosts want it.

Envoy refuses a route configuration in which a domain stands twice. A host's own name goes before an address, an address
before another host's short name; among equals the oldest host has it (Istio drops duplicates in much the same order).
"""

from __future__ import annotations

from bisect import bisect_left, insort

from pilotfish.mesh.records import Age
from pilotfish.xds.build.routes import VirtualHostSpec
from pilotfish.xds.wanted_hosts import WantedHost

_Rank = tuple[int, Age, str]


class RouteTable:
    """Virtual hosts in order of their names. A change costs the domains of the host that changed."""

    def __init__(self) -> None:
        self._wanted: dict[str, WantedHost] = {}
        self._names: list[str] = []
        self._hosts: dict[str, VirtualHostSpec] = {}
        self._owner: dict[str, str] = {}  # domain in lower case → virtual host that has it
        self._contested: dict[str, dict[str, _Rank]] = {}  # domains that several want
        self._dirty: set[str] = set()

    def put(self, host: WantedHost) -> None:
        self.drop(host.name)
        self._wanted[host.name] = host
        insort(self._names, host.name)
        self._dirty.add(host.name)
        for domain, rank in _domains(host).items():
            self._claim(domain, host.name, rank)

    def drop(self, name: str) -> None:
        host = self._wanted.pop(name, None)
        if host is None:
            return
        del self._names[bisect_left(self._names, name)]
        self._hosts.pop(name, None)
        self._dirty.discard(name)
        for domain in _domains(host):
            self._release(domain, name)

    def virtual_hosts(self) -> tuple[VirtualHostSpec, ...]:
        """All that have a domain, each domain in one of them."""
        self.settle()
        return tuple(spec for name in self._names if (spec := self._hosts[name]).domains)

    def virtual_host(self, name: str) -> VirtualHostSpec | None:
        """One of them, or None where it has no domain."""
        self.settle()
        found = self._hosts.get(name)
        return found if found is not None and found.domains else None

    def owner(self, domain: str) -> WantedHost | None:
        """Who has a domain; it need not be settled for that."""
        name = self._owner.get(domain.lower())
        return self._wanted[name] if name is not None else None

    def settle(self) -> frozenset[str]:
        """Decide who has what since the last change; gives the names of the virtual hosts that may differ."""
        changed = frozenset(self._dirty)
        for name in changed:
            self._hosts[name] = self._resolve(self._wanted[name])
        self._dirty.clear()
        return changed

    def _claim(self, domain: str, name: str, rank: _Rank) -> None:
        owner = self._owner.get(domain)
        if owner is None:
            self._owner[domain] = name
            return
        wanting = self._contested.get(domain)
        if wanting is None:
            wanting = self._contested[domain] = {owner: _domains(self._wanted[owner])[domain]}
        wanting[name] = rank
        self._award(domain, wanting)

    def _release(self, domain: str, name: str) -> None:
        wanting = self._contested.get(domain)
        if wanting is None:
            del self._owner[domain]
            return
        del wanting[name]
        self._award(domain, wanting)
        if len(wanting) == 1:
            del self._contested[domain]

    def _award(self, domain: str, wanting: dict[str, _Rank]) -> None:
        winner = min(wanting, key=wanting.__getitem__)
        loser, self._owner[domain] = self._owner[domain], winner
        if winner != loser:
            self._dirty.update({winner, loser} & self._wanted.keys())

    def _resolve(self, host: WantedHost) -> VirtualHostSpec:
        had: dict[str, str] = {}
        for domain in (*host.own, *host.short, *host.addresses):
            if self._owner[domain.lower()] == host.name:
                had.setdefault(domain.lower(), domain)
        return VirtualHostSpec(host.name, tuple(had.values()), host.routes)


def _domains(host: WantedHost) -> dict[str, _Rank]:
    """Each wanted domain in lower case with its rank; the lowest wins."""
    ranked: dict[str, _Rank] = {}
    for rank, domains in enumerate((host.own, host.addresses, host.short)):
        for domain in domains:
            ranked.setdefault(domain.lower(), (rank, host.age, host.name))
    return ranked
