"""Kubernetes' core/v1 kinds but pods, as far as the mesh reads them; what it only carries is typed Any."""

from __future__ import annotations

from typing import Any

from msgspec import field

from pilotfish.api.meta import Condition, IntOrString, LocalObjectReference, Object, ObjectReference, Struct


class NamespaceSpec(Struct):
    finalizers: tuple[str, ...] = ()


class NamespaceStatus(Struct):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Namespace(Object):
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class NodeAddress(Struct):
    type: str
    address: str


class DaemonEndpoint(Struct):
    port: int = field(name="Port", default=0)


class NodeDaemonEndpoints(Struct):
    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeSystemInfo(Struct):
    machine_id: str = field(name="machineID", default="")
    system_uuid: str = field(name="systemUUID", default="")
    boot_id: str = field(name="bootID", default="")
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    kube_proxy_version: str = ""
    operating_system: str = ""
    architecture: str = ""
    swap: Any = None


class NodeSpec(Struct):
    pod_cidr: str = field(name="podCIDR", default="")
    pod_cidrs: tuple[str, ...] = field(name="podCIDRs", default=())
    provider_id: str = field(name="providerID", default="")
    unschedulable: bool = False
    taints: Any = None
    external_id: str = field(name="externalID", default="")
    config_source: Any = None
    pod_preemption_policy: Any = None


class NodeStatus(Struct):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    daemon_endpoints: NodeDaemonEndpoints = NodeDaemonEndpoints()
    node_info: NodeSystemInfo = NodeSystemInfo()
    images: Any = None
    phase: str = ""
    volumes_in_use: Any = None
    volumes_attached: Any = None
    config: Any = None
    runtime_handlers: Any = None
    features: Any = None
    declared_features: Any = None


class Node(Object):
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    def address(self, type: str = "InternalIP") -> str:
        """The node's first address of a type, or ""."""
        return next((a.address for a in self.status.addresses if a.type == type), "")


class ServicePort(Struct):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: IntOrString | None = None
    node_port: int = 0


class ServiceSpec(Struct):
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    cluster_ip: str = field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = field(name="clusterIPs", default=())
    type: str = "ClusterIP"
    external_ips: tuple[str, ...] = field(name="externalIPs", default=())
    external_name: str = ""
    external_traffic_policy: str = ""
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    session_affinity: str = ""
    session_affinity_config: Any = None
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""
    load_balancer_ip: str = field(name="loadBalancerIP", default="")
    load_balancer_class: str = ""
    load_balancer_source_ranges: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: bool | None = None


class LoadBalancerIngress(Struct):
    ip: str = ""
    hostname: str = ""
    ip_mode: str = ""
    ports: Any = None


class LoadBalancerStatus(Struct):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Struct):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(Object):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def headless(self) -> bool:
        """Whether the Service says `clusterIP: None`."""
        return self.spec.cluster_ip == "None"


class EndpointAddress(Struct):
    ip: str
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class CoreEndpointPort(Struct):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSubset(Struct):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[CoreEndpointPort, ...] = ()


class Endpoints(Object):
    """The older form of EndpointSlice; older kubectl's `describe service` reads it."""

    subsets: tuple[EndpointSubset, ...] = ()


class EventSource(Struct):
    component: str = ""
    host: str = ""


class EventSeries(Struct):
    count: int = 0
    last_observed_time: str | None = None


class Event(Object):
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    source: EventSource = EventSource()
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    count: int = 0
    type: str = "Normal"
    event_time: str | None = None
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class ConfigMap(Object):
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool | None = None


class Secret(Object):
    """`data` values are base64; `stringData` is folded into it when the object is written."""

    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    type: str = "Opaque"
    immutable: bool | None = None


class ServiceAccount(Object):
    secrets: tuple[ObjectReference, ...] = ()
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    automount_service_account_token: bool | None = None
