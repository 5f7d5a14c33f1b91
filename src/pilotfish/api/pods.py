"""Kubernetes' core/v1 Pod, as far as the mesh reads it; what it only carries is typed Any."""

from __future__ import annotations

from typing import Any

from msgspec import field

from pilotfish.api.meta import Condition, IntOrString, LocalObjectReference, Object, ObjectMeta, Struct


class ContainerPort(Struct):
    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = field(name="hostIP", default="")


class ObjectFieldSelector(Struct):
    field_path: str
    api_version: str = ""


class KeySelector(Struct):
    key: str
    name: str = ""
    optional: bool = False


class ResourceFieldSelector(Struct):
    resource: str
    container_name: str = ""
    divisor: Any = None


class EnvVarSource(Struct):
    field_ref: ObjectFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    file_key_ref: Any = None


class EnvVar(Struct):
    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvSource(Struct):
    name: str = ""
    optional: bool = False


class EnvFromSource(Struct):
    prefix: str = ""
    config_map_ref: EnvSource | None = None
    secret_ref: EnvSource | None = None


class HTTPHeader(Struct):
    name: str
    value: str


class HTTPGetAction(Struct):
    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()
    protocol: str = ""


class TCPSocketAction(Struct):
    port: IntOrString
    host: str = ""


class ExecAction(Struct):
    command: tuple[str, ...] = ()


class GRPCAction(Struct):
    port: int
    service: str = ""
    mode: str = ""


class SleepAction(Struct):
    seconds: int


class Probe(Struct):
    """Seconds throughout, and counts of consecutive results."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Struct):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Struct):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str = ""


class SecurityContext(Struct):
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    privileged: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities: Any = None
    proc_mount: Any = None
    se_linux_options: Any = None
    seccomp_profile: Any = None
    app_armor_profile: Any = None
    windows_options: Any = None


class VolumeMount(Struct):
    name: str
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False
    recursive_read_only: str = ""
    mount_propagation: str = ""
    bind_mount_options: Any = None


class Container(Struct):
    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    resources: Any = None
    resize_policy: Any = None
    restart_policy: str = ""
    restart_policy_rules: Any = None
    volume_mounts: tuple[VolumeMount, ...] = ()
    volume_devices: Any = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class PodDNSConfigOption(Struct):
    name: str
    value: str | None = None


class PodDNSConfig(Struct):
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()


class HostAlias(Struct):
    ip: str
    hostnames: tuple[str, ...] = ()


class PodReadinessGate(Struct):
    condition_type: str


class PodSpec(Struct):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: Any = None
    volumes: Any = None
    restart_policy: str = ""
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    dns_policy: str = ""
    dns_config: PodDNSConfig | None = None
    node_selector: dict[str, str] = {}
    node_name: str = ""
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool | None = None
    host_network: bool = False
    host_pid: bool = field(name="hostPID", default=False)
    host_ipc: bool = field(name="hostIPC", default=False)
    host_users: bool | None = None
    share_process_namespace: bool | None = None
    security_context: Any = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    hostname: str = ""
    subdomain: str = ""
    hostname_override: str | None = None
    set_hostname_as_fqdn: bool | None = field(name="setHostnameAsFQDN", default=None)
    affinity: Any = None
    scheduler_name: str = ""
    scheduling_gates: Any = None
    tolerations: Any = None
    topology_spread_constraints: Any = None
    host_aliases: tuple[HostAlias, ...] = ()
    priority_class_name: str = ""
    priority: int | None = None
    preemption_policy: str = ""
    readiness_gates: tuple[PodReadinessGate, ...] = ()
    runtime_class_name: str = ""
    enable_service_links: bool | None = None
    overhead: Any = None
    os: Any = None
    scheduling_group: Any = None
    eviction_responders: Any = None
    resource_claims: Any = None
    resources: Any = None


class ContainerStateRunning(Struct):
    started_at: str | None = None


class ContainerStateWaiting(Struct):
    reason: str = ""
    message: str = ""


class ContainerStateTerminated(Struct):
    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = field(name="containerID", default="")


class ContainerState(Struct):
    running: ContainerStateRunning | None = None
    waiting: ContainerStateWaiting | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Struct):
    """Kubernetes writes `ready`, `restartCount` and the images also when they are nothing: a factory keeps them."""

    name: str
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    ready: bool = field(default_factory=bool)
    started: bool | None = None
    restart_count: int = field(default_factory=int)
    image: str = field(default_factory=str)
    image_id: str = field(name="imageID", default_factory=str)
    container_id: str = field(name="containerID", default="")
    resources: Any = None
    allocated_resources: Any = None
    volume_mounts: Any = None
    user: Any = None
    stop_signal: str = ""
    allocated_resources_status: Any = None


class PodIP(Struct):
    ip: str


class PodStatus(Struct):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    message: str = ""
    reason: str = ""
    nominated_node_name: str = ""
    host_ip: str = field(name="hostIP", default="")
    host_ips: tuple[PodIP, ...] = field(name="hostIPs", default=())
    pod_ip: str = field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = field(name="podIPs", default=())
    start_time: str | None = None
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: Any = None
    qos_class: str = ""
    resource_claim_statuses: Any = None
    extended_resource_claim_status: Any = None
    node_allocatable_resource_claim_statuses: Any = None
    allocated_resources: Any = None
    resources: Any = None
    volume_health: Any = None
    observed_generation: int | None = None
    resize: Any = None


class Pod(Object):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Whether the Ready condition is True."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class PodTemplateSpec(Struct):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
