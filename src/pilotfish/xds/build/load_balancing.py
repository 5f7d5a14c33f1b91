"""Load balancing: which endpoint gets a request (Istio: applyLoadBalancer, ApplyRingHashLoadBalancer).

What requests are hashed by stands in the cluster, too, where Envoy looks for it when a route does not say it. So every
request that goes to the cluster is hashed, whichever route leads there. (Istio writes it into routes.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking.load_balancer import ConsistentHashLB, HTTPCookie, LoadBalancerSettings
from pilotfish.xds.build import common

HashPolicy: TypeAlias = route_components_pb2.RouteAction.HashPolicy

_RING_SIZE = 1024
_AGGRESSION = "warmup.aggression"
"""Envoy wants the name of a runtime setting beside the value; nobody sets it."""


def balance(cluster: cluster_pb2.Cluster, settings: LoadBalancerSettings) -> None:
    """Have the cluster choose endpoints as it is told: by the fewest requests in flight where it is not."""
    if settings.consistent_hash is not None:
        _hash(cluster, settings.consistent_hash)
    elif settings.simple == "RANDOM":
        cluster.lb_policy = cluster_pb2.Cluster.RANDOM
    elif settings.simple == "ROUND_ROBIN":
        cluster.lb_policy = cluster_pb2.Cluster.ROUND_ROBIN
        if (warmup := _warmup(settings)) is not None:
            cluster.round_robin_lb_config.slow_start_config.CopyFrom(warmup)
    else:
        cluster.lb_policy = cluster_pb2.Cluster.LEAST_REQUEST
        if (warmup := _warmup(settings)) is not None:
            cluster.least_request_lb_config.slow_start_config.CopyFrom(warmup)


def _warmup(settings: LoadBalancerSettings) -> cluster_pb2.Cluster.SlowStartConfig | None:
    built = cluster_pb2.Cluster.SlowStartConfig()
    if (warmup := settings.warmup) is not None:
        built.slow_start_window.CopyFrom(common.duration(parse_duration(warmup.duration)))
        built.aggression.default_value = 1.0 if warmup.aggression is None else warmup.aggression
        built.aggression.runtime_key = _AGGRESSION
        built.min_weight_percent.value = 10.0 if warmup.minimum_percent is None else warmup.minimum_percent
    elif settings.warmup_duration_secs is not None:
        built.slow_start_window.CopyFrom(common.duration(parse_duration(settings.warmup_duration_secs)))
    else:
        return None
    return built


def _hash(cluster: cluster_pb2.Cluster, hashing: ConsistentHashLB) -> None:
    if hashing.maglev is not None:
        cluster.lb_policy = cluster_pb2.Cluster.MAGLEV
        if hashing.maglev.table_size:
            cluster.maglev_lb_config.table_size.value = hashing.maglev.table_size
        return
    cluster.lb_policy = cluster_pb2.Cluster.RING_HASH
    size = hashing.ring_hash.minimum_ring_size if hashing.ring_hash else hashing.minimum_ring_size or _RING_SIZE
    if size:
        cluster.ring_hash_lb_config.minimum_ring_size.value = size


def hash_policies(settings: LoadBalancerSettings) -> Iterator[HashPolicy]:
    """By what requests are hashed."""
    hashing = settings.consistent_hash
    if hashing is None:
        return
    if hashing.http_header_name is not None:
        yield HashPolicy(header=HashPolicy.Header(header_name=hashing.http_header_name))
    elif hashing.http_cookie is not None:
        yield HashPolicy(cookie=_cookie(hashing.http_cookie))
    elif hashing.use_source_ip:
        yield HashPolicy(connection_properties=HashPolicy.ConnectionProperties(source_ip=True))
    elif hashing.http_query_parameter_name is not None:
        yield HashPolicy(query_parameter=HashPolicy.QueryParameter(name=hashing.http_query_parameter_name))


def _cookie(cookie: HTTPCookie) -> route_components_pb2.RouteAction.HashPolicy.Cookie:
    built = HashPolicy.Cookie(name=cookie.name, path=cookie.path)
    if cookie.ttl is not None:
        built.ttl.CopyFrom(common.duration(parse_duration(cookie.ttl)))
    for attribute in cookie.attributes:
        built.attributes.add(name=attribute.name, value=attribute.value)
    return built
