"""The mesh-wide settings: Istio's MeshConfig and the ProxyConfig in it (istio/api mesh/v1alpha1).

Fields that shape what we do are typed; the rest is accepted as it is, and `not_honoured` names what of it was given.
Defaults and merging are Istio's (pkg/config/mesh: DefaultMeshConfig, ApplyMeshConfig, MergeProxyConfig).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import field

from pilotfish.api.decode import field_error, present_paths, unknown_fields
from pilotfish.api.errors import FieldError, Invalid
from pilotfish.api.istio_validation.http_route import http_retries
from pilotfish.api.istio_validation.load_balancer import locality as locality_faults
from pilotfish.api.meta import Document, Struct
from pilotfish.api.networking.connection_pool import TcpKeepalive
from pilotfish.api.networking.http_route import HTTPRetry
from pilotfish.api.networking.load_balancer import LocalityLoadBalancerSetting
from pilotfish.api.networking.proxy_config import ProxyImage
from pilotfish.mesh import default_policy, providers
from pilotfish.mesh.default_policy import DefaultTrafficPolicy
from pilotfish.mesh.durations import Duration, decode_hook, encode_hook
from pilotfish.mesh.providers import DefaultProviders, ExtensionProvider
from pilotfish.mesh.proxy_tracing import ProxyTracing

S = TypeVar("S", bound=Struct)

CONFIG_MAP = "istio"
CONFIG_MAP_KEY = "mesh"
ROOT_NAMESPACE = "istio-system"


class ProxyStatsMatcher(Struct):
    """Statistics to keep besides those that Istio keeps, by their names."""

    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


class GatewayTopology(Struct):
    """What stands in front of a gateway; `proxy_protocol` is an empty mapping where connections begin with a PROXY
    header.
    """

    num_trusted_proxies: int = 0
    forward_client_cert_details: str = "UNDEFINED"
    proxy_protocol: dict[str, Any] | None = None


class TLSConfig(Struct):
    """TLS of servers that say nothing else. `min_protocol_version` is TLS_AUTO, TLSV1_2 or TLSV1_3."""

    min_protocol_version: str = "TLS_AUTO"
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class ProxyConfig(Struct):
    """One proxy's settings: the mesh's `defaultConfig`, overlaid by a pod's annotation `proxy.istio.io/config`."""

    config_path: str = "./etc/istio/proxy"
    binary_path: str = "/usr/local/bin/envoy"
    service_cluster: str = "istio-proxy"
    tracing_service_name: str = ""
    drain_duration: Duration = Duration(45)
    termination_drain_duration: Duration = Duration(5)
    discovery_address: str = "istiod.istio-system.svc:15012"
    proxy_admin_port: int = 15000
    status_port: int = 15020
    stat_name_length: int = 189
    concurrency: int | None = None
    control_plane_auth_policy: str = "MUTUAL_TLS"
    interception_mode: str = "REDIRECT"
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
    envoy_access_log_service: Any = None
    envoy_metrics_service: Any = None
    gateway_topology: GatewayTopology | None = None
    readiness_probe: Any = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    image: ProxyImage | None = None
    private_key_provider: Any = None
    proxy_headers: Any = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: int | None = None
    stats_compression: bool | None = None
    connection_settings: Any = None

    def switched_on(self, metadata: str) -> bool:
        """Whether an entry of `proxyMetadata` says "true", e.g. "ISTIO_META_DNS_CAPTURE"."""
        return self.proxy_metadata.get(metadata, "").lower() in ("true", "1", "t")


class OutboundTrafficPolicy(Struct):
    mode: str = "ALLOW_ANY"
    tls: Any = None


class InboundTrafficPolicy(Struct):
    mode: str = "PASSTHROUGH"


class PathNormalization(Struct):
    normalization: str = "DEFAULT"


