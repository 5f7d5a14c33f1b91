"""What Kubernetes refuses of its own kinds (kubernetes pkg/apis/{core,apps,discovery}/validation), in its words.

Faults of the fields that the mesh reads; what is only carried is not judged. Pods are in `pod_validation`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from pilotfish.api import apps, core, discovery, rules
from pilotfish.api.faults import duplicate, forbidden, invalid, required, too_long, unsupported
from pilotfish.api.meta import LabelSelector
from pilotfish.api.pod_validation import RESTART_POLICIES, pod_spec
from pilotfish.api.pods import PodTemplateSpec
from pilotfish.api.selectors import matches

_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_LARGEST_SECRET = 1024 * 1024
_PERCENT = re.compile(r"[0-9]+%")

# Services and endpoints

_SERVICE_TYPES = frozenset({"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"})


def service(obj: core.Service) -> rules.Faults:
    spec = obj.spec
    if spec.type not in _SERVICE_TYPES:
        yield unsupported("spec.type", spec.type, _SERVICE_TYPES)
    if spec.type == "ExternalName":
        if not spec.external_name:
            yield required("spec.externalName")
        else:
            yield from rules.name("spec.externalName", spec.external_name.removesuffix("."), "subdomain")
        if spec.cluster_ip:
            yield forbidden("spec.clusterIPs", "may not be set for ExternalName services")
    elif not spec.ports and not obj.headless:
        yield required("spec.ports")
    if obj.headless and spec.type in ("NodePort", "LoadBalancer"):
        yield invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec.type} services")
    if spec.cluster_ips and spec.cluster_ips[0] != spec.cluster_ip:
        yield invalid("spec.clusterIPs", list(spec.cluster_ips), "first value must match `clusterIP`")
    yield from _service_ports(spec)
    if spec.session_affinity not in ("None", "ClientIP"):
        yield unsupported("spec.sessionAffinity", spec.session_affinity, ("ClientIP", "None"))
    if spec.external_traffic_policy not in ("", "Cluster", "Local"):
        yield unsupported("spec.externalTrafficPolicy", spec.external_traffic_policy, ("Cluster", "Local"))
    if spec.internal_traffic_policy not in ("", "Cluster", "Local"):
        yield unsupported("spec.internalTrafficPolicy", spec.internal_traffic_policy, ("Cluster", "Local"))
    for position, address in enumerate(spec.external_ips):
        yield from rules.address(f"spec.externalIPs[{position}]", address)


def _service_ports(spec: core.ServiceSpec) -> rules.Faults:
    names: set[str] = set()
    numbers: set[tuple[int, str]] = set()
    for position, port in enumerate(spec.ports):
        where = f"spec.ports[{position}]"
        if port.name:
            yield from rules.name(f"{where}.name", port.name, "label")
            if port.name in names:
                yield duplicate(f"{where}.name", port.name)
            names.add(port.name)
        elif len(spec.ports) > 1:
            yield required(f"{where}.name")
        yield from rules.port_number(f"{where}.port", port.port)
        if port.protocol not in rules.PROTOCOLS:
            yield unsupported(f"{where}.protocol", port.protocol, rules.PROTOCOLS)
        if port.target_port is not None:
            yield from rules.port_number_or_name(f"{where}.targetPort", port.target_port)
        if (port.port, port.protocol) in numbers:
            yield duplicate(where, {"port": port.port, "protocol": port.protocol})
        numbers.add((port.port, port.protocol))
        if port.node_port and spec.type in ("ClusterIP", "ExternalName"):
            yield forbidden(f"{where}.nodePort", f"may not be used when `type` is '{spec.type}'")


def service_update(new: core.Service, old: core.Service) -> rules.Faults:
    both = "ExternalName" not in (new.spec.type, old.spec.type)
    if both and old.spec.cluster_ip and new.spec.cluster_ip != old.spec.cluster_ip:
        yield invalid("spec.clusterIPs[0]", list(new.spec.cluster_ips), "may not change once set")


def endpoints(obj: core.Endpoints) -> rules.Faults:
    for position, subset in enumerate(obj.subsets):
        where = f"subsets[{position}]"
        for field, addresses in (("addresses", subset.addresses), ("notReadyAddresses", subset.not_ready_addresses)):
            for number, address in enumerate(addresses):
                yield from rules.address(f"{where}.{field}[{number}].ip", address.ip)
        for number, port in enumerate(subset.ports):
            yield from rules.port_number(f"{where}.ports[{number}].port", port.port)
            if not port.name and len(subset.ports) > 1:
                yield required(f"{where}.ports[{number}].name")


_ADDRESS_TYPES = frozenset({"IPv4", "IPv6", "FQDN"})


def endpoint_slice(obj: discovery.EndpointSlice) -> rules.Faults:
    if obj.address_type not in _ADDRESS_TYPES:
        yield unsupported("addressType", obj.address_type, _ADDRESS_TYPES)
    for position, endpoint in enumerate(obj.endpoints):
        where = f"endpoints[{position}].addresses"
        if not endpoint.addresses:
            yield required(where, "must contain at least 1 address")
        for number, address in enumerate(endpoint.addresses):
            if obj.address_type != "FQDN":
                yield from rules.address(f"{where}[{number}]", address)
    names: set[str] = set()
    for position, port in enumerate(obj.ports):
        if port.name in names:
            yield duplicate(f"ports[{position}].name", port.name)
        names.add(port.name)


def endpoint_slice_update(new: discovery.EndpointSlice, old: discovery.EndpointSlice) -> rules.Faults:
    if new.address_type != old.address_type:
        yield invalid("addressType", new.address_type, "field is immutable")


# ConfigMaps and Secrets


def _data_keys(path: str, keys: Iterable[str]) -> rules.Faults:
    for key in keys:
        if not _CONFIG_KEY.fullmatch(key) or key in (".", "..") or len(key) > 253:
            yield invalid(
                f"{path}[{key}]",
                key,
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
                "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            )


def _base64(path: str, data: dict[str, str]) -> rules.Faults:
    for key, value in data.items():
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            yield invalid(f"{path}[{key}]", value, "must be base64 encoded")


def config_map(obj: core.ConfigMap) -> rules.Faults:
    yield from _data_keys("data", obj.data)
    yield from _data_keys("binaryData", obj.binary_data)
    yield from _base64("binaryData", obj.binary_data)
    for key in obj.data.keys() & obj.binary_data.keys():
        yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    if sum(map(len, (*obj.data.values(), *obj.binary_data.values()))) > _LARGEST_SECRET:
        yield too_long("", _LARGEST_SECRET)


def config_map_update(new: core.ConfigMap, old: core.ConfigMap) -> rules.Faults:
    if old.immutable:
        if not new.immutable:
            yield forbidden("immutable", "field is immutable when `immutable` is set")
        if (new.data, new.binary_data) != (old.data, old.binary_data):
            yield forbidden("data", "field is immutable when `immutable` is set")


def secret(obj: core.Secret) -> rules.Faults:
    yield from _data_keys("data", obj.data)
    yield from _base64("data", obj.data)
    if sum(map(len, obj.data.values())) > _LARGEST_SECRET:
        yield too_long("data", _LARGEST_SECRET)


def secret_update(new: core.Secret, old: core.Secret) -> rules.Faults:
    if new.type != old.type:
        yield invalid("type", new.type, "field is immutable")
    if old.immutable:
        if not new.immutable:
            yield forbidden("immutable", "field is immutable when `immutable` is set")
        if new.data != old.data:
            yield forbidden("data", "field is immutable when `immutable` is set")


# Deployments and ReplicaSets

_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


def _selector(selector: LabelSelector, template: PodTemplateSpec) -> rules.Faults:
    if not selector.match_labels and not selector.match_expressions:
        yield required("spec.selector", "a selector that selects nothing in particular is not valid here")
        return
    for position, need in enumerate(selector.match_expressions):
        where = f"spec.selector.matchExpressions[{position}]"
        if need.operator not in _OPERATORS:
            yield unsupported(f"{where}.operator", need.operator, _OPERATORS)
        elif need.operator in ("In", "NotIn") and not need.values:
            yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    if not matches(selector, template.metadata.labels):
        yield invalid(
            "spec.template.metadata.labels", template.metadata.labels, "`selector` does not match template `labels`"
        )


def _replicated(selector: LabelSelector, template: PodTemplateSpec, replicas: int) -> rules.Faults:
    yield from rules.not_negative("spec.replicas", replicas)
    yield from _selector(selector, template)
    yield from pod_spec(template.spec, "spec.template.spec")
    policy = template.spec.restart_policy
    if policy in RESTART_POLICIES and policy != "Always":
        yield unsupported("spec.template.spec.restartPolicy", policy, ("Always",))


def _count_or_percentage(path: str, value: int | str | None) -> rules.Faults:
    if isinstance(value, int):
        yield from rules.not_negative(path, value)
    elif value is not None and not _PERCENT.fullmatch(value):
        yield invalid(path, value, "a valid percent string must be a numeric string followed by an ending '%'")


def deployment(obj: apps.Deployment) -> rules.Faults:
    spec = obj.spec
    yield from _replicated(spec.selector, spec.template, spec.replicas)
    yield from rules.not_negative("spec.minReadySeconds", spec.min_ready_seconds)
    yield from rules.not_negative("spec.revisionHistoryLimit", spec.revision_history_limit)
    yield from _strategy(spec.strategy)
    deadline = spec.progress_deadline_seconds
    if deadline is not None and deadline <= spec.min_ready_seconds:
        yield invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _strategy(strategy: apps.DeploymentStrategy) -> rules.Faults:
    rolling = strategy.rolling_update
    if strategy.type not in ("RollingUpdate", "Recreate"):
        yield unsupported("spec.strategy.type", strategy.type, ("Recreate", "RollingUpdate"))
    if strategy.type == "Recreate" and rolling is not None:
        yield forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    elif rolling is not None:
        where = "spec.strategy.rollingUpdate"
        yield from _count_or_percentage(f"{where}.maxUnavailable", rolling.max_unavailable)
        yield from _count_or_percentage(f"{where}.maxSurge", rolling.max_surge)
        if rolling.max_unavailable in (0, "0%") and rolling.max_surge in (0, "0%"):
            yield invalid(f"{where}.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0")


def deployment_update(new: apps.Deployment, old: apps.Deployment) -> rules.Faults:
    if new.spec.selector != old.spec.selector:
        yield invalid("spec.selector", new.spec.selector, "field is immutable")


def replica_set(obj: apps.ReplicaSet) -> rules.Faults:
    yield from _replicated(obj.spec.selector, obj.spec.template, obj.spec.replicas)
    yield from rules.not_negative("spec.minReadySeconds", obj.spec.min_ready_seconds)


def replica_set_update(new: apps.ReplicaSet, old: apps.ReplicaSet) -> rules.Faults:
    if new.spec.selector != old.spec.selector:
        yield invalid("spec.selector", new.spec.selector, "field is immutable")
