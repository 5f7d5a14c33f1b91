"""Istio's ProxyConfig (istio/api mesh/v1alpha1 proxy.proto): one proxy's settings.

MeshConfig holds one as `defaultConfig`; pods and ProxyConfig resources have their own word over it (`proxy_configs`).
Merging and what goes to the proxy are Istio's (pkg/config/mesh: MergeProxyConfig; pkg/kube/inject: protoToJSON).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pilotfish.api.config_reading import Port, converted
from pilotfish.api.durations import Duration, encode_hook
from pilotfish.api.meta import Document, Struct
from pilotfish.api.networking.connection_pool import TcpKeepalive
from pilotfish.api.networking.proxy_config import ProxyImage
from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.api.proxy_http import ClientCertificateHeader, ConnectionSettings, ProxyHeaders
from pilotfish.api.proxy_tracing import ProxyTracing

ISTIO_VERSION = "1.32.0"
"""The release of Istio whose API this is. A proxy is of it whose image's tag ("latest") names no other: EnvoyFilters
tell proxies apart by their version.
"""
METRICS_SERVICE, ACCESS_LOG_SERVICE = "envoy_metrics_service", "envoy_accesslog_service"
ZIPKIN, DATADOG = "zipkin", "datadog_agent"
"""The clusters of a proxy's own bootstrap, as Istio names them; listeners name all but the first."""


class ProxyStatsMatcher(Struct):
    """Statistics to keep besides those that Istio keeps, by their names."""

    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


class GatewayTopology(Struct):
    """What stands in front of a gateway; `proxy_protocol` is an empty mapping where connections begin with a PROXY
    header.
    """

    num_trusted_proxies: Annotated[int, Meta(ge=0, description="a number of at least 0")] = 0
    forward_client_cert_details: ClientCertificateHeader = "UNDEFINED"
    proxy_protocol: dict[str, Any] | None = None


class RemoteService(Struct):
    """A server that the proxy reports to by itself; `address` is "host:port"."""

    address: Annotated[str, Meta(pattern=r"^(.+:[0-9]+)?$", description='an address "host:port"')] = ""
    tls_settings: ClientTLSSettings | None = None
    tcp_keepalive: TcpKeepalive | None = None


class ProxyConfig(Struct):
    """One proxy's settings: the mesh's `defaultConfig`, overlaid by a pod's annotation `proxy.istio.io/config`."""

    config_path: str = "./etc/istio/proxy"
    binary_path: str = "/usr/local/bin/envoy"
    service_cluster: str = "istio-proxy"
    tracing_service_name: Literal[
        "", "APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"
    ] = ""
    drain_duration: Duration = Duration(45)
    termination_drain_duration: Duration = Duration(5)
    discovery_address: str = "istiod.istio-system.svc:15012"
    proxy_admin_port: Port = 15000
    status_port: Port = 15020
    stat_name_length: int = 189
    concurrency: Annotated[int, Meta(ge=0, description="0 (all cores) or a number of worker threads")] | None = None
    control_plane_auth_policy: Literal["NONE", "MUTUAL_TLS"] = "MUTUAL_TLS"
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] = "REDIRECT"
    hold_application_until_proxy_starts: bool = False
    proxy_metadata: dict[str, str] = {}
    mesh_id: str = ""
    extra_stat_tags: tuple[str, ...] = ()
    runtime_values: dict[str, str] = {}
    discovery_refresh_delay: Duration | None = None
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    availability_zone: str = ""
    custom_config_file: str = ""
    proxy_bootstrap_template_path: str = ""
    tracing: ProxyTracing | None = None
    sds: Any = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    gateway_topology: GatewayTopology | None = None
    readiness_probe: Any = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    image: ProxyImage | None = None
    private_key_provider: Any = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: Annotated[int, Meta(ge=0, description="a number of at least 0")] = 0
    stats_compression: bool | None = None
    connection_settings: ConnectionSettings | None = None

    def switched_on(self, metadata: str) -> bool:
        """Whether an entry of `proxyMetadata` says "true", e.g. "ISTIO_META_DNS_CAPTURE"."""
        return self.proxy_metadata.get(metadata, "").lower() in ("true", "1", "t")


def own_servers(config: ProxyConfig) -> dict[str, RemoteService]:
    """The servers that a proxy reports to by its own bootstrap, by their clusters."""
    tracing = config.tracing or ProxyTracing()
    tls = tracing.tls_settings
    agents = ((ZIPKIN, tracing.zipkin), (DATADOG, tracing.datadog))
    found = {
        METRICS_SERVICE: config.envoy_metrics_service,
        ACCESS_LOG_SERVICE: config.envoy_access_log_service,
        **{name: RemoteService(address=to.address, tls_settings=tls) for name, to in agents if to is not None},
    }
    return {name: server for name, server in found.items() if server and server.address.rpartition(":")[2].isdecimal()}


def overlay_proxy_config(base: ProxyConfig, overlay: Document, path: str = "") -> ProxyConfig:
    """`base` with the overlay's fields in place of its own; `proxyMetadata` is merged entry by entry.

    Raises Invalid, naming each faulty field below `path`.
    """
    given = converted(ProxyConfig, overlay, path)
    names = {f.encode_name: f.name for f in msgspec.structs.fields(ProxyConfig)}
    changes = {names[name]: getattr(given, names[name]) for name in overlay}
    changes["proxy_metadata"] = {**base.proxy_metadata, **given.proxy_metadata}
    return msgspec.structs.replace(base, **changes)


def proxy_config_document(config: ProxyConfig) -> Document:
    """What differs from Istio's defaults, as it goes into a proxy's environment (PROXY_CONFIG)."""
    whole = msgspec.to_builtins(config, enc_hook=encode_hook)
    return {
        f.encode_name: whole[f.encode_name]
        for f in msgspec.structs.fields(ProxyConfig)
        if f.encode_name in whole and getattr(config, f.name) != getattr(_DEFAULT, f.name)
    }


_DEFAULT = ProxyConfig()
