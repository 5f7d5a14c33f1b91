"""The state-of-the-world variant of ADS, for clients that speak nothing else (gRPC's own).

A response of listeners or clusters holds all that the client subscribes to, and what it lacks is gone; responses of
other types hold what changed. https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, "Basic Protocol".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from pilotfish.xds.delta import WILDCARD, WILDCARD_TYPES
from pilotfish.xds.source import CLUSTER, LISTENER, Resource
from pilotfish.xds.watch import NOTHING, Asked, Update, Watch
from pilotfish.xds.wire import sotw_response

FULL_STATE = frozenset({CLUSTER, LISTENER})


class StateOfTheWorld:
    """The dialect of `StreamAggregatedResources`."""

    looks_ahead = False

    def parse(self, message: bytes) -> Any:
        return discovery_pb2.DiscoveryRequest.FromString(message)

    def stale(self, watch: Watch, request: Any) -> bool:
        return bool(request.response_nonce) and request.response_nonce != watch.sent_nonce

    def subscribes(self, request: Any) -> bool:
        return True

    def asks(self, request: Any) -> Asked:
        """Nothing that concerns demand: each request repeats the whole subscription."""
        return Asked()

    def subscribe(self, watch: Watch, request: Any, resources: Mapping[str, Resource], *, first: bool) -> None:
        """Every request names the whole subscription. A client that comes back with the version of a full state that
        still holds is sent nothing.
        """
        wanted = set(request.resource_names)
        # An empty list is a wildcard until a resource has been named, and nothing at all from then on.
        legacy = not wanted and watch.type_url in WILDCARD_TYPES and (first or (watch.wildcard and not watch.names))
        wildcard = WILDCARD in wanted or legacy
        wanted.discard(WILDCARD)
        added, dropped = wanted - watch.names, watch.names - wanted
        begins = wildcard and not watch.wildcard
        watch.wildcard, watch.names = wildcard, wanted
        if not wildcard:
            watch.pending = watch.pending.intersection(wanted)
            watch.forced = watch.forced.intersection(wanted)
            for name in dropped | (watch.held.keys() - wanted):
                watch.forget(name)
        if first and watch.type_url in FULL_STATE and request.version_info:
            current = [resource for name, resource in resources.items() if watch.subscribed(name)]
            if request.version_info == version_of(current):
                watch.held.update((resource.name, resource.version) for resource in current)
                return
        if added or begins:
            watch.pending = watch.pending.union(added, resources if begins else NOTHING)
            watch.must_answer = True

    def select(self, watch: Watch, resources: Mapping[str, Resource]) -> Update:
        settled = watch.pending | watch.forced
        changed = [
            name for name in sorted(settled) if watch.subscribed(name) and watch.differs(name, resources.get(name))
        ]
        if watch.type_url not in FULL_STATE:
            return Update([resources[name] for name in changed if name in resources], [], settled)
        if not changed and not watch.must_answer:
            return Update([], [], settled)
        removed = [name for name in watch.held if name not in resources]
        names = resources if watch.wildcard else watch.names
        return Update([resources[name] for name in sorted(names) if name in resources], removed, settled)

    def encode(self, type_url: str, nonce: str, update: Update) -> bytes:
        return sotw_response(type_url, version_of(update.resources), nonce, update.resources)


def version_of(resources: Iterable[Resource]) -> str:
    """One version for a set of resources: equal sets have equal versions in every process."""
    digest = hashlib.blake2b(digest_size=8)
    for name, version in sorted((resource.name, resource.version) for resource in resources):
        digest.update(f"{name}\0{version}\0".encode())
    return digest.hexdigest()


STATE_OF_THE_WORLD = StateOfTheWorld()