class MeshConfig(Struct):
    """Ports are numbers in the pod; durations are seconds."""

    proxy_listen_port: int = 15001
    proxy_inbound_listen_port: int = 15006
    connect_timeout: Duration = Duration(10)
    protocol_detection_timeout: Duration = Duration(0)
    dns_refresh_rate: Duration = Duration(60)
    tcp_keepalive: TcpKeepalive | None = None
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: str = "TEXT"
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    inbound_traffic_policy: InboundTrafficPolicy = InboundTrafficPolicy()
    default_config: ProxyConfig = ProxyConfig()
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    root_namespace: str = ROOT_NAMESPACE
    default_service_export_to: tuple[str, ...] = ("*",)
    enable_tracing: bool = True
    enable_auto_mtls: bool = True
    h2_upgrade_policy: str = "DO_NOT_UPGRADE"
    path_normalization: PathNormalization = PathNormalization()
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    ingress_service: str = "istio-ingressgateway"
    ingress_class: str = "istio"
    ingress_controller_mode: str = "STRICT"
    ingress_selector: str = ""
    enable_prometheus_merge: bool = True
    proxy_http_port: int = 0
    hbone_idle_timeout: Duration | None = None
    enable_envoy_access_log_service: bool = False
    disable_envoy_listener_log: bool = False
    config_sources: Any = None
    ca_certificates: Any = None
    default_virtual_service_export_to: tuple[str, ...] = ("*",)
    default_destination_rule_export_to: tuple[str, ...] = ("*",)
    locality_lb_setting: LocalityLoadBalancerSetting = LocalityLoadBalancerSetting()
    zone_aware_lb_setting: Any = None
    certificates: Any = None
    service_settings: Any = None
    service_scope_configs: Any = None
    verify_certificate_at_client: bool | None = None
    ca: Any = None
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_providers: DefaultProviders = DefaultProviders()
    discovery_selectors: Any = None
    default_http_retry_policy: HTTPRetry | None = None
    mesh_mtls: Any = field(name="meshMTLS", default=None)
    tls_defaults: TLSConfig = TLSConfig()
    default_traffic_policy: DefaultTrafficPolicy | None = None
    service_entry_visibility: Any = None


_HONOURED = {
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "connectTimeout",
    "defaultConfig",
    "defaultHttpRetryPolicy",
    "defaultProviders",
    "defaultDestinationRuleExportTo",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "defaultTrafficPolicy",
    "disableEnvoyListenerLog",
    "dnsRefreshRate",
    "enableTracing",
    "extensionProviders",
    "h2UpgradePolicy",
    "localityLbSetting",
    "outboundTrafficPolicy",
    "protocolDetectionTimeout",
    "tcpKeepalive",
    "tlsDefaults",
}
_HONOURED_OF_PROXY = {
    "concurrency",
    "gatewayTopology",
    "holdApplicationUntilProxyStarts",
    "image",
    "proxyMetadata",
    "proxyStatsMatcher",
    "serviceCluster",
    "tracing",
    "tracingServiceName",
}


_PARTS_NOT_HONOURED = {
    "outboundTrafficPolicy.tls",
    "defaultTrafficPolicy.outlierDetection.consecutiveErrors",
    *(f"defaultConfig.tracing.{name}" for name in ("lightstep", "stackdriver", "openCensusAgent", "tlsSettings")),
    *(
        f"extensionProviders[].{name}"
        for name in ("envoyExtAuthzHttp", "envoyExtAuthzGrpc", "lightstep", "stackdriver", "opencensus", "sds")
    ),
    *(f"extensionProviders[].opentelemetry.{name}" for name in ("dynatraceSampler", "serviceAttributeEnrichment")),
}

NOT_HONOURED = frozenset(
    _PARTS_NOT_HONOURED
    | {f.encode_name for f in msgspec.structs.fields(MeshConfig)} - _HONOURED
    | {
        f"defaultConfig.{f.encode_name}"
        for f in msgspec.structs.fields(ProxyConfig)
        if f.encode_name not in _HONOURED_OF_PROXY
    }
)
"""Fields that are accepted and change nothing yet, by path."""

_MESH_WORDS: Mapping[str, tuple[str, ...]] = {
    "access_log_encoding": ("TEXT", "JSON"),
    "h2_upgrade_policy": ("DO_NOT_UPGRADE", "UPGRADE"),
    "ingress_controller_mode": ("UNSPECIFIED", "OFF", "DEFAULT", "STRICT"),
}
_PROXY_WORDS: Mapping[str, tuple[str, ...]] = {
    "interception_mode": ("REDIRECT", "TPROXY", "NONE"),
    "control_plane_auth_policy": ("NONE", "MUTUAL_TLS"),
    "tracing_service_name": (
        "",
        "APP_LABEL_AND_NAMESPACE",
        "CANONICAL_NAME_ONLY",
        "CANONICAL_NAME_AND_NAMESPACE",
    ),
}
_TLS_WORDS: Mapping[str, tuple[str, ...]] = {"min_protocol_version": ("TLS_AUTO", "TLSV1_2", "TLSV1_3")}
_TOPOLOGY_WORDS: Mapping[str, tuple[str, ...]] = {
    "forward_client_cert_details": (
        "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY",
    ),
}  # fmt: skip
_OUTBOUND_MODES = ("ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS")
_INBOUND_MODES = ("PASSTHROUGH", "LOCALHOST")


def read_mesh_config(text: str) -> MeshConfig:
    """The settings in the `mesh` key of ConfigMap `istio`, a YAML text. Raises Invalid, naming each faulty field."""
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise _invalid([FieldError(path="", message=f"this is no YAML: {error}")]) from None
    if document is None:
        return MeshConfig()
    if not isinstance(document, dict):
        raise _invalid([FieldError(path="", message="expected a mapping of MeshConfig's fields")])
    return mesh_config(document)


