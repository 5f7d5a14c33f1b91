"""Listeners and clusters for gRPC's own xDS client, which refuses a resource that it understands only in part.

What it takes: https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md and the proposals named there. Load
assignments are built as Envoy's are.
"""

from __future__ import annotations

from typing import ClassVar

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
from google.protobuf.message import Message

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking.destination_rule import OutlierDetection
from pilotfish.api.networking.load_balancer import ConsistentHashLB
from pilotfish.mesh.records import Endpoint, Record
from pilotfish.xds import source
from pilotfish.xds.build import common, filters
from pilotfish.xds.build.cluster_policy import NO_POLICY, ClusterPolicy
from pilotfish.xds.build.endpoints import load_assignment
from pilotfish.xds.entries import serialise

_RING_SIZE = 1024
_ERRORS = 5
"""After how many errors an endpoint is left out where nobody says it (Envoy's default)."""
_ALL_BUT = 99
"""An endpoint is left out when more than this percentage of its calls failed."""


class ApiListenerSpec(Record):
    """What a channel to `xds:///<name>` asks for first; it leads to a route configuration."""

    type_url: ClassVar[str] = source.LISTENER

    name: str
    route: str

    def body(self) -> bytes:
        return serialise(api_listener(self))


class ProxylessClusterSpec(Record):
    """A cluster that takes its endpoints from its own stream, or looks up the one name that `lookup` holds."""

    type_url: ClassVar[str] = source.CLUSTER

    name: str
    lookup: Endpoint | None = None
    policy: ClusterPolicy = NO_POLICY

    def body(self) -> bytes:
        return serialise(cluster(self))


def api_listener(spec: ApiListenerSpec) -> listener_pb2.Listener:
    """A connection manager without a connection: routes over RDS, faults, and the router, with which filters end."""
    manager = hcm_pb2.HttpConnectionManager(http_filters=[filters.fault(), filters.router()])
    manager.rds.route_config_name = spec.route
    manager.rds.config_source.CopyFrom(common.from_ads())
    listener = listener_pb2.Listener(name=spec.name)
    listener.api_listener.api_listener.CopyFrom(common.any_of(manager))
    return listener


def cluster(spec: ProxylessClusterSpec) -> cluster_pb2.Cluster:
    """A cluster as gRPC takes it, with what it can do of a policy."""
    found = cluster_pb2.Cluster(name=spec.name)
    if spec.lookup is None:
        found.type = cluster_pb2.Cluster.EDS
        found.eds_cluster_config.service_name = spec.name
        found.eds_cluster_config.eds_config.CopyFrom(common.from_ads())
    else:
        found.type = cluster_pb2.Cluster.LOGICAL_DNS
        found.load_assignment.CopyFrom(load_assignment(spec.name, (spec.lookup,)))
    _balance(found, spec.policy)
    http = spec.policy.connection_pool.http
    if http is not None and http.http2_max_requests:
        threshold = circuit_breaker_pb2.CircuitBreakers.Thresholds()
        threshold.max_requests.value = http.http2_max_requests
        found.circuit_breakers.thresholds.append(threshold)
    if spec.policy.outlier_detection is not None:
        _detect_outliers(found.outlier_detection, spec.policy.outlier_detection)
    return found


def _balance(found: cluster_pb2.Cluster, policy: ClusterPolicy) -> None:
    """Round robin unless somebody says otherwise. Which endpoint has the fewest requests only some releases count, and
    those that do not fall back (gRPC proposals A48, A52). All consistent hashing is that of rings (A42).
    """
    balancer = policy.load_balancer
    found.lb_policy = cluster_pb2.Cluster.ROUND_ROBIN
    if balancer.consistent_hash is not None:
        found.lb_policy = cluster_pb2.Cluster.RING_HASH
        found.ring_hash_lb_config.minimum_ring_size.value = _ring_size(balancer.consistent_hash)
    elif balancer.simple in ("LEAST_REQUEST", "LEAST_CONN"):
        of_localities = wrr_locality_pb2.WrrLocality()
        for name, choice in (
            ("least_request", least_request_pb2.LeastRequest()),
            ("round_robin", round_robin_pb2.RoundRobin()),
        ):
            _add_policy(of_localities.endpoint_picking_policy, name, choice)
        _add_policy(found.load_balancing_policy, "wrr_locality", of_localities)


def _ring_size(hashing: ConsistentHashLB) -> int:
    given = hashing.ring_hash.minimum_ring_size if hashing.ring_hash else hashing.minimum_ring_size
    return given or _RING_SIZE


def _add_policy(policies: cluster_pb2.LoadBalancingPolicy, name: str, config: Message) -> None:
    added = policies.policies.add().typed_extension_config
    added.name = f"envoy.load_balancing_policies.{name}"
    added.typed_config.CopyFrom(common.any_of(config))


def _detect_outliers(built: outlier_detection_pb2.OutlierDetection, outlier: OutlierDetection) -> None:
    """gRPC counts no errors in a row (A50). An endpoint all of whose calls in an interval failed, of at least as many,
    is left out in its place.
    """
    given = [n for n in (outlier.consecutive_5xx_errors, outlier.consecutive_gateway_errors) if n is not None]
    errors = min((n for n in given if n), default=0 if given else _ERRORS)
    built.enforcing_success_rate.value = 0
    built.enforcing_failure_percentage.value = 100 if errors else 0
    built.failure_percentage_threshold.value = _ALL_BUT
    built.failure_percentage_minimum_hosts.value = 1
    built.failure_percentage_request_volume.value = max(errors, 1)
    if outlier.interval is not None:
        built.interval.CopyFrom(common.duration(parse_duration(outlier.interval)))
    if outlier.base_ejection_time is not None:
        built.base_ejection_time.CopyFrom(common.duration(parse_duration(outlier.base_ejection_time)))
    if outlier.max_ejection_percent:
        built.max_ejection_percent.value = outlier.max_ejection_percent
