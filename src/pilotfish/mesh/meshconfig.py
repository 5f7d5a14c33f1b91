"""The mesh-wide settings: Istio's MeshConfig (istio/api mesh/v1alpha1 config.proto).

Fields that shape what we do are typed; the rest is accepted as it is, and `meshconfig_unused` knows what of it changes
nothing. Defaults and merging are Istio's (pkg/config/mesh: DefaultMeshConfig, ApplyMeshConfig).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta, field

from pilotfish.api.config_reading import CONFIG_MAP, Port, below, converted, refuse_any, refused
from pilotfish.api.durations import Duration
from pilotfish.api.errors import FieldError
from pilotfish.api.istio_validation.hosts import is_label
from pilotfish.api.istio_validation.http_route import http_retries
from pilotfish.api.istio_validation.load_balancer import locality as locality_faults
from pilotfish.api.istio_validation.load_balancer import zone_aware as zone_faults
from pilotfish.api.meta import Document, LabelSelector, Struct
from pilotfish.api.networking.connection_pool import TcpKeepalive
from pilotfish.api.networking.http_route import HTTPRetry
from pilotfish.api.networking.load_balancer import LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting
from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.api.proxyconfig import ProxyConfig
from pilotfish.mesh import default_policy, extension_providers
from pilotfish.mesh.default_policy import DefaultTrafficPolicy
from pilotfish.mesh.extension_providers import DefaultProviders, ExtensionProvider

__all__ = ["CONFIG_MAP", "CONFIG_MAP_KEY", "ROOT_NAMESPACE", "MeshConfig", "mesh_config", "read_mesh_config"]

CONFIG_MAP_KEY = "mesh"
ROOT_NAMESPACE = "istio-system"


class TLSConfig(Struct):
    """TLS of servers that say nothing else."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class OutboundTrafficPolicy(Struct):
    mode: Literal["ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS"] = "ALLOW_ANY"
    tls: ClientTLSSettings | None = None


class InboundTrafficPolicy(Struct):
    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class PathNormalization(Struct):
    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class MeshConfig(Struct):
    """Ports are numbers in the pod; durations are seconds."""

    proxy_listen_port: Port = 15001
    proxy_inbound_listen_port: Port = 15006
    connect_timeout: Duration = Duration(10)
    protocol_detection_timeout: Duration | None = None
    dns_refresh_rate: Duration = Duration(60)
    tcp_keepalive: TcpKeepalive | None = None
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    inbound_traffic_policy: InboundTrafficPolicy = InboundTrafficPolicy()
    default_config: ProxyConfig = ProxyConfig()
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    root_namespace: str = ROOT_NAMESPACE
    default_service_export_to: tuple[str, ...] = ("*",)
    enable_tracing: bool = True
    enable_auto_mtls: bool = True
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    path_normalization: PathNormalization = PathNormalization()
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    ingress_service: str = "istio-ingressgateway"
    ingress_class: str = "istio"
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    ingress_selector: str = ""
    enable_prometheus_merge: bool = True
    proxy_http_port: Annotated[int, Meta(ge=0, le=65535, description="a port, or 0 for none")] = 0
    hbone_idle_timeout: Duration | None = None
    enable_envoy_access_log_service: bool = False
    disable_envoy_listener_log: bool = False
    config_sources: Any = None
    ca_certificates: Any = None
    default_virtual_service_export_to: tuple[str, ...] = ("*",)
    default_destination_rule_export_to: tuple[str, ...] = ("*",)
    locality_lb_setting: LocalityLoadBalancerSetting = LocalityLoadBalancerSetting()
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    certificates: Any = None
    service_settings: Any = None
    service_scope_configs: Any = None
    verify_certificate_at_client: bool | None = None
    ca: Any = None
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_providers: DefaultProviders = DefaultProviders()
    discovery_selectors: tuple[LabelSelector, ...] = ()
    default_http_retry_policy: HTTPRetry | None = None
    mesh_mtls: TLSConfig = field(name="meshMTLS", default=TLSConfig())
    tls_defaults: TLSConfig = TLSConfig()
    default_traffic_policy: DefaultTrafficPolicy | None = None
    service_entry_visibility: Any = None


def read_mesh_config(text: str) -> MeshConfig:
    """The settings in the `mesh` key of ConfigMap `istio`, a YAML text. Raises Invalid, naming each faulty field."""
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise refused([FieldError(path="", message=f"this is no YAML: {error}")]) from None
    if document is None:
        return MeshConfig()
    if not isinstance(document, dict):
        raise refused([FieldError(path="", message="expected a mapping of MeshConfig's fields")])
    return mesh_config(document)


def mesh_config(document: Document, path: str = "") -> MeshConfig:
    """The settings of a decoded MeshConfig; fields left out have Istio's defaults.

    Raises Invalid, naming each faulty field below `path` (for one that stands inside another document).
    """
    config = converted(MeshConfig, document, path)
    refuse_any(_faults(config, path))
    return config


def _faults(config: MeshConfig, path: str) -> Iterator[FieldError]:
    """What no type tells."""
    yield from extension_providers.faults(config.extension_providers, below(path, "extensionProviders"))
    yield from locality_faults(below(path, "localityLbSetting"), config.locality_lb_setting)
    if config.zone_aware_lb_setting is not None:
        yield from zone_faults(below(path, "zoneAwareLbSetting"), config.zone_aware_lb_setting)
    if config.default_http_retry_policy is not None:
        yield from http_retries(below(path, "defaultHttpRetryPolicy"), config.default_http_retry_policy)
    if config.default_traffic_policy is not None:
        yield from default_policy.faults(config.default_traffic_policy, below(path, "defaultTrafficPolicy"))
    domains = (("trustDomain", config.trust_domain), *_numbered("trustDomainAliases", config.trust_domain_aliases))
    for name, domain in domains:
        if domain != domain.lower() or not all(map(is_label, domain.split("."))):
            yield FieldError(path=below(path, name), message=f"{domain!r} is no domain name")
    if config.mesh_mtls.ecdh_curves:
        where = below(path, "meshMTLS.ecdhCurves")
        yield FieldError(path=where, message="the curves of the mesh's own mutual TLS cannot be chosen")
    if config.connect_timeout < 0.001:
        yield FieldError(path=below(path, "connectTimeout"), message="expected at least 1ms")


def _numbered(name: str, values: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return ((f"{name}[{position}]", value) for position, value in enumerate(values))
