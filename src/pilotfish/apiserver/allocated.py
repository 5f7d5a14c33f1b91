"""Which cluster IPs and node ports are in use: those of the stored Services, and no others, so that nothing can leak.

What was given to a write that is not stored yet is reserved until that write has ended. The store says what changed
since it was last asked, so that a write costs the same among ten Services and a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from pilotfish.api import core
from pilotfish.api.errors import Expired
from pilotfish.api.kinds import SERVICE
from pilotfish.store.store import Key, Store, Stored

Value = str | int
"""An address or a port number."""


class _ServiceSpec(msgspec.Struct):
    class Metadata(msgspec.Struct):
        uid: str = ""

    metadata: Metadata
    spec: core.ServiceSpec
    status: core.ServiceStatus = core.ServiceStatus()


_service = msgspec.json.Decoder(_ServiceSpec)


@dataclass(frozen=True, slots=True)
class Held:
    """What one Service holds."""

    uid: str
    values: frozenset[Value]


def held_by(uid: str, spec: core.ServiceSpec, balanced: Iterable[str] = ()) -> Held:
    """`balanced` are the addresses of its load balancer."""
    ports = {port.node_port for port in spec.ports} | {spec.health_check_node_port}
    addresses = {spec.cluster_ip, *spec.cluster_ips, *balanced}
    return Held(uid, frozenset(addresses - {"", "None"}) | frozenset(ports - {0}))


@dataclass(frozen=True, slots=True)
class Taken:
    """The addresses and ports that Services other than one hold, as long as no Service is written."""

    holders: dict[Value, dict[object, str]]
    uid: str

    def __contains__(self, value: object) -> bool:
        return any(uid != self.uid for uid in self.holders.get(value, {}).values())  # type: ignore[call-overload]


@dataclass(eq=False)
class InUse:
    """What the Services of a store hold."""

    store: Store
    _revision: int | None = None
    _held: dict[object, Held] = field(default_factory=dict)
    """By the key of a stored Service, or by what stands for a write that has not ended."""
    _holders: dict[Value, dict[object, str]] = field(default_factory=dict)
    """Who of them holds an address or a port, with their UIDs."""

    def by_others(self, uid: str) -> Taken:
        """Addresses and ports of all Services but one."""
        self._refresh()
        return Taken(self._holders, uid)

    def reserve(self, held: Held) -> Callable[[], None]:
        """Keep what a write was given; returns what ends the reservation."""
        token = object()
        self._put(token, held)
        return lambda: self._put(token, None)

    def _refresh(self) -> None:
        since, self._revision = self._revision, self.store.revision
        if since is not None:
            try:
                changes = self.store.changes(SERVICE.resource, since)
            except Expired:
                pass  # nobody asked for a long time
            else:
                for event in changes:
                    self._put(event.stored.key, None if event.type == "DELETED" else _read(event.stored))
                return
        for key in [key for key in self._held if isinstance(key, Key)]:
            self._put(key, None)
        for stored in self.store.list(SERVICE.resource):
            self._put(stored.key, _read(stored))

    def _put(self, holder: object, held: Held | None) -> None:
        """Have a holder hold this, and nothing that it held before."""
        before = self._held.pop(holder, None)
        for value in before.values if before else ():
            del self._holders[value][holder]
            if not self._holders[value]:
                del self._holders[value]
        if held is None:
            return
        self._held[holder] = held
        for value in held.values:
            self._holders.setdefault(value, {})[holder] = held.uid


def _read(stored: Stored) -> Held:
    service = _service.decode(stored.body)
    balanced = (ingress.ip for ingress in service.status.load_balancer.ingress)
    return held_by(service.metadata.uid, service.spec, balanced)
