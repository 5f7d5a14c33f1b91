"""Envoy's bootstrap for a pod's proxy: a pure function of one record (Istio: envoy_bootstrap.json).

What differs from Istio's: Envoy speaks TLS to the control plane itself, through the pod supervisor's relay; its
certificates are files that it watches; and health and metrics ports lead to its own admin interface, since there is no
agent process beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish.api.proxy_files import (
    LOCAL_CLUSTER,
    PROXY_DIRECTORY,
    ROOT_SECRET,
    SELF_DISCOVERY,
    WORKLOAD_SECRET,
    secret_file,
)
from pilotfish.api.proxyconfig import ProxyConfig
from pilotfish.node import metrics_pages, remote_services
from pilotfish.node.metrics_pages import METRICS, READY, ScrapeTarget, page
from pilotfish.node.statistics import Statistics, sinks, stats_config

CERTIFICATE_CHAIN, PRIVATE_KEY, ROOT_CERTIFICATE = "cert-chain.pem", "key.pem", "root-cert.pem"

CONTROL_PLANE = "istiod.istio-system.svc"
ADMIN_PORT, STATUS_PORT, METRICS_PORT = 15000, 15021, 15090
"""The first by default; and the one for which the admin socket of a proxy on the host's network stands."""

_TYPES = "type.googleapis.com/envoy."
_MAX_CONNECTIONS = 2**31 - 1

_CONNECTION_LIMIT = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS"
_RUNTIME_CONNECTION_LIMIT = "overload.global_downstream_max_connections"
"""Older ways to limit a proxy's connections: an entry of `proxyMetadata`, and one of `runtimeValues`."""


@dataclass(frozen=True)
class ProxyBootstrap:
    """All that a proxy's bootstrap depends on.

    `admin_pipe` is a path that takes the place of the admin port of 127.0.0.1, for proxies that share the host's
    network; `address` is where health and metrics are served. `xds_pipe` is the relay's socket, abstract when it begins
    with "@".
    """

    node_id: str
    cluster: str
    metadata: Mapping[str, Any]
    xds_pipe: str
    address: str = "0.0.0.0"
    admin_pipe: str = ""
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    control_plane: str = CONTROL_PLANE
    files: str = PROXY_DIRECTORY
    config: ProxyConfig = field(default_factory=ProxyConfig)
    statistics: Statistics = field(default_factory=Statistics)
    application_metrics: tuple[ScrapeTarget, ...] = ()


def render(proxy: ProxyBootstrap) -> dict[str, Any]:
    """The bootstrap, as the JSON form of envoy.config.bootstrap.v3.Bootstrap."""
    config = proxy.config
    admin = _address("127.0.0.1", config.proxy_admin_port)
    if proxy.admin_pipe:
        admin = {"pipe": {"path": proxy.admin_pipe}}
    return {
        "node": {
            "id": proxy.node_id,
            "cluster": proxy.cluster,
            "locality": {"region": proxy.region, "zone": proxy.zone, "sub_zone": proxy.sub_zone},
            "metadata": dict(proxy.metadata),
        },
        "admin": {"address": admin},
        "stats_config": stats_config(proxy.statistics),
        "stats_sinks": sinks(config, proxy.statistics.statsd),
        # What a worker needs of a cluster, and its statistics, are made when traffic first goes there: a sixth less
        # memory where a proxy knows many hosts (docs/envoy-cost.md).
        "cluster_manager": {
            "enable_deferred_cluster_creation": True,
            **({"local_cluster_name": LOCAL_CLUSTER} if _discovers_itself(proxy) else {}),
        },
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "dynamic_resources": _dynamic_resources(),
        "static_resources": {
            "clusters": [
                _admin_cluster(admin),
                _xds_cluster(proxy),
                *remote_services.clusters(config, lambda name: _secret(proxy, name)),
                *metrics_pages.clusters(proxy.application_metrics),
                *([_local_cluster()] if _discovers_itself(proxy) else []),
            ],
            "listeners": list(_pages(proxy)),
        },
        "overload_manager": _overload_manager(config),
        "layered_runtime": {"layers": list(_runtime(config))},
    }


def _discovers_itself(proxy: ProxyBootstrap) -> bool:
    return str(proxy.metadata.get(SELF_DISCOVERY, "")).lower() == "true"


def _local_cluster() -> dict[str, Any]:
    """The cluster of the proxy's own kind, by whose zones Envoy shares out what it sends."""
    return {
        "name": LOCAL_CLUSTER,
        "alt_stat_name": f"{LOCAL_CLUSTER};",
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}, "service_name": LOCAL_CLUSTER},
    }


