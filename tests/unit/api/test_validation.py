from __future__ import annotations

import copy
from typing import Any

import pytest

from pilotfish.api.decode import decode
from pilotfish.api.kinds import SCHEME
from pilotfish.api.scheme import AnyKind

POD: dict[str, Any] = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
SERVICE: dict[str, Any] = {"spec": {"ports": [{"port": 80}]}}
DEPLOYMENT: dict[str, Any] = {
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, **POD},
    }
}
SLICE: dict[str, Any] = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}


def kind_of(resource: str) -> AnyKind:
    kind = SCHEME.by_resource(resource)
    assert kind is not None
    return kind


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at a dotted path; None removes it."""
    result = copy.deepcopy(document)
    node: Any = result
    *steps, last = [int(s) if s.isdigit() else s for s in path.split(".")]
    for step in steps:
        node = node[step] if isinstance(step, int) else node.setdefault(step, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return result


def faults(resource: str, document: dict[str, Any]) -> list[str]:
    kind = kind_of(resource)
    document = copy.deepcopy(document)
    kind.default(document)
    return [str(error) for error in kind.validate(decode(kind, document))]


def update_faults(resource: str, new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    kind = kind_of(resource)
    pair = [copy.deepcopy(new), copy.deepcopy(old)]
    for document in pair:
        kind.default(document)
    return [str(error) for error in kind.validate_update(*(decode(kind, document) for document in pair))]


@pytest.mark.parametrize(
    ("resource", "document"),
    [
        ("pods", POD),
        ("services", SERVICE),
        ("services", {"spec": {"clusterIP": "None"}}),
        ("services", {"spec": {"type": "ExternalName", "externalName": "a.b."}}),
        ("deployments.apps", DEPLOYMENT),
        ("replicasets.apps", DEPLOYMENT),
        ("endpointslices.discovery.k8s.io", SLICE),
        ("configmaps", {"data": {"a.b": "c"}}),
        ("secrets", {"data": {"a": "Yg=="}}),
    ],
)
def test_what_is_right_is_accepted(resource: str, document: dict[str, Any]) -> None:
    assert faults(resource, document) == []
    assert update_faults(resource, document, document) == []


C = "spec.containers.0"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("spec.containers", [], "spec.containers: Required value"),
        (f"{C}.image", None, "spec.containers[0].image: Required value"),
        (f"{C}.name", "A_b", 'spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label'),
        (f"{C}.ports", [{"containerPort": 0}], "spec.containers[0].ports[0].containerPort: Invalid value: 0: must be"),
        (f"{C}.ports", [{"containerPort": 1, "protocol": "X"}], "protocol: Unsupported value"),
        (f"{C}.readinessProbe", {}, "spec.containers[0].readinessProbe: Required value: must specify a handler type"),
        (f"{C}.volumeMounts", [{"name": "v", "mountPath": "/x"}], 'volumeMounts[0].name: Not found: "v"'),
        (
            f"{C}.env",
            [{"name": "a", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
            "may not be specified",
        ),
        (f"{C}.lifecycle", {"preStop": {}}, "lifecycle.preStop: Required value"),
        ("spec.restartPolicy", "Maybe", "spec.restartPolicy: Unsupported value"),
        ("spec.dnsPolicy", "None", "spec.dnsConfig.nameservers: Required value"),
        ("spec.initContainers", [{"name": "c", "image": "i"}], "spec.containers[0].name: Duplicate value"),
        ("spec.hostAliases", [{"ip": "x"}], "spec.hostAliases[0].ip: Invalid value"),
    ],
)
def test_pods(path: str, value: Any, fault: str) -> None:
    assert any(fault in found for found in faults("pods", changed(POD, path, value)))


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("spec.ports", [], "spec.ports: Required value"),
        ("spec.type", "Tunnel", "spec.type: Unsupported value"),
        ("spec.ports.0.port", 70000, "spec.ports[0].port: Invalid value: 70000"),
        ("spec.ports", [{"port": 1}, {"port": 2}], "spec.ports[0].name: Required value"),
        ("spec.ports.0.nodePort", 30000, "spec.ports[0].nodePort: Forbidden"),
        ("spec.ports", [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}], "spec.ports[1]: Duplicate value"),
        ("spec.clusterIPs", ["10.0.0.1"], "first value must match `clusterIP`"),
        ("spec", {"type": "ExternalName"}, "spec.externalName: Required value"),
        ("spec", {"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}]}, "may not be set to 'None'"),
    ],
)
def test_services(path: str, value: Any, fault: str) -> None:
    assert any(fault in found for found in faults("services", changed(SERVICE, path, value)))


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("spec.selector", None, "spec.selector: Required value"),
        ("spec.replicas", -1, "spec.replicas: Invalid value: -1"),
        ("spec.template.metadata.labels", {"a": "b"}, "`selector` does not match template `labels`"),
        ("spec.template.spec.restartPolicy", "Never", 'supported values: "Always"'),
        ("spec.template.spec.containers", [], "spec.template.spec.containers: Required value"),
        ("spec.strategy", {"type": "Sudden"}, "spec.strategy.type: Unsupported value"),
        ("spec.strategy", {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, "may not be 0 when `maxSurge` is 0"),
        ("spec.strategy", {"rollingUpdate": {"maxSurge": "many"}}, "a valid percent string"),
        ("spec.strategy", {"type": "Recreate", "rollingUpdate": {}}, "may not be specified"),
        ("spec.progressDeadlineSeconds", 0, "must be greater than minReadySeconds"),
    ],
)
def test_deployments(path: str, value: Any, fault: str) -> None:
    assert any(fault in found for found in faults("deployments.apps", changed(DEPLOYMENT, path, value)))


@pytest.mark.parametrize(
    ("resource", "document", "fault"),
    [
        ("configmaps", {"data": {"a/b": "c"}}, "a valid config key"),
        ("configmaps", {"binaryData": {"a": "?"}}, "must be base64 encoded"),
        ("secrets", {"data": {"a": "?"}}, "must be base64 encoded"),
        ("endpointslices.discovery.k8s.io", {**SLICE, "addressType": "IPX"}, "addressType: Unsupported value"),
        ("endpointslices.discovery.k8s.io", {"endpoints": [{"addresses": ["x"]}]}, "endpoints[0].addresses[0]"),
        (
            "endpoints",
            {"subsets": [{"addresses": [{"ip": "x"}], "ports": [{"port": 1}]}]},
            "subsets[0].addresses[0].ip",
        ),
    ],
)
def test_others(resource: str, document: dict[str, Any], fault: str) -> None:
    assert any(fault in found for found in faults(resource, document))


@pytest.mark.parametrize(
    ("resource", "old", "path", "value", "fault"),
    [
        ("pods", POD, f"{C}.env", [{"name": "a", "value": "b"}], "pod updates may not change fields other than"),
        ("deployments.apps", DEPLOYMENT, "spec.selector", {"matchLabels": {"a": "b"}}, "field is immutable"),
        ("services", changed(SERVICE, "spec.clusterIP", "10.0.0.1"), "spec.clusterIP", "10.0.0.2", "may not change"),
        ("secrets", {"type": "a"}, "type", "b", "field is immutable"),
        ("configmaps", {"immutable": True, "data": {"a": "b"}}, "data", {}, "data: Forbidden: field is immutable"),
    ],
)
def test_updates(resource: str, old: dict[str, Any], path: str, value: Any, fault: str) -> None:
    assert any(fault in found for found in update_faults(resource, changed(old, path, value), old))


def test_a_pod_may_get_a_node_once_and_a_new_image() -> None:
    assert update_faults("pods", changed(POD, "spec.nodeName", "n"), POD) == []
    assert update_faults("pods", changed(POD, f"{C}.image", "j"), POD) == []
    placed = changed(POD, "spec.nodeName", "n")
    assert update_faults("pods", changed(POD, "spec.nodeName", "m"), placed) != []
