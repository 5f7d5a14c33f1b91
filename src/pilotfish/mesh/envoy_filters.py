"""What EnvoyFilters change of proxies' configuration, and which of them are a proxy's.

Istio: pilot/pkg/model/envoyfilter.go and the order of pilot/pkg/model/push_context.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from pilotfish.api import networking
from pilotfish.api.istio_validation.regex import compiled
from pilotfish.api.meta import Object
from pilotfish.api.networking.envoy_filter import (
    ApplyTo,
    ClusterMatch,
    EnvoyConfigObjectPatch,
    FilterClass,
    ListenerMatch,
    Operation,
    PatchContext,
    ProxyMatch,
    RouteConfigurationMatch,
)
from pilotfish.mesh.records import Labels, ObjectKey, Record, labels_of

_ORDERED: frozenset[ApplyTo] = frozenset({"LISTENER_FILTER", "NETWORK_FILTER", "HTTP_FILTER", "HTTP_ROUTE"})
"""What has a place among others; inserting anything else is adding it."""
_LONGEST_VERSION = 1024


class Patch(Record):
    """One of an EnvoyFilter's changes. `value` is a piece of Envoy's configuration in protobuf's JSON, b"" for none.

    At most one of the matches is there.
    """

    source: ObjectKey
    apply_to: ApplyTo
    operation: Operation
    value: bytes = b""
    context: PatchContext = "ANY"
    listener: ListenerMatch | None = None
    routes: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    filter_class: FilterClass = "UNSPECIFIED"

    @property
    def merges(self) -> bool:
        return self.operation in ("MERGE", "MERGE_AND_REPLACE_LIST")


class _Filter(Record):
    """An EnvoyFilter. Each of its patches is for the proxies that have these metadata and a version like this."""

    source: ObjectKey
    priority: int
    created: str
    selector: Labels
    patches: tuple[tuple[Patch, str, Labels], ...]


class EnvoyFilters:
    """All EnvoyFilters of the mesh, by namespace."""

    def __init__(self, root_namespace: str) -> None:
        self.root_namespace = root_namespace
        self._filters: dict[str, dict[ObjectKey, _Filter]] = {}
        self.changes = 0
        """How often they became others than they were."""

    def apply(self, before: Object | None, after: Object | None) -> bool:
        """Take in a changed EnvoyFilter; gives whether it says something else now, and False for other kinds."""
        obj = after if after is not None else before
        if not isinstance(obj, networking.EnvoyFilter):
            return False
        key = ObjectKey("EnvoyFilter", obj.namespace, obj.name)
        filters = self._filters.setdefault(key.namespace, {})
        was = filters.pop(key, None)
        if after is not None and obj.spec.target_refs is None:
            filters[key] = _filter(key, obj)
        now = filters.get(key)
        if not filters:
            del self._filters[key.namespace]
        self.changes += was != now
        return was != now

    @property
    def selecting(self) -> bool:
        """Whether some EnvoyFilter tells workloads apart by their labels."""
        return any(found.selector for filters in self._filters.values() for found in filters.values())

    def has(self, patch: Patch) -> bool:
        """Whether a patch is one of its EnvoyFilter as that is now."""
        found = self._filters.get(patch.source.namespace, {}).get(patch.source)
        return found is not None and any(held == patch for held, _, _ in found.patches)

    def of(self, namespace: str, labels: Labels, metadata: Mapping[str, Any]) -> tuple[Patch, ...]:
        """The patches of a proxy in the order in which they are applied: by priority, and of one priority the root
        namespace's before its own namespace's, then the older first. `metadata` are its node's.
        """
        mine = [
            found
            for where in dict.fromkeys((self.root_namespace, namespace))
            for found in self._filters.get(where, {}).values()
            if set(found.selector) <= set(labels)
        ]
        mine.sort(key=lambda f: (f.priority, f.source.namespace != self.root_namespace, f.created, f.source.name))
        return tuple(
            patch
            for found in mine
            for patch, version, wanted in found.patches
            if _is_version(version, str(metadata.get("ISTIO_VERSION") or ""))
            and all(metadata.get(name) == value for name, value in wanted)
        )


def _filter(key: ObjectKey, obj: networking.EnvoyFilter) -> _Filter:
    spec = obj.spec
    return _Filter(
        source=key,
        priority=spec.priority,
        created=obj.metadata.creation_timestamp or "",
        selector=labels_of(spec.workload_selector.labels) if spec.workload_selector else (),
        patches=tuple(_patch(key, given) for given in spec.config_patches if given.patch is not None),
    )


def _patch(key: ObjectKey, given: EnvoyConfigObjectPatch) -> tuple[Patch, str, Labels]:
    assert given.patch is not None
    match, operation = given.match, given.patch.operation
    if operation.startswith("INSERT_") and given.apply_to not in _ORDERED:
        operation = "ADD"
    value = given.patch.value
    patch = Patch(
        source=key,
        apply_to=given.apply_to,
        operation=operation,
        value=b"" if value is None else msgspec.json.encode(value, order="sorted"),
        context=match.context,
        listener=match.listener,
        routes=match.route_configuration,
        cluster=match.cluster,
        filter_class=given.patch.filter_class,
    )
    proxy = match.proxy or ProxyMatch()
    return patch, proxy.proxy_version, labels_of(proxy.metadata)


def _is_version(wanted: str, version: str) -> bool:
    """Whether a version has what the regular expression means somewhere in it; one that is too long, or none, means
    nothing.
    """
    if not wanted:
        return True
    if not version or len(wanted) > _LONGEST_VERSION:
        return False
    try:
        return compiled(wanted).search(version) is not None
    except re.error:
        return False
