"""Limits of a cluster's connections: circuit breakers and keepalive (Istio: applyConnectionPool)."""

from __future__ import annotations

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking.connection_pool import HTTPSettings, TcpKeepalive, TCPSettings
from pilotfish.api.networking.destination_rule import RetryBudget
from pilotfish.xds.build import common
from pilotfish.xds.build.cluster_policy import NO_POLICY, ClusterPolicy

_UNLIMITED = 2**32 - 1
_BUDGET_PERCENT = 20.0
_BUDGET_RETRIES = 3
_BUDGET_INTERVAL = 3
"""The number of the field `budget_interval` of `RetryBudget`."""


def limit(cluster: cluster_pb2.Cluster, policy: ClusterPolicy = NO_POLICY) -> None:
    """Have the cluster keep to the limits of a policy; there are none but those that somebody asks for, since Envoy's
    own defaults are too low for a rollout (Istio).
    """
    tcp = policy.connection_pool.tcp or TCPSettings()
    http = policy.connection_pool.http or HTTPSettings()
    threshold = circuit_breaker_pb2.CircuitBreakers.Thresholds(track_remaining=True)
    threshold.max_connections.value = tcp.max_connections or _UNLIMITED
    threshold.max_pending_requests.value = http.http1_max_pending_requests or _UNLIMITED
    threshold.max_requests.value = http.http2_max_requests or _UNLIMITED
    threshold.max_retries.value = http.max_retries or _UNLIMITED
    if policy.retry_budget is not None:
        _budget(threshold.retry_budget, policy.retry_budget)
    cluster.circuit_breakers.thresholds.append(threshold)
    if policy.buffer_limit is not None:
        cluster.per_connection_buffer_limit_bytes.value = policy.buffer_limit
    for keepalive in (policy.tcp_keepalive, tcp.tcp_keepalive):
        if keepalive is not None:
            _keep_alive(cluster, keepalive)


def _budget(built: circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget, budget: RetryBudget) -> None:
    built.budget_percent.value = _BUDGET_PERCENT if budget.percent is None else budget.percent
    built.min_retry_concurrency.value = budget.min_retry_concurrency or _BUDGET_RETRIES
    if budget.budget_interval is not None:
        # Envoy knows this field, and its published Python protobufs do not yet: it is written as it is on the wire.
        interval = common.duration(parse_duration(budget.budget_interval)).SerializeToString()
        built.MergeFromString(bytes((_BUDGET_INTERVAL << 3 | 2, len(interval))) + interval)


def _keep_alive(cluster: cluster_pb2.Cluster, keepalive: TcpKeepalive) -> None:
    """Later words go before earlier ones, one by one; what nobody says is the kernel's. Seconds are whole ones."""
    built = cluster.upstream_connection_options.tcp_keepalive
    built.SetInParent()
    if keepalive.probes:
        built.keepalive_probes.value = keepalive.probes
    if keepalive.time is not None:
        built.keepalive_time.value = int(parse_duration(keepalive.time))
    if keepalive.interval is not None:
        built.keepalive_interval.value = int(parse_duration(keepalive.interval))
