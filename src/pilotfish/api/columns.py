"""What `kubectl get` prints of each kind, in kubectl's words (kubernetes pkg/printers/internalversion)."""

from __future__ import annotations

from pilotfish.api import apps, core, discovery, install, networking
from pilotfish.api.meta import LabelSelector, Object, parse_timestamp
from pilotfish.api.pods import ContainerStatus, Pod, PodSpec
from pilotfish.api.scheme import Column, age, age_column

NONE = "<none>"


def name_column() -> Column[Object]:
    return Column("Name", lambda obj: obj.metadata.name, "The object's name.")


def pod_reason(pod: Pod) -> str:
    """The STATUS cell of a pod: its phase, or what keeps a container from running."""
    reason = pod.status.reason or pod.status.phase or "Unknown"
    for status in reversed(pod.status.container_statuses):
        if status.state.waiting and status.state.waiting.reason:
            reason = status.state.waiting.reason
        elif status.state.terminated:
            ended = status.state.terminated
            reason = ended.reason or (f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exit_code}")
    if reason == "Completed" and any(s.ready and s.state.running for s in pod.status.container_statuses):
        reason = "Running" if pod.ready else "NotReady"
    for position, status in enumerate(pod.status.init_container_statuses):
        ended_init = status.state.terminated
        if (ended_init and ended_init.exit_code == 0) or status.started:
            continue
        waiting = status.state.waiting
        if ended_init:
            reason = f"Init:{ended_init.reason or f'ExitCode:{ended_init.exit_code}'}"
        elif waiting and waiting.reason and waiting.reason != "PodInitializing":
            reason = f"Init:{waiting.reason}"
        else:
            reason = f"Init:{position}/{len(pod.spec.init_containers)}"
        break
    if pod.metadata.deletion_timestamp:
        reason = "Unknown" if pod.status.reason == "NodeLost" else "Terminating"
    return reason


def _pod_sidecars(pod: Pod) -> list[ContainerStatus]:
    names = {c.name for c in pod.spec.init_containers if c.restart_policy == "Always"}
    return [s for s in pod.status.init_container_statuses if s.name in names]


def _pod_initialized(pod: Pod) -> bool:
    """Whether the init containers are over: none waits for its turn or its end."""
    sidecars = _pod_sidecars(pod)
    return any(c.type == "Initialized" and c.status == "True" for c in pod.status.conditions) or all(
        s.started if s in sidecars else s.state.terminated is not None and s.state.terminated.exit_code == 0
        for s in pod.status.init_container_statuses
    )


def _pod_ready(pod: Pod) -> str:
    statuses = (*_pod_sidecars(pod), *pod.status.container_statuses)
    total = len(pod.spec.containers) + sum(c.restart_policy == "Always" for c in pod.spec.init_containers)
    return f"{sum(s.ready for s in statuses)}/{total}"


def _pod_restarts(pod: Pod) -> str:
    """Of the containers and sidecars; of the init containers as long as they run."""
    counted = (
        (*_pod_sidecars(pod), *pod.status.container_statuses)
        if _pod_initialized(pod)
        else pod.status.init_container_statuses
    )
    count = sum(s.restart_count for s in counted)
    ends = (s.last_state.terminated for s in counted)
    finished = [e.finished_at for e in ends if e and e.finished_at]
    if not count or not finished:
        return str(count)
    return f"{count} ({age(max(finished, key=parse_timestamp))} ago)"


POD = (
    name_column(),
    Column[Pod]("Ready", _pod_ready, "Ready containers of all containers."),
    Column[Pod]("Status", pod_reason, "The phase, or what keeps the pod from running."),
    Column[Pod]("Restarts", _pod_restarts, "How often containers were restarted."),
    age_column(),
    Column[Pod]("IP", lambda p: p.status.pod_ip or NONE, "The pod's address.", 1),
    Column[Pod]("Node", lambda p: p.spec.node_name or NONE, "The node that it runs on.", 1),
    Column[Pod]("Nominated Node", lambda p: p.status.nominated_node_name or NONE, "", 1),
    Column[Pod]("Readiness Gates", lambda p: _readiness_gates(p), "", 1),
)


def _readiness_gates(pod: Pod) -> str:
    gates = {g.condition_type for g in pod.spec.readiness_gates}
    if not gates:
        return NONE
    true = sum(c.type in gates and c.status == "True" for c in pod.status.conditions)
    return f"{true}/{len(gates)}"


