"""The incremental variant of ADS: subscriptions by name or wildcard, and only what differs is sent.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, "Incremental xDS".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.xds.source import CLUSTER, LISTENER, Resource
from pilotfish.xds.watch import Asked, Update, Watch
from pilotfish.xds.wire import delta_response

WILDCARD = "*"
WILDCARD_TYPES = frozenset({CLUSTER, LISTENER, NAME_TABLE_TYPE})
"""Types of which a client that has never named a resource wants all (the protocol's legacy wildcard)."""

RESPONSE_BYTES = 3 << 20
"""A response is ended when its resources exceed this; the rest follows when the proxy has answered."""
_AWAITED = frozenset({NAME_TABLE_TYPE})
"""Clients wait for a resource that is not there yet, and need not hear that it is not."""
_WHOLE = frozenset({LISTENER})
"""Never divided: Envoy takes the first response for all that it has to wait for before it is ready."""


class Delta:
    """The dialect of `DeltaAggregatedResources`."""

    looks_ahead = True

    def parse(self, message: bytes) -> Any:
        return discovery_pb2.DeltaDiscoveryRequest.FromString(message)

    def stale(self, watch: Watch, request: Any) -> bool:
        # A late answer may still carry a change of subscriptions.
        return False

    def subscribes(self, request: Any) -> bool:
        return bool(request.resource_names_subscribe or request.resource_names_unsubscribe)

    def asks(self, request: Any) -> Asked:
        return Asked(
            request.resource_names_subscribe, request.resource_names_unsubscribe, request.initial_resource_versions
        )

    def subscribe(self, watch: Watch, request: Any, resources: Mapping[str, Resource], *, first: bool) -> None:
        """`initial_resource_versions` tell what a proxy kept over a reconnect. Subscribing again to a name asks for
        the resource again, unless it is on its way unasked; unsubscribing from a name under a wildcard asks whether the
        wildcard still covers it.
        """
        subscribed = request.resource_names_subscribe
        retained = _shared(request.initial_resource_versions, resources) if first else {}
        watch.held.update(retained)
        if WILDCARD in subscribed or (first and not subscribed and watch.type_url in WILDCARD_TYPES):
            watch.wildcard = True
        named = [_known(name, resources) for name in subscribed if name != WILDCARD]
        unsubscribed = request.resource_names_unsubscribe
        watch.names.update(named)
        watch.pending = watch.pending.union(named)
        on_their_way = watch.ahead.intersection(named)
        watch.ahead -= on_their_way
        if not first:
            watch.forced = watch.forced.union(name for name in named if name not in on_their_way)
        if unsubscribed:
            _unsubscribe(watch, unsubscribed)
        if watch.wildcard and (first or WILDCARD in subscribed):
            watch.pending = watch.pending.union(resources, watch.held)
            watch.must_answer = not retained

    def select(self, watch: Watch, resources: Mapping[str, Resource]) -> Update:
        sent: list[Resource] = []
        removed: list[str] = []
        settled: list[str] = []
        room = RESPONSE_BYTES
        for name in sorted(watch.pending | watch.forced):
            if room <= 0 and watch.type_url not in _WHOLE:
                break
            settled.append(name)
            resource = resources.get(name)
            if resource is None and name in watch.ahead:
                watch.ahead.discard(name)
                watch.forget(name)
                continue
            if not (watch.subscribed(name) or name in watch.forced) or not watch.differs(name, resource):
                continue
            if resource is None and watch.type_url in _AWAITED and watch.held.get(name) is None:
                continue
            if resource is None or not watch.subscribed(name):
                removed.append(name)
            else:
                sent.append(resource)
                room -= len(resource.body)
        return Update(sent, removed, frozenset(settled))

    def encode(self, type_url: str, nonce: str, update: Update) -> bytes:
        return delta_response(type_url, nonce, update.resources, update.removed)


def _unsubscribe(watch: Watch, names: Any) -> None:
    if WILDCARD in names:
        watch.wildcard = False
        watch.must_answer = False
    dropped = frozenset(name for name in names if name != WILDCARD)
    watch.names -= dropped
    watch.ahead -= dropped
    if watch.wildcard:
        watch.forced |= dropped
        return
    watch.pending -= dropped
    watch.forced -= dropped
    watch.superfluous -= dropped
    for name in watch.held.keys() - watch.names - watch.ahead:
        watch.forget(name)


def _shared(versions: Mapping[str, str], resources: Mapping[str, Resource]) -> dict[str, str | None]:
    """The versions, with the resources' own strings: a thousand proxies hold no thousand copies."""
    shared: dict[str, str | None] = {}
    for name, version in versions.items():
        resource = resources.get(name)
        if resource is not None and resource.version == version:
            shared[resource.name] = resource.version
        else:
            shared[name] = version
    return shared


def _known(name: str, resources: Mapping[str, Resource]) -> str:
    resource = resources.get(name)
    return resource.name if resource else name


DELTA = Delta()
