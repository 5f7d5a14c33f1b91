"""The installation's values: what Istio's charts call `.Values`, as far as the sidecar's container is made from it.

Names and defaults are those of Istio (operator/pkg/apis/values_types.proto, charts/istio-control/istio-discovery). What
shapes nothing here is typed Any, so that a misspelt name is still found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import field

from pilotfish.api.decode import field_error, unknown_fields
from pilotfish.api.errors import FieldError, Invalid
from pilotfish.api.meta import Document, LabelSelector, Struct

CONFIG_MAP = "istio-sidecar-injector"
CONFIG_MAP_KEY = "values"


class Resources(Struct):
    """Quantities as Kubernetes writes them, by resource name."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class StartupProbe(Struct):
    enabled: bool = True
    failure_threshold: int = 600


class ProxyValues(Struct):
    """Seconds and counts for the probe; ports and ranges as in the annotations traffic.sidecar.istio.io/…"""

    auto_inject: str = "enabled"
    image: str = "proxyv2"
    cluster_domain: str = "cluster.local"
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    include_ip_ranges: str = field(name="includeIPRanges", default="*")
    exclude_ip_ranges: str = field(name="excludeIPRanges", default="")
    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""
    include_outbound_ports: str = ""
    exclude_outbound_ports: str = ""
    privileged: bool = False
    readiness_initial_delay_seconds: int = 0
    readiness_period_seconds: int = 15
    readiness_failure_threshold: int = 4
    startup_probe: StartupProbe = StartupProbe()
    resources: Resources = Resources(
        requests={"cpu": "100m", "memory": "128Mi"}, limits={"cpu": "2000m", "memory": "1024Mi"}
    )
    status_port: int = 15020
    lifecycle: Any = None
    hold_application_until_proxy_starts: bool = False
    enable_core_dump: Any = None
    outlier_log_path: Any = None
    seccomp_profile: Any = None
    tracer: Any = None


class Logging(Struct):
    level: str = "default:info"


class MultiCluster(Struct):
    enabled: bool = False
    cluster_name: str = ""
    global_domain_suffix: Any = None
    include_envoy_filter: Any = None


class GlobalValues(Struct):
    hub: str = "istio"
    tag: str | int | float = "latest"
    variant: str = ""
    istio_namespace: str = "istio-system"
    image_pull_policy: str = ""
    logging: Logging = Logging()
    log_as_json: bool = False
    pilot_cert_provider: str = "istiod"
    ca_address: str = ""
    mesh_id: str = field(name="meshID", default="")
    multi_cluster: MultiCluster = MultiCluster()
    network: str = ""
    proxy: ProxyValues = ProxyValues()
    agentgateway: Any = None
    arch: Any = None
    ca_name: Any = None
    cert_signers: Any = None
    config_cluster: Any = None
    config_validation: Any = None
    default_node_selector: Any = None
    default_pod_disruption_budget: Any = None
    default_resources: Any = None
    default_tolerations: Any = None
    enable_reader_rbac: Any = field(name="enableReaderRBAC", default=None)
    external_istiod: Any = None
    image_pull_secrets: Any = None
    ip_families: Any = None
    ip_family_policy: Any = None
    istiod: Any = None
    jwt_policy: Any = None
    mesh_networks: Any = None
    mount_mtls_certs: Any = None
    native_nftables: Any = None
    network_policy: Any = None
    omit_sidecar_injector_config_map: Any = None
    operator_manage_webhooks: Any = None
    platform: Any = None
    pod_dns_search_namespaces: Any = field(name="podDNSSearchNamespaces", default=None)
    priority_class_name: Any = None
    proxy_init: Any = field(name="proxy_init", default=None)
    reader_service_account: Any = None
    remote_pilot_address: Any = None
    resource_scope: Any = None
    revision: Any = None
    sds: Any = None
    sts: Any = None
    tracer: Any = None
    trust_bundle_name: Any = None
    waypoint: Any = None


class SidecarInjectorWebhook(Struct):
    enable_namespaces_by_default: bool = False
    never_inject_selector: tuple[LabelSelector, ...] = ()
    always_inject_selector: tuple[LabelSelector, ...] = ()
    injected_annotations: dict[str, str] = {}
    default_templates: Any = None
    injection_url: Any = field(name="injectionURL", default=None)
    reinvocation_policy: Any = None
    rewrite_app_http_probe: Any = field(name="rewriteAppHTTPProbe", default=None)
    templates: Any = None


class Values(Struct):
    revision: str = ""
    globals: GlobalValues = field(name="global", default=GlobalValues())
    sidecar_injector_webhook: SidecarInjectorWebhook = SidecarInjectorWebhook()
    base: Any = None
    cni: Any = None
    compatibility_version: Any = None
    default_revision: Any = None
    experimental: Any = None
    gateway_classes: Any = None
    gateways: Any = None
    istio_cni: Any = field(name="istio_cni", default=None)
    istiod_remote: Any = None
    mesh_config: Any = None
    owner_name: Any = None
    pilot: Any = None
    profile: Any = None
    revision_tags: Any = None
    telemetry: Any = None
    ztunnel: Any = None

    @property
    def revision_name(self) -> str:
        """The control plane's revision; the one without a name is "default"."""
        return self.revision or "default"


def values_of(document: Document, path: str = "") -> Values:
    """The values of a decoded document; what is left out has the charts' defaults.

    Raises Invalid, naming each faulty field below `path`.
    """
    unknown = list(unknown_fields(Values, document, path))
    if unknown:
        raise Invalid.of("Values", "", CONFIG_MAP, unknown)
    try:
        values = msgspec.convert(document, Values)
    except msgspec.ValidationError as error:
        raise Invalid.of("Values", "", CONFIG_MAP, [field_error(error, path)]) from None
    faults = list(_faults(values, path))
    if faults:
        raise Invalid.of("Values", "", CONFIG_MAP, faults)
    return values


def read_values(text: str) -> Values:
    """The values in the `values` key of ConfigMap `istio-sidecar-injector`, a JSON text; "" means the defaults.

    Raises Invalid, naming each faulty field.
    """
    if not text:
        return Values()
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        fault = FieldError(path=f"data[{CONFIG_MAP_KEY}]", message=f"this is no JSON: {error}")
        raise Invalid.of("Values", "", CONFIG_MAP, [fault]) from None
    if not isinstance(document, dict):
        fault = FieldError(path=f"data[{CONFIG_MAP_KEY}]", message="expected an object of values")
        raise Invalid.of("Values", "", CONFIG_MAP, [fault])
    return values_of(document)


def _faults(values: Values, path: str) -> Iterator[FieldError]:
    policy = values.globals.proxy.auto_inject
    if policy not in ("enabled", "disabled"):
        where = f"{path}.global.proxy.autoInject".lstrip(".")
        yield FieldError(path=where, message=f'"{policy}" is not one of enabled, disabled')
