"""Responses put together from bytes: a resource's envelope is made once and shared by every stream that sends it.

Protobuf lets a message's fields come in any order, so the envelope is written with the body last: what precedes the
body (its head) depends on the resource alone, and a response is the concatenation of heads and bodies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from envoy.config.cluster.v3 import cluster_pb2

from pilotfish.xds.source import CLUSTER, Resource

_LENGTH_DELIMITED = 2

T = TypeVar("T")


def _once_for_each(make: Callable[[str, Resource], T]) -> Callable[[str, Resource], T]:
    """`make`, called once for each resource of a type for as long as anyone holds the resource."""
    made: defaultdict[str, WeakKeyDictionary[Resource, T]] = defaultdict(WeakKeyDictionary)
    unknown: Any = object()

    def remembered(type_url: str, resource: Resource) -> T:
        of_type = made[type_url]
        found: T = of_type.get(resource, unknown)
        if found is unknown:
            found = of_type[resource] = make(type_url, resource)
        return found

    return remembered


def delta_response(type_url: str, nonce: str, resources: Iterable[Resource], removed: Iterable[str]) -> bytes:
    """A serialised `DeltaDiscoveryResponse`."""
    parts = [_text(1, nonce), _text(4, type_url), _text(5, nonce)]
    for resource in resources:
        parts += (_delta_head(type_url, resource), resource.body)
    parts += (_text(6, name) for name in removed)
    return b"".join(parts)


def sotw_response(type_url: str, version: str, nonce: str, resources: Iterable[Resource]) -> bytes:
    """A serialised `DiscoveryResponse`."""
    parts = [_text(1, version), _text(4, type_url), _text(5, nonce)]
    for resource in resources:
        parts += (_sotw_head(type_url, resource), resource.body)
    return b"".join(parts)


@_once_for_each
def endpoint_name(type_url: str, resource: Resource) -> str | None:
    """Under which name a cluster takes its endpoints from its own stream; None where it does not, or is no cluster.

    Envoy: an EDS cluster's `service_name`, or the cluster's name where that is empty.
    """
    if type_url != CLUSTER:
        return None
    cluster = cluster_pb2.Cluster.FromString(resource.body)
    source = cluster.eds_cluster_config.eds_config
    if cluster.type != cluster_pb2.Cluster.EDS or source.WhichOneof("config_source_specifier") not in ("ads", "self"):
        return None
    name: str = cluster.eds_cluster_config.service_name or cluster.name
    return name


@_once_for_each
def _delta_head(type_url: str, resource: Resource) -> bytes:
    """All of `DeltaDiscoveryResponse.resources[i]` (a `Resource` of name, version and `Any`) up to the body."""
    any_head = _any_head(type_url, resource)
    names = _text(3, resource.name) + _text(1, resource.version)
    any_size = len(any_head) + len(resource.body)
    message_head = names + _tag(2) + _varint(any_size)
    return _tag(2) + _varint(len(message_head) + any_size) + message_head + any_head


@_once_for_each
def _sotw_head(type_url: str, resource: Resource) -> bytes:
    """All of `DiscoveryResponse.resources[i]` (an `Any`) up to the body."""
    head = _any_head(type_url, resource)
    return _tag(2) + _varint(len(head) + len(resource.body)) + head


def _any_head(type_url: str, resource: Resource) -> bytes:
    return _text(1, type_url) + _tag(2) + _varint(len(resource.body))


@lru_cache(maxsize=4096)
def _text(field: int, value: str) -> bytes:
    encoded = value.encode()
    return _tag(field) + _varint(len(encoded)) + encoded


def _tag(field: int) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
