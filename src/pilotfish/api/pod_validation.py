"""What Kubernetes refuses of pods and their templates (kubernetes pkg/apis/core/validation), in its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from pilotfish.api import rules
from pilotfish.api.faults import duplicate, forbidden, invalid, missing, required, unsupported
from pilotfish.api.pods import (
    Container,
    ContainerPort,
    EnvVar,
    ExecAction,
    HTTPGetAction,
    Lifecycle,
    Pod,
    PodSpec,
    Probe,
    TCPSocketAction,
    VolumeMount,
)


def _probe(path: str, probe: Probe | None) -> rules.Faults:
    if probe is None:
        return
    handlers = {"exec": probe.exec, "httpGet": probe.http_get, "tcpSocket": probe.tcp_socket, "grpc": probe.grpc}
    yield from _handler(path, handlers)
    for field, value in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        yield from rules.not_negative(f"{path}.{field}", value)
    if probe.success_threshold != 1 and not path.endswith("readinessProbe"):
        yield invalid(f"{path}.successThreshold", probe.success_threshold, "must be 1")


def _handler(path: str, handlers: Mapping[str, object]) -> rules.Faults:
    given = [name for name, handler in handlers.items() if handler is not None]
    if not given:
        yield required(path, "must specify a handler type")
    for name in given[1:]:
        yield forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    get, socket, command = (handlers.get(name) for name in ("httpGet", "tcpSocket", "exec"))
    if isinstance(get, HTTPGetAction):
        yield from rules.port_number_or_name(f"{path}.httpGet.port", get.port)
        if get.scheme not in ("HTTP", "HTTPS"):
            yield unsupported(f"{path}.httpGet.scheme", get.scheme, ("HTTP", "HTTPS"))
    if isinstance(socket, TCPSocketAction):
        yield from rules.port_number_or_name(f"{path}.tcpSocket.port", socket.port)
    if isinstance(command, ExecAction) and not command.command:
        yield required(f"{path}.exec.command")


def _lifecycle(path: str, lifecycle: Lifecycle | None) -> rules.Faults:
    if lifecycle is None:
        return
    for field, handler in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if handler is not None:
            handlers = {
                "exec": handler.exec,
                "httpGet": handler.http_get,
                "tcpSocket": handler.tcp_socket,
                "sleep": handler.sleep,
            }
            yield from _handler(f"{path}.{field}", handlers)


def _container_ports(path: str, ports: Sequence[ContainerPort]) -> rules.Faults:
    names: set[str] = set()
    for position, port in enumerate(ports):
        where = f"{path}[{position}]"
        if port.name:
            yield from rules.port_name(f"{where}.name", port.name)
            if port.name in names:
                yield duplicate(f"{where}.name", port.name)
            names.add(port.name)
        yield from rules.port_number(f"{where}.containerPort", port.container_port)
        if port.host_port:
            yield from rules.port_number(f"{where}.hostPort", port.host_port)
        if port.protocol not in rules.PROTOCOLS:
            yield unsupported(f"{where}.protocol", port.protocol, rules.PROTOCOLS)


def _environment(path: str, variables: Sequence[EnvVar]) -> rules.Faults:
    for position, variable in enumerate(variables):
        where = f"{path}[{position}]"
        if not variable.name:
            yield required(f"{where}.name")
        elif "=" in variable.name:
            yield invalid(f"{where}.name", variable.name, "a valid environment variable name must not contain '='")
        if variable.value_from is None:
            continue
        source = variable.value_from
        given = [
            s
            for s in (source.field_ref, source.resource_field_ref, source.config_map_key_ref, source.secret_key_ref)
            if s
        ]
        if variable.value and given:
            yield invalid(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
        if len(given) != 1:
            yield invalid(
                f"{where}.valueFrom",
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            )


def _mounts(path: str, mounts: Sequence[VolumeMount], volumes: frozenset[str]) -> rules.Faults:
    places: set[str] = set()
    for position, mount in enumerate(mounts):
        where = f"{path}[{position}]"
        if mount.name not in volumes:
            yield missing(f"{where}.name", mount.name)
        if not mount.mount_path:
            yield required(f"{where}.mountPath")
        elif mount.mount_path in places:
            yield invalid(f"{where}.mountPath", mount.mount_path, "must be unique")
        places.add(mount.mount_path)


_PULL_POLICIES = frozenset({"Always", "IfNotPresent", "Never"})


def _container(path: str, container: Container, volumes: frozenset[str]) -> rules.Faults:
    if not container.name:
        yield required(f"{path}.name")
    else:
        yield from rules.name(f"{path}.name", container.name, "label")
    if not container.image:
        yield required(f"{path}.image")
    elif container.image.strip() != container.image:
        yield invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace")
    if container.image_pull_policy not in ("", *_PULL_POLICIES):
        yield unsupported(f"{path}.imagePullPolicy", container.image_pull_policy, _PULL_POLICIES)
    yield from _container_ports(f"{path}.ports", container.ports)
    yield from _environment(f"{path}.env", container.env)
    yield from _mounts(f"{path}.volumeMounts", container.volume_mounts, volumes)
    yield from _probe(f"{path}.livenessProbe", container.liveness_probe)
    yield from _probe(f"{path}.readinessProbe", container.readiness_probe)
    yield from _probe(f"{path}.startupProbe", container.startup_probe)
    yield from _lifecycle(f"{path}.lifecycle", container.lifecycle)


RESTART_POLICIES = frozenset({"Always", "OnFailure", "Never"})
_DNS_POLICIES = frozenset({"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"})


def pod_spec(spec: PodSpec, path: str = "spec") -> rules.Faults:
    """The faults of a PodSpec, in a Pod or in a template."""
    if not spec.containers:
        yield required(f"{path}.containers")
    named = spec.volumes if isinstance(spec.volumes, list) else []
    volumes = [str(v.get("name", "")) if isinstance(v, dict) else "" for v in named]
    for position, volume in enumerate(volumes):
        where = f"{path}.volumes[{position}].name"
        if not volume:
            yield required(where)
        elif volume in volumes[:position]:
            yield duplicate(where, volume)
        else:
            yield from rules.name(where, volume, "label")
    names: set[str] = set()
    for field, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for position, container in enumerate(containers):
            where = f"{path}.{field}[{position}]"
            yield from _container(where, container, frozenset(volumes))
            if container.name in names:
                yield duplicate(f"{where}.name", container.name)
            names.add(container.name)
    if spec.restart_policy not in RESTART_POLICIES:
        yield unsupported(f"{path}.restartPolicy", spec.restart_policy, RESTART_POLICIES)
    if spec.dns_policy not in _DNS_POLICIES:
        yield unsupported(f"{path}.dnsPolicy", spec.dns_policy, _DNS_POLICIES)
    if spec.dns_policy == "None" and not (spec.dns_config and spec.dns_config.nameservers):
        yield required(
            f"{path}.dnsConfig.nameservers", "must provide at least one DNS nameserver when dnsPolicy is None"
        )
    yield from rules.not_negative(f"{path}.terminationGracePeriodSeconds", spec.termination_grace_period_seconds)
    for field, label in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if label:
            yield from rules.name(f"{path}.{field}", label, "label")
    if spec.service_account_name:
        yield from rules.name(f"{path}.serviceAccountName", spec.service_account_name, "subdomain")
    for position, alias in enumerate(spec.host_aliases):
        yield from rules.address(f"{path}.hostAliases[{position}].ip", alias.ip)


def pod(obj: Pod) -> rules.Faults:
    yield from pod_spec(obj.spec)


def _without_what_may_change(spec: PodSpec) -> PodSpec:
    """A PodSpec that is equal for two pods of which one may become the other (ValidatePodUpdate)."""
    return replace(
        spec,
        containers=tuple(replace(c, image="") for c in spec.containers),
        init_containers=tuple(replace(c, image="") for c in spec.init_containers),
        active_deadline_seconds=None,
        tolerations=None,
        termination_grace_period_seconds=None,
        scheduling_gates=None,
        ephemeral_containers=None,
    )


def pod_update(new: Pod, old: Pod) -> rules.Faults:
    changed, before = _without_what_may_change(new.spec), _without_what_may_change(old.spec)
    if not before.node_name:
        # What binds a pod to its node is a scheduler, once; here it may do so by an ordinary write.
        changed, before = replace(changed, node_name=""), replace(before, node_name="")
    if changed != before:
        yield forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        )
