"""What a proxy's own configuration says of its connection managers: paths, limits and headers (Istio: MeshConfig's
pathNormalization, ProxyConfig's connectionSettings and proxyHeaders; pilot/pkg/networking/core/connection_settings.go).
"""

from __future__ import annotations

import msgspec
from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from pilotfish.api.durations import Duration as Seconds
from pilotfish.api.proxy_http import ConnectionSettings, ProxyHeaders
from pilotfish.mesh.records import Record
from pilotfish.xds.build import common

_UNDERSCORES = {
    "HEADERS_WITH_UNDERSCORES_ALLOW": protocol_pb2.HttpProtocolOptions.ALLOW,
    "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST": protocol_pb2.HttpProtocolOptions.REJECT_REQUEST,
    "HEADERS_WITH_UNDERSCORES_DROP_HEADER": protocol_pb2.HttpProtocolOptions.DROP_HEADER,
}


class RouteHeaders(Record):
    """What routes add to requests: how often one was tried, and what host it was for before a route changed that."""

    attempt_count: bool = True
    forwarded_host: bool = False


class HttpSettings(Record):
    """`path_normalization` is MeshConfig's word; the rest is the proxy's own ProxyConfig's."""

    path_normalization: str = "DEFAULT"
    headers: ProxyHeaders = ProxyHeaders()
    connections: ConnectionSettings = ConnectionSettings()

    @property
    def on_routes(self) -> RouteHeaders:
        return RouteHeaders(not self.headers.attempt_count.disabled, self.headers.x_forwarded_host.enabled)

    def idle_for(self, seconds: float) -> HttpSettings:
        """The same where idle connections are closed after so many seconds; 0: when these settings say."""
        if not seconds:
            return self
        connections = msgspec.structs.replace(self.connections, http_idle_timeout=Seconds(seconds))
        return msgspec.structs.replace(self, connections=connections)


AS_EVER = HttpSettings()
"""Nobody says anything."""


def apply(manager: hcm_pb2.HttpConnectionManager, settings: HttpSettings, server_name: str = "") -> None:
    """Have a connection manager do what the settings say, and call itself `server_name` where they name none."""
    _normalize_paths(manager, settings.path_normalization)
    _limit_time(manager, settings.connections)
    _limit_streams(manager, settings.connections)
    _look_at_requests(manager, settings.connections)
    _add_headers(manager, settings.headers, server_name)


def preserve_case(options: protocol_pb2.Http1ProtocolOptions) -> None:
    """Have HTTP/1 headers leave in the letters in which they came."""
    options.header_key_format.stateful_formatter.name = "preserve_case"
    formatter = preserve_case_pb2.PreserveCaseFormatterConfig()
    options.header_key_format.stateful_formatter.typed_config.CopyFrom(common.any_of(formatter))


def _normalize_paths(manager: hcm_pb2.HttpConnectionManager, how: str) -> None:
    manager.normalize_path.value = how != "NONE"
    manager.merge_slashes = how in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
    manager.path_with_escaped_slashes_action = (
        hcm_pb2.HttpConnectionManager.UNESCAPE_AND_FORWARD
        if how == "DECODE_AND_MERGE_SLASHES"
        else hcm_pb2.HttpConnectionManager.KEEP_UNCHANGED
    )


def _limit_time(manager: hcm_pb2.HttpConnectionManager, limits: ConnectionSettings) -> None:
    manager.stream_idle_timeout.CopyFrom(common.duration(limits.http_stream_idle_timeout or 0.0))
    shared = manager.common_http_protocol_options
    places: tuple[tuple[Message, str, float | None], ...] = (
        (shared, "idle_timeout", limits.http_idle_timeout),
        (shared, "max_connection_duration", limits.http_max_connection_duration),
        (shared, "max_stream_duration", limits.http_max_stream_duration),
        (manager, "request_timeout", limits.http_request_timeout),
        (manager, "request_headers_timeout", limits.http_request_headers_timeout),
        (manager, "drain_timeout", limits.http_drain_timeout),
    )
    for message, field, seconds in places:
        if seconds is not None:
            found: Duration = getattr(message, field)
            found.CopyFrom(common.duration(seconds))


def _limit_streams(manager: hcm_pb2.HttpConnectionManager, limits: ConnectionSettings) -> None:
    http2 = manager.http2_protocol_options
    if limits.http_max_concurrent_streams is not None:
        http2.max_concurrent_streams.value = limits.http_max_concurrent_streams
    if limits.http2_initial_stream_window_size is not None:
        http2.initial_stream_window_size.value = limits.http2_initial_stream_window_size
    if limits.http2_initial_connection_window_size is not None:
        http2.initial_connection_window_size.value = limits.http2_initial_connection_window_size


def _look_at_requests(manager: hcm_pb2.HttpConnectionManager, settings: ConnectionSettings) -> None:
    """What the proxy says of paths goes before what the mesh says."""
    if (action := _UNDERSCORES.get(settings.http_headers_with_underscores_action)) is not None:
        manager.common_http_protocol_options.headers_with_underscores_action = action
    if settings.http_merge_slashes is not None:
        manager.merge_slashes = settings.http_merge_slashes
    escaped = settings.http_path_with_escaped_slashes_action
    if escaped != "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED":
        actions = hcm_pb2.HttpConnectionManager.PathWithEscapedSlashesAction
        manager.path_with_escaped_slashes_action = actions.Value(escaped)


def _add_headers(manager: hcm_pb2.HttpConnectionManager, headers: ProxyHeaders, server_name: str) -> None:
    if headers.server.disabled:
        manager.server_header_transformation = hcm_pb2.HttpConnectionManager.PASS_THROUGH
    else:
        manager.server_name = headers.server.value or server_name
    if headers.request_id.disabled:
        manager.generate_request_id.value = False
    manager.append_x_forwarded_port = headers.x_forwarded_port.enabled
    if headers.preserve_http1_header_case:
        preserve_case(manager.http_protocol_options)


def forward_certificates(manager: hcm_pb2.HttpConnectionManager, headers: ProxyHeaders) -> None:
    """Have a server's connection manager tell the workload whose certificate the client showed."""
    said = headers.forwarded_client_cert
    action = "APPEND_FORWARD" if said == "UNDEFINED" else said
    manager.forward_client_cert_details = hcm_pb2.HttpConnectionManager.ForwardClientCertDetails.Value(action)
    wanted = headers.set_current_client_cert_details
    told = manager.set_current_client_cert_details
    told.subject.value = wanted.subject is not False
    told.uri = wanted.uri is not False
    told.dns = wanted.dns is not False
    told.cert = wanted.cert is True
    told.chain = wanted.chain is True
