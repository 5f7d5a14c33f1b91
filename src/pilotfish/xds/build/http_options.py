"""How a cluster speaks HTTP: the version, and what becomes of its connections."""

from __future__ import annotations

import enum

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings, HTTPSettings, TCPSettings
from pilotfish.mesh.protocols import Protocol
from pilotfish.xds.build import common
from pilotfish.xds.build.cluster_policy import NO_POLICY, ClusterPolicy
from pilotfish.xds.build.http_settings import preserve_case
from pilotfish.xds.build.load_balancing import hash_policies
from pilotfish.xds.build.outlier_detection import failing_statuses
from pilotfish.xds.build.peers import hide_peer

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class Upstream(enum.StrEnum):
    """What HTTP version goes upstream: HTTP/1.1, HTTP/2, or the one in which the request came."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    AS_DOWNSTREAM = "as downstream"


def upstream_of(protocol: Protocol) -> Upstream:
    """How requests to a port of this protocol travel on."""
    if protocol.is_http2:
        return Upstream.HTTP2
    return Upstream.AS_DOWNSTREAM if protocol is Protocol.AUTO else Upstream.HTTP1


def upgraded(protocol: Protocol, http: HTTPSettings, *, by_default: bool) -> Upstream:
    """How requests to a port travel on, as a connection pool says; `by_default` is the mesh's h2UpgradePolicy.

    Whoever asks for an upgrade knows that the port speaks HTTP/2, also where its protocol is not named. (Istio says so
    and upgrades nothing there.)
    """
    if http.use_client_protocol:
        return Upstream.AS_DOWNSTREAM
    asked = http.h2_upgrade_policy == "UPGRADE"
    if asked or (http.h2_upgrade_policy == "DEFAULT" and by_default and protocol.is_http):
        return Upstream.HTTP2
    return upstream_of(protocol)


def speak(cluster: cluster_pb2.Cluster, upstream: Upstream, policy: ClusterPolicy = NO_POLICY) -> None:
    """Have the cluster speak an HTTP version, as a policy says; HTTP/1.1 with nothing said is Envoy's default."""
    options = options_pb2.HttpProtocolOptions()
    _connections(options, policy.connection_pool)
    if policy.outlier_detection is not None and policy.outlier_detection.outlier_detection_http_error_codes:
        codes = policy.outlier_detection.outlier_detection_http_error_codes
        options.outlier_detection.error_matcher.CopyFrom(failing_statuses(codes))
    if policy.tls is not None:
        options.upstream_http_protocol_options.CopyFrom(policy.tls.http)
        if not options.upstream_http_protocol_options.ListFields():
            options.ClearField("upstream_http_protocol_options")
    options.hash_policy.extend(hash_policies(policy.load_balancer))
    if policy.hides_peer:
        options.http_filters.extend(hide_peer())
    if upstream is Upstream.HTTP1 and not policy.preserve_case and not options.ListFields():
        return
    _version(options, upstream, policy)
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(common.any_of(options))


def as_downstream(policy: ClusterPolicy = NO_POLICY) -> options_pb2.HttpProtocolOptions:
    """The version in which the request came."""
    options = options_pb2.HttpProtocolOptions()
    if policy.hides_peer:
        options.http_filters.extend(hide_peer())
    _version(options, Upstream.AS_DOWNSTREAM, policy)
    return options


def _version(options: options_pb2.HttpProtocolOptions, upstream: Upstream, policy: ClusterPolicy) -> None:
    if upstream is Upstream.AS_DOWNSTREAM:
        _http1(options.use_downstream_protocol_config.http_protocol_options, policy)
        _http2(options.use_downstream_protocol_config.http2_protocol_options, policy)
    elif upstream is Upstream.HTTP2:
        _http2(options.explicit_http_config.http2_protocol_options, policy)
    else:
        _http1(options.explicit_http_config.http_protocol_options, policy)


def _http1(http1: protocol_pb2.Http1ProtocolOptions, policy: ClusterPolicy) -> None:
    http1.SetInParent()
    if policy.preserve_case:
        preserve_case(http1)


def _http2(http2: protocol_pb2.Http2ProtocolOptions, policy: ClusterPolicy) -> None:
    http2.SetInParent()
    _streams(http2, policy.connection_pool.http or HTTPSettings())


def _streams(http2: protocol_pb2.Http2ProtocolOptions, http: HTTPSettings) -> None:
    if http.max_concurrent_streams:
        http2.max_concurrent_streams.value = http.max_concurrent_streams
    if http.http2_keep_alive is not None:
        if http.http2_keep_alive.interval is not None:
            interval = parse_duration(http.http2_keep_alive.interval)
            http2.connection_keepalive.interval.CopyFrom(common.duration(interval))
        if http.http2_keep_alive.timeout is not None:
            timeout = parse_duration(http.http2_keep_alive.timeout)
            http2.connection_keepalive.timeout.CopyFrom(common.duration(timeout))


def _connections(options: options_pb2.HttpProtocolOptions, pool: ConnectionPoolSettings) -> None:
    http, tcp = pool.http or HTTPSettings(), pool.tcp or TCPSettings()
    shared = options.common_http_protocol_options
    idle = http.idle_timeout if http.idle_timeout is not None else tcp.idle_timeout
    if idle is not None:
        shared.idle_timeout.CopyFrom(common.duration(parse_duration(idle)))
    if http.max_requests_per_connection:
        shared.max_requests_per_connection.value = http.max_requests_per_connection
    if tcp.max_connection_duration is not None:
        shared.max_connection_duration.CopyFrom(common.duration(parse_duration(tcp.max_connection_duration)))
