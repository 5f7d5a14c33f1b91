"""The clusters that something leads to, with their endpoints, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from pilotfish.mesh.model import Model
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.entries import Spec
from pilotfish.xds.parts import Part
from pilotfish.xds.secrets import Secrets, needs_of_clusters
from pilotfish.xds.upstreams import assignments, clusters


class UsedClusters:
    """Keeps the clusters of a part as its users need them. A change of a host costs that host alone."""

    def __init__(self, part: Part, audience: Audience, model: Model, secrets: Secrets) -> None:
        self._part = part
        self._secrets = secrets
        self._audience = audience
        self._model = model
        self._of_user: dict[Hashable, frozenset[str]] = {}
        self._users: Counter[str] = Counter()
        self._hosts: dict[str, set[str]] = {}  # host → its clusters in use
        self._specs: dict[str, tuple[Spec, ...]] = {}  # host → what the part has for it
        self._dirty: set[str] = set()

    def use(self, user: Hashable, wanted: Collection[str]) -> None:
        """Have a user lead to these clusters, and to none that it led to before. See `settle`."""
        before = self._of_user.pop(user, frozenset())
        after = frozenset(wanted)
        if after:
            self._of_user[user] = after
        for cluster in after - before:
            self._users[cluster] += 1
            if self._users[cluster] == 1:
                self._hosts.setdefault(names.host_of(cluster), set()).add(cluster)
                self._dirty.add(names.host_of(cluster))
        for cluster in before - after:
            self._users[cluster] -= 1
            if not self._users[cluster]:
                del self._users[cluster]
                self._hosts[names.host_of(cluster)].discard(cluster)
                self._dirty.add(names.host_of(cluster))

    def use_only(self, wanted: Mapping[Hashable, Collection[str]]) -> None:
        """Have these users, and no others."""
        for user in self._of_user.keys() - wanted.keys():
            self.use(user, ())
        for user, clusters_wanted in wanted.items():
            self.use(user, clusters_wanted)

    def settle(self, changed: Iterable[str] = ()) -> None:
        """Bring the part up to date: with what users want now, and with hosts (by name, in lower case) that changed."""
        self._dirty.update(name for name in changed if name in self._hosts)
        for hostname in self._dirty:
            before, after = self._specs.pop(hostname, ()), tuple(self._wanted(hostname))
            self._part.replace(before, after)
            self._secrets.use(hostname, needs_of_clusters(after))
            if after:
                self._specs[hostname] = after
            if not self._hosts[hostname]:
                del self._hosts[hostname]
        self._dirty.clear()

    def _wanted(self, hostname: str) -> Iterator[Spec]:
        used = self._hosts[hostname]
        seen = self._model.look(self._audience.viewer, hostname) if used else None
        if seen is not None:
            specs: tuple[Spec, ...] = (*clusters(seen, self._audience), *assignments(seen, self._audience))
            yield from (spec for spec in specs if spec.name in used)