def selector_text(selector: LabelSelector | dict[str, str]) -> str:
    """A selector as `kubectl get -o wide` prints it."""
    if isinstance(selector, dict):
        return ",".join(f"{k}={v}" for k, v in sorted(selector.items())) or NONE
    parts = [f"{k}={v}" for k, v in sorted(selector.match_labels.items())]
    for need in selector.match_expressions:
        values = "(" + ",".join(sorted(need.values)) + ")"
        forms = {"Exists": need.key, "DoesNotExist": f"!{need.key}"}
        word = {"In": "in", "NotIn": "notin"}.get(need.operator, need.operator)
        parts.append(forms.get(need.operator, f"{need.key} {word} {values}"))
    return ",".join(parts) or NONE


def _service_ports(service: core.Service) -> str:
    def port(p: core.ServicePort) -> str:
        return f"{p.port}:{p.node_port}/{p.protocol}" if p.node_port else f"{p.port}/{p.protocol}"

    return ",".join(map(port, service.spec.ports)) or NONE


def _service_external(service: core.Service) -> str:
    spec = service.spec
    if spec.type == "ExternalName":
        return spec.external_name or NONE
    addresses = (
        [i.ip or i.hostname for i in service.status.load_balancer.ingress] if spec.type == "LoadBalancer" else []
    )
    addresses += list(spec.external_ips)
    return ",".join(addresses) or ("<pending>" if spec.type == "LoadBalancer" else NONE)


SERVICE = (
    name_column(),
    Column[core.Service]("Type", lambda s: s.spec.type, "How the service is reached."),
    Column[core.Service]("Cluster-IP", lambda s: s.spec.cluster_ip or NONE, "Its address in the cluster."),
    Column[core.Service]("External-IP", _service_external, "Its address from outside."),
    Column[core.Service]("Port(s)", _service_ports, "Its ports, with node ports after a colon."),
    age_column(),
    Column[core.Service]("Selector", lambda s: selector_text(s.spec.selector), "The labels of its pods.", 1),
)

NAMESPACE = (
    name_column(),
    Column[core.Namespace]("Status", lambda n: n.status.phase or "Active", "Active or Terminating."),
    age_column(),
)


def _node_status(node: core.Node) -> str:
    ready = next((c.status for c in node.status.conditions if c.type == "Ready"), "Unknown")
    words = [{"True": "Ready", "False": "NotReady"}.get(ready, "Unknown")]
    return ",".join(words + (["SchedulingDisabled"] if node.spec.unschedulable else []))


def _node_roles(node: core.Node) -> str:
    prefix = "node-role.kubernetes.io/"
    return ",".join(sorted(k.removeprefix(prefix) for k in node.metadata.labels if k.startswith(prefix))) or NONE


NODE = (
    name_column(),
    Column[core.Node]("Status", _node_status, "Ready, NotReady or Unknown."),
    Column[core.Node]("Roles", _node_roles, "From the labels node-role.kubernetes.io/…"),
    age_column(),
    Column[core.Node]("Version", lambda n: n.status.node_info.kubelet_version, "The node agent's version."),
    Column[core.Node]("Internal-IP", lambda n: n.address() or NONE, "Its address inside the mesh.", 1),
    Column[core.Node]("External-IP", lambda n: n.address("ExternalIP") or NONE, "Its address from outside.", 1),
    Column[core.Node]("OS-Image", lambda n: n.status.node_info.os_image or "<unknown>", "", 1),
    Column[core.Node]("Kernel-Version", lambda n: n.status.node_info.kernel_version or "<unknown>", "", 1),
    Column[core.Node](
        "Container-Runtime", lambda n: n.status.node_info.container_runtime_version or "<unknown>", "", 1
    ),
)


def _event_object(event: core.Event) -> str:
    return f"{event.involved_object.kind.lower()}/{event.involved_object.name}"


EVENT = (
    Column[core.Event]("Last Seen", lambda e: age(e.last_timestamp or e.event_time or e.metadata.creation_timestamp)),
    Column[core.Event]("Type", lambda e: e.type),
    Column[core.Event]("Reason", lambda e: e.reason),
    Column[core.Event]("Object", _event_object),
    Column[core.Event]("Subobject", lambda e: e.involved_object.field_path, priority=1),
    Column[core.Event]("Source", lambda e: ", ".join(filter(None, (e.source.component, e.source.host))), priority=1),
    Column[core.Event]("Message", lambda e: e.message.strip()),
    Column[core.Event]("First Seen", lambda e: age(e.first_timestamp or e.metadata.creation_timestamp), priority=1),
    Column[core.Event]("Count", lambda e: str(e.count or 1), priority=1),
    Column[core.Event]("Name", lambda e: e.metadata.name, priority=1),
)

CONFIG_MAP = (
    name_column(),
    Column[core.ConfigMap]("Data", lambda c: str(len(c.data) + len(c.binary_data)), "How many entries it has."),
    age_column(),
)
SECRET = (
    name_column(),
    Column[core.Secret]("Type", lambda s: s.type, "The kind of secret."),
    Column[core.Secret]("Data", lambda s: str(len(s.data)), "How many entries it has."),
    age_column(),
)
SERVICE_ACCOUNT = (
    name_column(),
    Column[core.ServiceAccount]("Secrets", lambda s: str(len(s.secrets)), "How many secrets it has."),
    age_column(),
)


