"""Which hosts pods have looked up, and which of those their proxies have: what an answer may have to wait for.

The first lookup of a host by a pod subscribes to a resource that stands for the two (`pilotfish.api.demand`), and is
answered when the control plane sends it: then the pod's proxy has the host's configuration in force. It waits for
so long and no longer, and not at all while the control plane is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from pilotfish.api.demand import Demand, demand_name, read_demand
from pilotfish.node.dns.counters import Counters

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""For how long an answer waits at most."""

Subscribe = Callable[[Sequence[str], Sequence[str]], None]
"""Called with names of resources to subscribe to, and names to unsubscribe from."""


class Demands:
    """The demands of all pods of the node."""

    def __init__(self, counters: Counters, patience: float = PATIENCE_SECONDS) -> None:
        self._counters = counters
        self._patience = patience
        self._released: dict[str, asyncio.Event] = {}
        self._granted: dict[str, str] = {}
        self._of: dict[str, set[str]] = {}
        self._subscribe: Subscribe | None = None
        self._answering = False
        self.on_revoked: Callable[[Demand], None] = lambda demand: None
        """Called with a demand that was fulfilled and no longer is."""

    # What pods ask for

    def hold(self, demand: Demand) -> bool:
        """Note that a pod looks a host up; gives whether the answer has to wait (`wait`)."""
        name = demand_name(demand)
        released = self._released.get(name)
        if released is None:
            released = self._released[name] = asyncio.Event()
            self._of.setdefault(demand.address, set()).add(name)
            if self._subscribe is not None:
                self._subscribe([name], [])
        return self._answering and not released.is_set()

    def fulfilled(self, demand: Demand) -> bool:
        """Whether later lookups of the same need not be looked at."""
        released = self._released.get(demand_name(demand))
        return released is not None and released.is_set()

    async def wait(self, demand: Demand) -> None:
        """Return when the answer may go out. Who waits for the same waits together."""
        name = demand_name(demand)
        released = self._released.get(name)
        if released is None:
            return
        self._counters.held += 1
        try:
            async with asyncio.timeout(self._patience):
                await released.wait()
        except TimeoutError:
            self._counters.held_in_vain += 1
            released.set()
            log.warning("%s is answered before the pod's proxy has it: nothing came for %.1f s", name, self._patience)

    def forget(self, address: str) -> None:
        """The pod at this address is gone."""
        names = sorted(self._of.pop(address, ()))
        for name in names:
            self._released.pop(name).set()
            self._granted.pop(name, None)
        if names and self._subscribe is not None:
            self._subscribe([], names)

    # What the control plane says

    @property
    def names(self) -> Iterable[str]:
        """All resources that are asked for."""
        return self._released.keys()

    @property
    def versions(self) -> Mapping[str, str]:
        """Those that are there, with their versions."""
        return self._granted

    def granted(self, name: str, version: str) -> None:
        """The pod's proxy has the host."""
        if released := self._released.get(name):
            self._granted[name] = version
            released.set()

    def revoked(self, name: str) -> None:
        """There is no such resource any more, or none yet. Where there was one, the next lookup is a first one."""
        demand = read_demand(name)
        if demand is not None and self._granted.pop(name, None) is not None:
            del self._released[name]
            self._of[demand.address].discard(name)
            if self._subscribe is not None:
                self._subscribe([], [name])
            self.on_revoked(demand)

    def connecting(self, subscribe: Subscribe) -> None:
        """A stream begins, whose first request names all that is asked for; `subscribe` changes that."""
        self._subscribe = subscribe

    def connected(self) -> None:
        """The control plane answers."""
        self._answering = True

    def disconnected(self) -> None:
        """It does so no longer: nobody waits for it."""
        self._subscribe = None
        self._answering = False
        for name, released in self._released.items():
            if not released.is_set():
                self._released[name] = asyncio.Event()
                released.set()