def mesh_config(document: Document, path: str = "") -> MeshConfig:
    """The settings of a decoded MeshConfig; fields left out have Istio's defaults.

    Raises Invalid, naming each faulty field below `path` (for one that stands inside another document).
    """
    config = _convert(MeshConfig, document, path)
    faults = list(_faults(config, path))
    if faults:
        raise _invalid(faults)
    return config


def overlay_proxy_config(base: ProxyConfig, overlay: Document, path: str = "") -> ProxyConfig:
    """`base` with the overlay's fields in place of its own; `proxyMetadata` is merged entry by entry.

    Raises Invalid, naming each faulty field below `path`.
    """
    given = _convert(ProxyConfig, overlay, path)
    faults = list(_proxy_faults(given, path))
    if faults:
        raise _invalid(faults)
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
        if f.encode_name in whole and getattr(config, f.name) != getattr(_DEFAULT_PROXY, f.name)
    }


def not_honoured(document: Document) -> list[str]:
    """The fields of a MeshConfig that were given and change nothing yet, by path."""
    return present_paths(document, NOT_HONOURED)


_DEFAULT_PROXY = ProxyConfig()


def _convert(cls: type[S], document: Document, path: str) -> S:
    unknown = list(unknown_fields(cls, document, path))
    if unknown:
        raise _invalid(unknown)
    try:
        return msgspec.convert(document, cls, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise _invalid([field_error(error, path)]) from None


def _invalid(faults: list[FieldError]) -> Invalid:
    return Invalid.of("MeshConfig", "", CONFIG_MAP, faults)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _faults(config: MeshConfig, path: str) -> Iterator[FieldError]:
    yield from _word_faults(config, _MESH_WORDS, path)
    yield from _word_faults(config.tls_defaults, _TLS_WORDS, _below(path, "tlsDefaults"))
    yield from _proxy_faults(config.default_config, _below(path, "defaultConfig"))
    yield from providers.faults(config.extension_providers, _below(path, "extensionProviders"))
    yield from locality_faults(_below(path, "localityLbSetting"), config.locality_lb_setting)
    if config.default_http_retry_policy is not None:
        yield from http_retries(_below(path, "defaultHttpRetryPolicy"), config.default_http_retry_policy)
    if config.default_traffic_policy is not None:
        yield from default_policy.faults(config.default_traffic_policy, _below(path, "defaultTrafficPolicy"))
    modes = (
        ("outboundTrafficPolicy.mode", config.outbound_traffic_policy.mode, _OUTBOUND_MODES),
        ("inboundTrafficPolicy.mode", config.inbound_traffic_policy.mode, _INBOUND_MODES),
    )
    for name, mode, allowed in modes:
        yield from _word_fault(_below(path, name), mode, allowed)
    ports = (
        ("proxyListenPort", config.proxy_listen_port),
        ("proxyInboundListenPort", config.proxy_inbound_listen_port),
        ("defaultConfig.proxyAdminPort", config.default_config.proxy_admin_port),
        ("defaultConfig.statusPort", config.default_config.status_port),
    )
    for name, port in ports:
        if not 1 <= port <= 65535:
            yield FieldError(path=_below(path, name), message=f"{port} is no port: expected 1 to 65535")
    if config.connect_timeout < 0.001:
        yield FieldError(path=_below(path, "connectTimeout"), message="expected at least 1ms")
    if (config.default_config.concurrency or 0) < 0:
        where = _below(path, "defaultConfig.concurrency")
        yield FieldError(path=where, message="expected 0 (all cores) or a number of worker threads")


def _proxy_faults(config: ProxyConfig, path: str) -> Iterator[FieldError]:
    yield from _word_faults(config, _PROXY_WORDS, path)
    topology = config.gateway_topology
    if topology is not None:
        where = _below(path, "gatewayTopology")
        yield from _word_faults(topology, _TOPOLOGY_WORDS, where)
        if topology.num_trusted_proxies < 0:
            yield FieldError(path=f"{where}.numTrustedProxies", message="expected a number of at least 0")


def _word_faults(
    config: MeshConfig | ProxyConfig | GatewayTopology | TLSConfig, words: Mapping[str, tuple[str, ...]], path: str
) -> Iterator[FieldError]:
    for spec in msgspec.structs.fields(type(config)):
        if spec.name in words:
            yield from _word_fault(_below(path, spec.encode_name), getattr(config, spec.name), words[spec.name])


def _word_fault(path: str, value: str, allowed: tuple[str, ...]) -> Iterator[FieldError]:
    if value not in allowed:
        listed = ", ".join(word for word in allowed if word)
        yield FieldError(path=path, message=f'"{value}" is not one of {listed}', reason="FieldValueNotSupported")
