"""Every kind that we know, and the scheme of them all."""

from __future__ import annotations

from pilotfish.api import (
    apps,
    columns,
    core,
    defaults,
    discovery,
    install,
    istio_validation,
    networking,
    pod_validation,
    pods,
    telemetry,
    validation,
)
from pilotfish.api.scheme import Kind, Scheme

STATUS = frozenset({"status"})
STATUS_AND_SCALE = frozenset({"status", "scale"})
V1 = ("v1",)
ISTIO_VERSIONS = ("v1", "v1beta1", "v1alpha3")
ISTIO_CATEGORIES = ("istio-io", "networking-istio-io")

NAMESPACE = Kind(
    "", V1, "Namespace", "namespaces", core.Namespace,
    short_names=("ns",), namespaced=False, subresources=frozenset({"status", "finalize"}),
    name_format="label", default=defaults.namespace, columns=columns.NAMESPACE,
)  # fmt: skip
NODE = Kind(
    "", V1, "Node", "nodes", core.Node,
    short_names=("no",), namespaced=False, subresources=STATUS, columns=columns.NODE,
)  # fmt: skip
POD = Kind(
    "", V1, "Pod", "pods", pods.Pod,
    short_names=("po",), categories=("all",), subresources=STATUS,
    default=defaults.pod,
    validate=pod_validation.pod, validate_update=pod_validation.pod_update, grace_period=defaults.pod_grace_period,
    columns=columns.POD,
)  # fmt: skip
SERVICE = Kind(
    "", V1, "Service", "services", core.Service,
    short_names=("svc",), categories=("all",), subresources=STATUS,
    name_format="dns1035", default=defaults.service,
    validate=validation.service, validate_update=validation.service_update, columns=columns.SERVICE,
)  # fmt: skip
ENDPOINTS = Kind(
    "", V1, "Endpoints", "endpoints", core.Endpoints,
    singular="endpoints", short_names=("ep",), default=defaults.endpoints,
    validate=validation.endpoints, columns=columns.ENDPOINTS,
)  # fmt: skip
EVENT = Kind("", V1, "Event", "events", core.Event, short_names=("ev",), columns=columns.EVENT)
CONFIG_MAP = Kind(
    "", V1, "ConfigMap", "configmaps", core.ConfigMap,
    short_names=("cm",), columns=columns.CONFIG_MAP,
    validate=validation.config_map, validate_update=validation.config_map_update,
)  # fmt: skip
SECRET = Kind(
    "", V1, "Secret", "secrets", core.Secret,
    default=defaults.secret, validate=validation.secret, validate_update=validation.secret_update,
    columns=columns.SECRET,
)  # fmt: skip
SERVICE_ACCOUNT = Kind(
    "", V1, "ServiceAccount", "serviceaccounts", core.ServiceAccount,
    short_names=("sa",), columns=columns.SERVICE_ACCOUNT,
)  # fmt: skip
DEPLOYMENT = Kind(
    "apps", V1, "Deployment", "deployments", apps.Deployment,
    short_names=("deploy",), categories=("all",), subresources=STATUS_AND_SCALE,
    default=defaults.deployment,
    validate=validation.deployment, validate_update=validation.deployment_update, columns=columns.DEPLOYMENT,
)  # fmt: skip
REPLICA_SET = Kind(
    "apps", V1, "ReplicaSet", "replicasets", apps.ReplicaSet,
    short_names=("rs",), categories=("all",), subresources=STATUS_AND_SCALE,
    default=defaults.replica_set,
    validate=validation.replica_set, validate_update=validation.replica_set_update, columns=columns.REPLICA_SET,
)  # fmt: skip
ENDPOINT_SLICE = Kind(
    "discovery.k8s.io", V1, "EndpointSlice", "endpointslices", discovery.EndpointSlice,
    default=defaults.endpoint_slice,
    validate=validation.endpoint_slice, validate_update=validation.endpoint_slice_update,
    columns=columns.ENDPOINT_SLICE,
)  # fmt: skip
SERVICE_ENTRY = Kind(
    "networking.istio.io", ISTIO_VERSIONS, "ServiceEntry", "serviceentries", networking.ServiceEntry,
    short_names=("se",), categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.service_entry, warn=istio_validation.service_entry_warnings,
    columns=columns.SERVICE_ENTRY,
)  # fmt: skip
VIRTUAL_SERVICE = Kind(
    "networking.istio.io", ISTIO_VERSIONS, "VirtualService", "virtualservices", networking.VirtualService,
    short_names=("vs",), categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.virtual_service, warn=istio_validation.virtual_service_warnings,
    istio_neither=istio_validation.VIRTUAL_SERVICE_ISTIO_NEITHER, columns=columns.VIRTUAL_SERVICE,
)  # fmt: skip
DESTINATION_RULE = Kind(
    "networking.istio.io", ISTIO_VERSIONS, "DestinationRule", "destinationrules", networking.DestinationRule,
    short_names=("dr",), categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.destination_rule, warn=istio_validation.destination_rule_warnings,
    istio_neither=istio_validation.DESTINATION_RULE_ISTIO_NEITHER, columns=columns.DESTINATION_RULE,
)  # fmt: skip
GATEWAY = Kind(
    "networking.istio.io", ISTIO_VERSIONS, "Gateway", "gateways", networking.Gateway,
    short_names=("gw",), categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    name_format="label", validate=istio_validation.gateway, warn=istio_validation.gateway_warnings,
    istio_neither=istio_validation.GATEWAY_ISTIO_NEITHER, columns=columns.NAME_AND_AGE,
)  # fmt: skip
SIDECAR = Kind(
    "networking.istio.io", ISTIO_VERSIONS, "Sidecar", "sidecars", networking.Sidecar,
    categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.sidecar, warn=istio_validation.sidecar_warnings,
    istio_neither=istio_validation.SIDECAR_ISTIO_NEITHER, columns=columns.NAME_AND_AGE,
)  # fmt: skip
WORKLOAD_ENTRY = Kind(
    "networking.istio.io", ISTIO_VERSIONS, "WorkloadEntry", "workloadentries", networking.WorkloadEntry,
    short_names=("we",), categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.workload_entry, warn=istio_validation.workload_entry_warnings,
    columns=columns.WORKLOAD_ENTRY,
)  # fmt: skip
WORKLOAD_GROUP = Kind(
    "networking.istio.io", ISTIO_VERSIONS, "WorkloadGroup", "workloadgroups", networking.WorkloadGroup,
    short_names=("wg",), categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.workload_group, columns=columns.NAME_AND_AGE,
)  # fmt: skip
ENVOY_FILTER = Kind(
    "networking.istio.io", ("v1alpha3",), "EnvoyFilter", "envoyfilters", networking.EnvoyFilter,
    categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.envoy_filter, warn=istio_validation.envoy_filter_warnings,
    not_honoured=istio_validation.ENVOY_FILTER_NOT_HONOURED,
    istio_neither=istio_validation.ENVOY_FILTER_ISTIO_NEITHER, columns=columns.NAME_AND_AGE,
)  # fmt: skip
PROXY_CONFIG = Kind(
    "networking.istio.io", ("v1beta1",), "ProxyConfig", "proxyconfigs", networking.ProxyConfig,
    categories=ISTIO_CATEGORIES, subresources=STATUS, strict=True,
    validate=istio_validation.proxy_config, warn=istio_validation.proxy_config_warnings,
    columns=columns.NAME_AND_AGE,
)  # fmt: skip
TELEMETRY = Kind(
    "telemetry.istio.io", ("v1", "v1alpha1"), "Telemetry", "telemetries", telemetry.Telemetry,
    short_names=("telemetry",), categories=("istio-io", "telemetry-istio-io"), subresources=STATUS, strict=True,
    validate=istio_validation.telemetry, warn=istio_validation.telemetry_warnings,
    not_honoured=istio_validation.TELEMETRY_NOT_HONOURED, columns=columns.NAME_AND_AGE,
)  # fmt: skip
ISTIO_OPERATOR = Kind(
    "install.istio.io", ("v1alpha1",), "IstioOperator", "istiooperators", install.IstioOperator,
    short_names=("iop", "io"), subresources=STATUS, strict=True,
    validate=istio_validation.istio_operator, columns=columns.ISTIO_OPERATOR,
)  # fmt: skip

SCHEME = Scheme(
    (
        NAMESPACE,
        NODE,
        POD,
        SERVICE,
        ENDPOINTS,
        EVENT,
        CONFIG_MAP,
        SECRET,
        SERVICE_ACCOUNT,
        DEPLOYMENT,
        REPLICA_SET,
        ENDPOINT_SLICE,
        SERVICE_ENTRY,
        VIRTUAL_SERVICE,
        DESTINATION_RULE,
        GATEWAY,
        SIDECAR,
        WORKLOAD_ENTRY,
        WORKLOAD_GROUP,
        ENVOY_FILTER,
        PROXY_CONFIG,
        TELEMETRY,
        ISTIO_OPERATOR,
    )
)
