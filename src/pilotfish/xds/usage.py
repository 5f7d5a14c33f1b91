"""What a proxy on demand uses of what it has, and what of it is idle.

A proxy's use is told by its clusters (`pilotfish.xds.load_reports`): those that had connections or requests in
progress, or new ones, since the last report. A host is used by any cluster that it needs, so what a VirtualService
sends elsewhere counts, and by the clusters of its address.

Idle hosts go in two steps, a report apart. First the grants of their demands are taken back, so that the next lookup is
a first one again and is told of; then the host, unless it was looked up or used in between. Whoever was given an answer
just before that has connected by then.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from pilotfish.xds.build import names
from pilotfish.xds.selection import Selection


class Idle(NamedTuple):
    """What has not been used for the idle time: hosts to be given notice, hosts to be withdrawn, and clusters of
    addresses to be withdrawn; and of the latter those that are used again and again.
    """

    noticed: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()


class Usage:
    """When one proxy last used each host and each cluster of an address. Times are seconds of any one clock."""

    def __init__(self, idle_time: float) -> None:
        """`idle_time` in seconds; 0 is for ever."""
        self._idle_time = idle_time
        self._last: dict[str, float] = {}
        self._noticed: set[str] = set()
        self._used: frozenset[str] = frozenset()
        """The clusters of addresses that were used up to the last report."""

    def touch(self, name: str, now: float) -> None:
        """A host or a cluster of an address is asked for, or used."""
        self._last[name] = now
        self._noticed.discard(name)

    def report(self, selection: Selection, used: Collection[str], now: float) -> Idle:
        """Take in which clusters (by their names in statistics) were used up to now; gives what is idle."""
        if not self._idle_time:
            return Idle()
        used_before, self._used = self._used, frozenset(c for c in selection.reached if names.counted(c) in used)
        for cluster in self._used:
            self.touch(cluster, now)
            for hostname in selection.behind(cluster):
                self.touch(hostname, now)
        for hostname in selection.hostnames:
            if any(names.counted(cluster) in used for cluster in selection.clusters_of(hostname)):
                self.touch(hostname, now)
        there = (*selection.hostnames, *selection.reached)
        self._last = {name: self._last.get(name, now) for name in there}
        idle = {name for name, last in self._last.items() if now - last >= self._idle_time}
        # What is behind the cluster of an address stays as long as that: where the cluster is, nobody asks again.
        led_to = {host for cluster in selection.reached if cluster not in idle for host in selection.behind(cluster)}
        hosts = tuple(name for name in selection.hostnames if name in idle and name not in led_to)
        noticed = self._noticed
        self._noticed = set(hosts)
        return Idle(
            noticed=tuple(name for name in hosts if name not in noticed),
            hosts=tuple(name for name in hosts if name in noticed),
            clusters=tuple(name for name in selection.reached if name in idle),
            lasting=tuple(name for name in selection.reached if name in self._used & used_before),
        )
