"""Clusters: where a proxy can send to."""

from __future__ import annotations

import enum
from typing import ClassVar

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2
from envoy.extensions.clusters.common.dns.v3 import dns_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2
from google.protobuf.duration_pb2 import Duration

from pilotfish.mesh.locality import Preference, Zones
from pilotfish.mesh.records import Endpoint, ObjectKey, Record
from pilotfish.xds import source
from pilotfish.xds.build import common, dynamic, names
from pilotfish.xds.build.cluster_policy import NO_POLICY, ClusterPolicy
from pilotfish.xds.build.connection_pool import limit
from pilotfish.xds.build.endpoints import load_assignment
from pilotfish.xds.build.http_options import HTTP_OPTIONS, Upstream, as_downstream, speak
from pilotfish.xds.build.load_balancing import balance
from pilotfish.xds.build.mutual_tls import REQUEST_PROTOCOLS, MutualTls
from pilotfish.xds.build.outlier_detection import detect_outliers
from pilotfish.xds.build.upstream_tls import connect
from pilotfish.xds.entries import serialise

INBOUND_SOURCES = {False: "127.0.0.6", True: "::6"}
"""The source of connections from a proxy to its own workload, by whether it is IPv6; capture lets it pass (Istio)."""

_NEVER = Duration(seconds=9223372035)  # the longest that Envoy takes, some 292 years
_IDLE_PASSTHROUGH = Duration(seconds=300)


class Discovery(enum.StrEnum):
    """How a cluster finds its endpoints."""

    EDS = "EDS"
    ORIGINAL_DST = "ORIGINAL_DST"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    DYNAMIC_DNS = "DYNAMIC_DNS"


class ServiceName(Record):
    """What a cluster's service is called in metrics."""

    host: str
    name: str
    namespace: str


class ClusterSpec(Record):
    """An outbound cluster. `endpoints` and `preferred` are those of DNS clusters alone; `port_override` that of
    ORIGINAL_DST ones; `rule` is the DestinationRule that says how the cluster is used.
    """

    type_url: ClassVar[str] = source.CLUSTER

    name: str
    discovery: Discovery
    upstream: Upstream
    connect_timeout: float
    endpoints: tuple[Endpoint, ...] = ()
    dns_refresh: float = 0.0
    port_override: int = 0
    ipv6: bool = False
    assignment: str = ""
    """The name of its endpoints (EDS), where that is not the cluster's own."""
    service: ServiceName | None = None
    rule: ObjectKey | None = None
    policy: ClusterPolicy = NO_POLICY
    preferred: Preference | None = None
    stat_name: str = ""
    """What it is called in statistics, if not by its name."""

    def body(self) -> bytes:
        return serialise(outbound_cluster(self))


class InboundClusterSpec(Record):
    """The cluster of one port of the proxy's own workload, which listens where connections come for it, or `behind`
    (an address or a Unix socket); there on the same port, or on `target`. `rule` is as in `ClusterSpec`.
    """

    type_url: ClassVar[str] = source.CLUSTER

    port: int
    upstream: Upstream
    connect_timeout: float
    ipv6: bool
    behind: str = ""
    service: ServiceName | None = None
    target: int = 0
    policy: ClusterPolicy = NO_POLICY
    rule: ObjectKey | None = None
    stat_name: str = ""

    @property
    def name(self) -> str:
        return names.inbound(self.port)

    def body(self) -> bytes:
        return serialise(inbound_cluster(self))


class FixedClusterSpec(Record):
    """One of the clusters that every sidecar has: `name` is BLACK_HOLE, PASSTHROUGH or INBOUND_PASSTHROUGH. One of any
    other name does what PASSTHROUGH does.
    """

    type_url: ClassVar[str] = source.CLUSTER

    name: str
    connect_timeout: float
    ipv6: bool
    policy: ClusterPolicy = NO_POLICY

    def body(self) -> bytes:
        return serialise(fixed_cluster(self))