def _endpoints(obj: core.Endpoints) -> str:
    pairs = [f"{a.ip}:{p.port}" for s in obj.subsets for p in s.ports for a in s.addresses]
    return ",".join(pairs[:3]) + (f" + {len(pairs) - 3} more..." if len(pairs) > 3 else "") or NONE


ENDPOINTS = (
    name_column(),
    Column[core.Endpoints]("Endpoints", _endpoints, "Ready addresses with their ports."),
    age_column(),
)


def _containers(spec: PodSpec) -> str:
    return ",".join(c.name for c in spec.containers)


def _images(spec: PodSpec) -> str:
    return ",".join(c.image for c in spec.containers)


DEPLOYMENT = (
    name_column(),
    Column[apps.Deployment]("Ready", lambda d: f"{d.status.ready_replicas}/{d.spec.replicas}", "Ready of wanted."),
    Column[apps.Deployment]("Up-to-date", lambda d: str(d.status.updated_replicas), "Pods of the newest template."),
    Column[apps.Deployment]("Available", lambda d: str(d.status.available_replicas), "Pods that serve."),
    age_column(),
    Column[apps.Deployment]("Containers", lambda d: _containers(d.spec.template.spec), "", 1),
    Column[apps.Deployment]("Images", lambda d: _images(d.spec.template.spec), "", 1),
    Column[apps.Deployment]("Selector", lambda d: selector_text(d.spec.selector), "", 1),
)
REPLICA_SET = (
    name_column(),
    Column[apps.ReplicaSet]("Desired", lambda r: str(r.spec.replicas), "Wanted pods."),
    Column[apps.ReplicaSet]("Current", lambda r: str(r.status.replicas), "Pods that exist."),
    Column[apps.ReplicaSet]("Ready", lambda r: str(r.status.ready_replicas), "Pods that are ready."),
    age_column(),
    Column[apps.ReplicaSet]("Containers", lambda r: _containers(r.spec.template.spec), "", 1),
    Column[apps.ReplicaSet]("Images", lambda r: _images(r.spec.template.spec), "", 1),
    Column[apps.ReplicaSet]("Selector", lambda r: selector_text(r.spec.selector), "", 1),
)


def _abbreviated(items: list[str]) -> str:
    return ",".join(items[:3]) + (f" + {len(items) - 3} more..." if len(items) > 3 else "") or "<unset>"


ENDPOINT_SLICE = (
    name_column(),
    Column[discovery.EndpointSlice]("AddressType", lambda s: s.address_type, "IPv4, IPv6 or FQDN."),
    Column[discovery.EndpointSlice]("Ports", lambda s: _abbreviated([str(p.port or "*") for p in s.ports])),
    Column[discovery.EndpointSlice]("Endpoints", lambda s: _abbreviated([a for e in s.endpoints for a in e.addresses])),
    age_column(),
)


def _list(values: tuple[str, ...]) -> str:
    return "[" + ",".join(f'"{v}"' for v in values) + "]" if values else ""


SERVICE_ENTRY = (
    name_column(),
    Column[networking.ServiceEntry]("Hosts", lambda s: _list(s.spec.hosts), "The hosts of the entry."),
    Column[networking.ServiceEntry]("Location", lambda s: s.spec.location, "In the mesh or outside of it."),
    Column[networking.ServiceEntry]("Resolution", lambda s: s.spec.resolution, "How its endpoints are found."),
    age_column(),
)

VIRTUAL_SERVICE = (
    name_column(),
    Column[networking.VirtualService]("Gateways", lambda v: _list(v.spec.gateways), "Whose traffic is routed."),
    Column[networking.VirtualService]("Hosts", lambda v: _list(v.spec.hosts), "The hosts that it is for."),
    age_column(),
)
DESTINATION_RULE = (
    name_column(),
    Column[networking.DestinationRule]("Host", lambda d: d.spec.host, "The host that it is for."),
    age_column(),
)
WORKLOAD_ENTRY = (
    name_column(),
    age_column(),
    Column[networking.WorkloadEntry]("Address", lambda w: w.spec.address, "The workload's address."),
)
NAME_AND_AGE = (name_column(), age_column())
"""What Kubernetes prints of a custom resource that names no columns."""

ISTIO_OPERATOR = (
    name_column(),
    Column[install.IstioOperator]("Revision", lambda o: o.spec.revision, "The control plane's revision."),
    Column[install.IstioOperator]("Status", lambda o: o.status.status, "HEALTHY when installed."),
    age_column(),
)
