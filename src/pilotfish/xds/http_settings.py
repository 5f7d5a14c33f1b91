"""What shapes a proxy's connection managers: MeshConfig, and what the proxy's own ProxyConfig says."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from pilotfish.api.proxy_http import ConnectionSettings, ProxyHeaders
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.xds.build.http_settings import HttpSettings
from pilotfish.xds.proxy_metadata import read
from pilotfish.xds.source import ProxyNode

EDGE_LIMITS: Mapping[str, Any] = {
    "listener_per_connection_buffer_limit_bytes": 32 * 1024,
    "cluster_per_connection_buffer_limit_bytes": 32 * 1024,
    "http_idle_timeout": 3600.0,
    "http_stream_idle_timeout": 300.0,
    "http_request_timeout": 300.0,
    "http_request_headers_timeout": 60.0,
    "http_max_concurrent_streams": 100,
    "http2_initial_stream_window_size": 64 * 1024,
    "http2_initial_connection_window_size": 1024 * 1024,
    "http_headers_with_underscores_action": "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
    "http_merge_slashes": True,
    "http_path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
}
"""What the profile EDGE says where nothing else does; seconds and bytes (Envoy's best practices for edge proxies)."""

_UNSAID = ConnectionSettings()


def http_settings(mesh: MeshConfig) -> HttpSettings:
    """What holds for proxies that say nothing of themselves."""
    config = mesh.default_config
    return HttpSettings(
        mesh.path_normalization.normalization,
        config.proxy_headers or ProxyHeaders(),
        config.connection_settings or ConnectionSettings(),
    )


def of_proxy(settings: HttpSettings, node: ProxyNode) -> HttpSettings:
    """The settings of one proxy: a ProxyConfig of its own says all of its headers, and its limits where it has any.

    The profile EDGE is for gateways alone. (Istio: ProxyConfigOrDefault, resolveConnectionSettings.)
    """
    config = node.metadata.get("PROXY_CONFIG")
    if isinstance(config, Mapping):
        settings = HttpSettings(
            settings.path_normalization,
            read(ProxyHeaders, config.get("proxyHeaders")) or ProxyHeaders(),
            read(ConnectionSettings, config.get("connectionSettings")) or settings.connections,
        )
    if node.type == "router" and settings.connections.profile == "EDGE":
        return msgspec.structs.replace(settings, connections=_at_the_edge(settings.connections))
    return settings


@functools.lru_cache(maxsize=64)
def _at_the_edge(limits: ConnectionSettings) -> ConnectionSettings:
    unsaid = {name: value for name, value in EDGE_LIMITS.items() if getattr(limits, name) == getattr(_UNSAID, name)}
    return msgspec.structs.replace(limits, **unsaid)
