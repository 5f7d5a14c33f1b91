"""Envoy's bootstrap for a pod's proxy: a pure function of one record (Istio: envoy_bootstrap.json).

What differs from Istio's: Envoy speaks TLS to the control plane itself, through the pod supervisor's relay; its
certificates are files that it watches; and health and metrics ports lead to its own admin interface, since there is no
agent process beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotfish.api.proxy_files import PROXY_DIRECTORY, ROOT_SECRET, WORKLOAD_SECRET, secret_file

CERTIFICATE_CHAIN, PRIVATE_KEY, ROOT_CERTIFICATE = "cert-chain.pem", "key.pem", "root-cert.pem"

CONTROL_PLANE = "istiod.istio-system.svc"
ADMIN_PORT, MERGED_METRICS_PORT, STATUS_PORT, METRICS_PORT = 15000, 15020, 15021, 15090

METRIC_PREFIX = "istio_"
"""Of the metrics that the mesh defines, and not Envoy."""

_TYPES = "type.googleapis.com/envoy."
_MAX_CONNECTIONS = 2**31 - 1

_REPORTED = (
    *("cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "reporter=", "component"),
    METRIC_PREFIX,
)
"""Prefixes of the statistics that are kept (Istio's default): the rest costs memory for each host of the mesh."""

_REPORTED_SUFFIXES = ("rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "downstream_cx_active")

_TAGS = {
    "cluster_name": r"^cluster(\.(.+);)",
    "http_conn_manager_prefix": r"^http\.(((outbound|inbound)_[^;]*;)\.)",
    "tcp_prefix": r"^tcp\.((.*?)\.)\w+?$",
    "response_code": r"_rq(_(\d{3}))$",
    "response_code_class": r"_rq(_(\dxx))$",
    "listener_address": r"^listener\.((\[?[\da-fA-F_.:]+\]?)\.)",
}


@dataclass(frozen=True)
class KeptStatistics:
    """Statistics to keep besides those that every proxy keeps, by their names (Istio: proxyStatsMatcher)."""

    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    regexps: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProxyBootstrap:
    """All that a proxy's bootstrap depends on.

    `admin_pipe` is a path that takes the place of 127.0.0.1:15000, for proxies that share the host's network; `address`
    is where health and metrics are served. `xds_pipe` is the relay's socket, abstract when it begins with "@".
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
    kept_statistics: KeptStatistics = KeptStatistics()


def render(proxy: ProxyBootstrap) -> dict[str, Any]:
    """The bootstrap, as the JSON form of envoy.config.bootstrap.v3.Bootstrap."""
    admin = {"pipe": {"path": proxy.admin_pipe}} if proxy.admin_pipe else _address("127.0.0.1", ADMIN_PORT)
    return {
        "node": {
            "id": proxy.node_id,
            "cluster": proxy.cluster,
            "locality": {"region": proxy.region, "zone": proxy.zone, "sub_zone": proxy.sub_zone},
            "metadata": dict(proxy.metadata),
        },
        "admin": {"address": admin},
        "stats_config": _stats(proxy.kept_statistics),
        # What a worker needs of a cluster, and its statistics, are made when traffic first goes there: a sixth less
        # memory where a proxy knows many hosts (docs/envoy-cost.md).
        "cluster_manager": {"enable_deferred_cluster_creation": True},
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "dynamic_resources": _dynamic_resources(),
        "static_resources": {
            "clusters": [_admin_cluster(admin), _xds_cluster(proxy)],
            "listeners": [
                _listener(proxy.address, MERGED_METRICS_PORT, _READY, _METRICS),
                _listener(proxy.address, STATUS_PORT, _READY),
                _listener(proxy.address, METRICS_PORT, _METRICS),
            ],
        },
        "overload_manager": _overload_manager(),
        # Runtime values that an operator sets through the admin interface (`POST /runtime_modify`) need a layer.
        "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
    }


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


_READY = {"match": {"path": "/healthz/ready"}, "route": {"cluster": "agent", "prefix_rewrite": "/ready"}}
_METRICS = {"match": {"prefix": "/stats/prometheus"}, "route": {"cluster": "agent"}}


def _listener(address: str, port: int, *routes: dict[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": _TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "agent" if port != METRICS_PORT else "stats",
        "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": list(routes)}]},
        "http_filters": [
            *([_rename_metrics()] if _METRICS in routes else []),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPES + "extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    filter_ = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": f"{address}_{port}",
        "address": _address(address, port),
        # Health and metrics stay reachable when the proxy is at its limits.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [filter_]}],
    }


_RENAME = f"""
function envoy_on_response(response)
  local rest = ""
  for chunk in response:bodyChunks() do
    local text = rest .. chunk:getBytes(0, chunk:length())
    local complete = text:match("^.*\\n") or ""
    rest = text:sub(#complete + 1)
    chunk:setBytes((complete:gsub("envoy_{METRIC_PREFIX}", "{METRIC_PREFIX}")))
  end
end
"""
"""Envoy's Prometheus page ends with a newline, so nothing is left over."""


def _rename_metrics() -> dict[str, Any]:
    """Envoy puts "envoy_" before the name of every metric, line by line; Istio's are known without it."""
    config = {"@type": _TYPES + "extensions.filters.http.lua.v3.Lua", "default_source_code": {"inline_string": _RENAME}}
    return {"name": "envoy.filters.http.lua", "typed_config": config}


def _stats(more: KeptStatistics) -> dict[str, Any]:
    patterns: list[dict[str, Any]] = [{"prefix": prefix} for prefix in (*_REPORTED, *more.prefixes)]
    patterns += [{"suffix": suffix} for suffix in (*_REPORTED_SUFFIXES, *more.suffixes)]
    patterns += [{"safe_regex": {"regex": regexp}} for regexp in (r"vhost\..*\.route\..*", *more.regexps)]
    return {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in _TAGS.items()],
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
    }


def _overload_manager() -> dict[str, Any]:
    """No limit, said aloud: Envoy warns at each start where the number of connections has none."""
    name = "envoy.resource_monitors.global_downstream_max_connections"
    config = {
        "@type": _TYPES
        + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": _MAX_CONNECTIONS,
    }  # fmt: skip
    return {"resource_monitors": [{"name": name, "typed_config": config}]}


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _endpoint(cluster: str, address: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