def _pages(proxy: ProxyBootstrap) -> Iterator[dict[str, Any]]:
    compressed = proxy.config.stats_compression is not False
    targets = proxy.application_metrics
    yield page(proxy.address, proxy.config.status_port, "agent", (READY, METRICS), targets=targets)
    yield page(proxy.address, STATUS_PORT, "agent", (READY,))
    yield page(proxy.address, METRICS_PORT, "stats", (METRICS,), compressed=compressed)


def _runtime(config: ProxyConfig) -> Iterator[dict[str, Any]]:
    """Values that the mesh sets, over which goes what an operator sets through the admin interface.

    Envoy takes no text for what is true or false; an empty text takes back a value that is set by default (Istio), of
    which there are none.
    """
    words = {"true": True, "false": False}
    values = {name: words.get(text, text) for name, text in config.runtime_values.items() if text}
    if values:
        yield {"name": "global config", "static_layer": values}
    yield {"name": "admin", "admin_layer": {}}


def secret_files(proxy_directory: str = PROXY_DIRECTORY) -> dict[str, dict[str, Any]]:
    """The files, by name, that tell Envoy which certificate files there are: SDS by file, read again on changes."""
    directory = {"path": proxy_directory}

    def source(name: str) -> dict[str, str]:
        return {"filename": f"{proxy_directory}/{name}"}

    certificate = {
        "certificate_chain": source(CERTIFICATE_CHAIN),
        "private_key": source(PRIVATE_KEY),
        "watched_directory": directory,
    }
    roots = {"trusted_ca": source(ROOT_CERTIFICATE), "watched_directory": directory}
    bodies = {WORKLOAD_SECRET: {"tls_certificate": certificate}, ROOT_SECRET: {"validation_context": roots}}
    return {
        secret_file(name): {
            "resources": [{"@type": _TYPES + "extensions.transport_sockets.tls.v3.Secret", "name": name, **body}]
        }
        for name, body in bodies.items()
    }


def _dynamic_resources() -> dict[str, Any]:
    # Wait for the first listeners and clusters for as long as it takes: a proxy without configuration is not ready.
    on_ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    # After an outage all proxies come back within seconds; Envoy's own back-off goes up to half a minute.
    retry = {"retry_back_off": {"base_interval": "0.2s", "max_interval": "3s"}}
    return {
        "lds_config": on_ads,
        "cds_config": on_ads,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "set_node_on_first_message_only": True,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": retry}}],
        },
    }


def _xds_cluster(proxy: ProxyBootstrap) -> dict[str, Any]:
    limits = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    tls = {
        "@type": _TYPES + "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": proxy.control_plane,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [_secret(proxy, WORKLOAD_SECRET)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": proxy.control_plane}}]
                },
                "validation_context_sds_secret_config": _secret(proxy, ROOT_SECRET),
            },
        },
    }
    http2 = {
        # A control plane that vanished without a word is noticed after this, and not after TCP's minutes.
        "connection_keepalive": {"interval": "30s", "timeout": "10s"},
    }
    return {
        "name": "xds-grpc",
        "alt_stat_name": "xds-grpc;",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": _endpoint("xds-grpc", {"pipe": {"path": proxy.xds_pipe}}),
        "circuit_breakers": {"thresholds": [{"priority": p, **limits} for p in ("DEFAULT", "HIGH")]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPES + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": http2},
            }
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _secret(proxy: ProxyBootstrap, name: str) -> dict[str, Any]:
    source = {"path": f"{proxy.files}/{secret_file(name)}", "watched_directory": {"path": proxy.files}}
    return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}


def _admin_cluster(admin: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "agent",
        "alt_stat_name": "agent;",
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": _endpoint("agent", admin),
    }


def _overload_manager(config: ProxyConfig) -> dict[str, Any]:
    """Envoy warns at each start where the number of connections has no limit: having none is said aloud."""
    name = "envoy.resource_monitors.global_downstream_max_connections"
    limits = {
        "@type": _TYPES
        + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": _connection_limit(config),
    }  # fmt: skip
    return {"resource_monitors": [{"name": name, "typed_config": limits}]}


def _connection_limit(config: ProxyConfig) -> int:
    limit = config.connection_settings.global_downstream_connection_limit if config.connection_settings else 0
    older = (config.proxy_metadata.get(_CONNECTION_LIMIT, ""), config.runtime_values.get(_RUNTIME_CONNECTION_LIMIT, ""))
    return limit or next((int(text) for text in older if text.isdecimal() and int(text)), _MAX_CONNECTIONS)


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _endpoint(cluster: str, address: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