def outbound_cluster(spec: ClusterSpec) -> cluster_pb2.Cluster:
    """The cluster of one port of a host (Istio: buildCluster and the default traffic policy)."""
    cluster = _cluster(spec.name, spec.connect_timeout, spec.stat_name)
    if spec.rule is not None:
        common.name_source(cluster.metadata, spec.rule)
    match spec.discovery:
        case Discovery.EDS:
            cluster.type = cluster_pb2.Cluster.EDS
            balance(cluster, spec.policy.load_balancer)
            cluster.eds_cluster_config.service_name = spec.assignment or spec.name
            cluster.eds_cluster_config.eds_config.CopyFrom(common.from_ads())
        case Discovery.ORIGINAL_DST:
            _to_original_destination(cluster)
            if spec.port_override:
                cluster.original_dst_lb_config.upstream_port_override.value = spec.port_override
        case Discovery.STRICT_DNS | Discovery.LOGICAL_DNS:
            balance(cluster, spec.policy.load_balancer)
            cluster.cluster_type.name = "envoy.clusters.dns"
            cluster.cluster_type.typed_config.CopyFrom(common.any_of(_dns(spec)))
            cluster.load_assignment.CopyFrom(load_assignment(spec.name, spec.endpoints, spec.preferred))
        case Discovery.DYNAMIC_DNS:
            cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
            cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
            cluster.cluster_type.typed_config.CopyFrom(common.any_of(dynamic.cluster_type(ipv6=spec.ipv6)))
    limit(cluster, spec.policy)
    if spec.policy.outlier_detection is not None:
        detect_outliers(cluster, spec.policy.outlier_detection)
    if spec.policy.weighted_localities:
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    if spec.policy.zones is not None:
        _balance_zones(cluster.common_lb_config.zone_aware_lb_config, spec.policy.zones)
    speak(cluster, spec.upstream, spec.policy)
    connect(cluster, spec.policy.tls, spec.policy.proxy_header, http2=spec.upstream is Upstream.HTTP2)
    if isinstance(spec.policy.tls, MutualTls) and spec.policy.tls.request_protocols:
        said = {REQUEST_PROTOCOLS: ",".join(spec.policy.tls.request_protocols)}
        cluster.metadata.filter_metadata[names.SECURITY_METADATA].update(said)
    _call(cluster, spec.service)
    return cluster


def _balance_zones(built: cluster_pb2.Cluster.CommonLbConfig.ZoneAwareLbConfig, zones: Zones) -> None:
    built.SetInParent()
    if not zones.enabled:
        built.routing_enabled.value = 0
    if zones.least is not None:
        built.min_cluster_size.value = zones.least


def inbound_cluster(spec: InboundClusterSpec) -> cluster_pb2.Cluster:
    """To the address that the connection came for, from an address that is not captured again; or past it."""
    cluster = _cluster(spec.name, spec.connect_timeout, spec.stat_name)
    if spec.rule is not None:
        common.name_source(cluster.metadata, spec.rule)
    if spec.behind:
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.load_assignment.CopyFrom(load_assignment(spec.name, (Endpoint(spec.behind, spec.target or spec.port),)))
    else:
        _to_original_destination(cluster)
        cluster.cleanup_interval.CopyFrom(_NEVER)
        if spec.target:
            cluster.original_dst_lb_config.upstream_port_override.value = spec.target
        _bind(cluster, INBOUND_SOURCES[spec.ipv6])
    limit(cluster, spec.policy)
    speak(cluster, spec.upstream, spec.policy)
    _call(cluster, spec.service)
    return cluster


def _call(cluster: cluster_pb2.Cluster, service: ServiceName | None) -> None:
    """Say what the cluster's service is called in metrics; under "istio" as Istio says it."""
    if service is None:
        return
    fields = {"host": service.host, "name": service.name, "namespace": service.namespace}
    cluster.metadata.filter_metadata[names.SERVICE_METADATA].update(fields)
    cluster.metadata.filter_metadata["istio"].update({"services": [fields]})


def fixed_cluster(spec: FixedClusterSpec) -> cluster_pb2.Cluster:
    cluster = _cluster(spec.name, spec.connect_timeout)
    if spec.name == names.BLACK_HOLE:
        cluster.type = cluster_pb2.Cluster.STATIC
        return cluster
    _to_original_destination(cluster)
    limit(cluster, spec.policy)
    options = as_downstream(spec.policy)
    options.common_http_protocol_options.idle_timeout.CopyFrom(_IDLE_PASSTHROUGH)
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(common.any_of(options))
    if spec.name == names.INBOUND_PASSTHROUGH:
        _bind(cluster, INBOUND_SOURCES[spec.ipv6])
    return cluster


def _cluster(name: str, connect_timeout: float, stat_name: str = "") -> cluster_pb2.Cluster:
    return cluster_pb2.Cluster(
        name=name, alt_stat_name=names.stat(stat_name or name), connect_timeout=common.duration(connect_timeout)
    )


def _to_original_destination(cluster: cluster_pb2.Cluster) -> None:
    cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
    cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED


def _bind(cluster: cluster_pb2.Cluster, address: str) -> None:
    cluster.upstream_bind_config.source_address.CopyFrom(address_pb2.SocketAddress(address=address, port_value=0))


def _dns(spec: ClusterSpec) -> dns_cluster_pb2.DnsCluster:
    family = dns_pb2.DnsLookupFamily
    return dns_cluster_pb2.DnsCluster(
        dns_refresh_rate=common.duration(spec.dns_refresh),
        respect_dns_ttl=True,
        dns_lookup_family=family.V6_ONLY if spec.ipv6 else family.V4_ONLY,
        all_addresses_in_single_endpoint=spec.discovery is Discovery.LOGICAL_DNS,
    )
