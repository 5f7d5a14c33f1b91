"""EnvoyFilter (networking/v1alpha3/envoy_filter.proto)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from pilotfish.api.istio_types import IstioStatus, PolicyTargetReference, UInt32
from pilotfish.api.meta import Object, Struct
from pilotfish.api.networking.workload_selector import WorkloadSelector

ApplyTo = Literal[
    "INVALID",
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
PatchContext = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"]
RouteAction = Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"]
Operation = Literal[
    "INVALID",
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]
FilterClass = Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"]


class ProxyMatch(Struct):
    """`proxy_version` is a regular expression."""

    proxy_version: str = ""
    metadata: dict[str, str] = {}


class ClusterMatch(Struct):
    port_number: UInt32 = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class RouteMatch(Struct):
    name: str = ""
    action: RouteAction = "ANY"


class VirtualHostMatch(Struct):
    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Struct):
    port_number: UInt32 = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class SubFilterMatch(Struct):
    name: str = ""


class FilterMatch(Struct):
    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Struct):
    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: UInt32 = 0


class ListenerMatch(Struct):
    port_number: UInt32 = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class WaypointRouteMatch(Struct):
    name: str = ""


class WaypointMatch(Struct):
    port_number: UInt32 = 0
    route: WaypointRouteMatch | None = None
    filter: FilterMatch | None = None


class Patch(Struct):
    """`value` is a piece of Envoy's configuration in protobuf's JSON."""

    operation: Operation = "INVALID"
    value: dict[str, Any] | None = None
    filter_class: FilterClass = "UNSPECIFIED"


class EnvoyConfigObjectMatch(Struct):
    ONE_OF: ClassVar = (("listener", "route_configuration", "cluster", "waypoint"),)

    context: PatchContext = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


class EnvoyConfigObjectPatch(Struct):
    apply_to: ApplyTo = "INVALID"
    match: EnvoyConfigObjectMatch = EnvoyConfigObjectMatch()
    patch: Patch | None = None


class EnvoyFilterSpec(Struct):
    """Of several filters the lower `priority` comes first."""

    ONE_OF: ClassVar = (("workload_selector", "target_refs"),)

    workload_selector: WorkloadSelector | None = None
    target_refs: (
        Annotated[tuple[PolicyTargetReference, ...], Meta(max_length=16, description="at most 16 references")] | None
    ) = None
    config_patches: tuple[EnvoyConfigObjectPatch, ...] = ()
    priority: int = 0


class EnvoyFilter(Object):
    spec: EnvoyFilterSpec = EnvoyFilterSpec()
    status: IstioStatus = IstioStatus()
