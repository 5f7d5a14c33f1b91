from __future__ import annotations

import copy
from typing import Any

import pytest

from pilotfish.api.kinds import SCHEME


def defaulted(resource: str, document: dict[str, Any]) -> dict[str, Any]:
    kind = SCHEME.by_resource(resource)
    assert kind is not None
    kind.default(document)
    once = copy.deepcopy(document)
    kind.default(document)
    assert document == once, "defaults that run again change nothing"
    return document


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("host:5000/web", "Always"),
        ("host:5000/web:1.2", "IfNotPresent"),
        ("web@sha256:abc", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    pod = defaulted("pods", {"spec": {"containers": [{"name": "c", "image": image}]}})
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_a_pod_is_complete() -> None:
    probe = {"httpGet": {"port": 80}}
    container = {
        "name": "c",
        "image": "i:1",
        "ports": [{"containerPort": 80}],
        "readinessProbe": probe,
        "livenessProbe": {"grpc": {"port": 80}},
    }
    pod = defaulted("pods", {"spec": {"containers": [container], "volumes": [{"name": "v"}]}})
    assert pod["spec"]["restartPolicy"] == "Always"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30
    assert pod["spec"]["serviceAccountName"] == "default"
    assert pod["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    (c,) = pod["spec"]["containers"]
    assert c["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert c["readinessProbe"]["httpGet"] == {"port": 80, "path": "/", "scheme": "HTTP"}
    assert c["livenessProbe"]["grpc"] == {"port": 80, "service": ""}
    assert (c["readinessProbe"]["periodSeconds"], c["readinessProbe"]["failureThreshold"]) == (10, 3)


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], qos: str) -> None:
    pod = defaulted("pods", {"spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
    assert pod["status"]["qosClass"] == qos


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}),
        ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster"}),
        ({"type": "LoadBalancer"}, {"allocateLoadBalancerNodePorts": True}),
        ({"sessionAffinity": "ClientIP"}, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}),
    ],
)
def test_services(spec: dict[str, Any], fields: dict[str, Any]) -> None:
    service = defaulted("services", {"spec": spec})
    assert fields.items() <= service["spec"].items()


def test_an_external_name_has_no_internal_traffic_policy() -> None:
    assert "internalTrafficPolicy" not in defaulted("services", {"spec": {"type": "ExternalName"}})["spec"]


def test_a_deployment_rolls_out_by_quarters() -> None:
    spec = defaulted("deployments.apps", {"spec": {"template": {"spec": {"containers": []}}}})["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    recreated = defaulted("deployments.apps", {"spec": {"strategy": {"type": "Recreate"}}})
    assert recreated["spec"]["strategy"] == {"type": "Recreate"}


def test_secret_texts_become_data() -> None:
    secret = defaulted("secrets", {"stringData": {"a": "b"}, "data": {"c": "ZA=="}})
    assert secret == {"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}


def test_a_namespace_is_labelled_with_its_name() -> None:
    namespace = defaulted("namespaces", {"metadata": {"name": "n"}})
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert namespace["status"] == {"phase": "Active"}
