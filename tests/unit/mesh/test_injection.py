import copy
import json

import pytest

from pilotfish.api.errors import Invalid
from pilotfish.mesh.injection import inject, wanted
from pilotfish.mesh.meshconfig import mesh_config
from pilotfish.mesh.values import Values, values_of
from pilotfish.mesh.workload import Workload, workload_of

MESH = mesh_config(
    {
        "defaultConfig": {
            "holdApplicationUntilProxyStarts": True,
            "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"},
        }
    }
)
VALUES = values_of({"global": {"hub": "istio", "tag": "1.10.4", "logging": {"level": "default:debug"}}})
ENABLED = {"istio-injection": "enabled"}


def a_pod(labels=None, annotations=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "meshb-5f6d7c8b9d-",
            "namespace": "default",
            "labels": {"app": "meshb", "pod-template-hash": "5f6d7c8b9d", **(labels or {})},
            "annotations": annotations or {},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "meshb-5f6d7c8b9d",
                    "uid": "u",
                    "controller": True,
                }
            ],
        },
        "spec": {"containers": [{"name": "meshb", "image": "x/meshb:1", "ports": [{"containerPort": 50000}]}], **spec},
    }


def sidecar_of(pod):
    return next(c for c in pod["spec"]["containers"] if c["name"] == "istio-proxy")


def environment_of(pod):
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in sidecar_of(pod)["env"]}


@pytest.mark.parametrize(
    ("namespace", "labels", "annotations", "expected"),
    [
        ({}, {}, {}, False),
        (ENABLED, {}, {}, True),
        ({"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, {}, False),
        ({}, {"sidecar.istio.io/inject": "true"}, {}, True),
        ({}, {}, {"sidecar.istio.io/inject": "true"}, False),
        (ENABLED, {"sidecar.istio.io/inject": "false"}, {}, False),
        (ENABLED, {}, {"sidecar.istio.io/inject": "false"}, False),
        (ENABLED, {"sidecar.istio.io/inject": "true"}, {"sidecar.istio.io/inject": "false"}, True),
        (ENABLED, {"sidecar.istio.io/inject": "maybe"}, {}, True),
        ({"istio.io/rev": "default"}, {}, {}, True),
        ({"istio.io/rev": "canary"}, {}, {}, False),
        ({}, {"istio.io/rev": "default"}, {}, True),
        ({}, {"istio.io/rev": "canary", "sidecar.istio.io/inject": "true"}, {}, False),
    ],
)
def test_who_gets_a_sidecar(namespace, labels, annotations, expected):
    assert wanted(a_pod(labels, annotations), namespace, VALUES) is expected


def test_a_revision_serves_only_its_own_label():
    canary = Values(revision="canary")
    assert not wanted(a_pod(), ENABLED, canary)
    assert wanted(a_pod(), {"istio.io/rev": "canary"}, canary)


def test_pods_on_the_hosts_network_and_of_the_system_are_left_alone():
    host = a_pod(hostNetwork=True)
    assert inject(host, ENABLED, MESH, VALUES) is host
    system = a_pod({"sidecar.istio.io/inject": "true"})
    system["metadata"]["namespace"] = "kube-system"
    assert inject(system, {}, MESH, VALUES) is system


def test_selectors_and_policy_of_the_installation():
    webhook = {
        "neverInjectSelector": [{"matchLabels": {"app": "meshb"}}],
        "alwaysInjectSelector": [{"matchExpressions": [{"key": "always", "operator": "Exists"}]}],
    }
    values = values_of({"sidecarInjectorWebhook": webhook, "global": {"proxy": {"autoInject": "disabled"}}})
    assert not wanted(a_pod({"always": ""}), ENABLED, values)
    assert wanted(a_pod({"app": "other", "always": ""}), ENABLED, values)
    assert not wanted(a_pod({"app": "other"}), ENABLED, values)
    by_default = values_of({"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}})
    assert wanted(a_pod(), {}, by_default)


def test_the_container_is_istiods():
    before = a_pod()
    kept = copy.deepcopy(before)
    pod = inject(before, ENABLED, MESH, VALUES)
    assert before == kept
    proxy = sidecar_of(pod)
    assert [c["name"] for c in pod["spec"]["containers"]] == ["istio-proxy", "meshb"]
    assert proxy["image"] == "istio/proxyv2:1.10.4"
    assert proxy["args"] == [
        "proxy",
        "sidecar",
        "--domain",
        "$(POD_NAMESPACE).svc.cluster.local",
        "--proxyLogLevel=warning",
        "--proxyComponentLogLevel=misc:error",
        "--log_output_level=default:debug",
    ]
    assert proxy["lifecycle"] == {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}
    assert proxy["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}
    assert proxy["securityContext"]["runAsUser"] == 1337
    assert proxy["resources"]["requests"] == {"cpu": "100m", "memory": "128Mi"}
    environment = environment_of(pod)
    assert environment["ISTIO_META_DNS_CAPTURE"] == "true"
    assert environment["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert environment["ISTIO_META_OWNER"] == "kubernetes://apis/apps/v1/namespaces/default/deployments/meshb"
    assert environment["ISTIO_META_WORKLOAD_NAME"] == "meshb"
    assert environment["ISTIO_META_APP_CONTAINERS"] == "meshb"
    assert json.loads(environment["ISTIO_META_POD_PORTS"]) == [{"containerPort": 50000}]
    assert json.loads(environment["PROXY_CONFIG"]) == {
        "holdApplicationUntilProxyStarts": True,
        "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"},
    }


def test_labels_and_annotations_tell_what_was_done():
    metadata = inject(a_pod({"version": "v2"}), ENABLED, MESH, VALUES)["metadata"]
    assert metadata["labels"]["security.istio.io/tlsMode"] == "istio"
    assert metadata["labels"]["service.istio.io/canonical-name"] == "meshb"
    assert metadata["labels"]["service.istio.io/canonical-revision"] == "v2"
    assert metadata["annotations"]["kubectl.kubernetes.io/default-container"] == "meshb"
    assert json.loads(metadata["annotations"]["sidecar.istio.io/status"])["containers"] == ["istio-proxy"]


def test_without_hold_the_sidecar_comes_last():
    pod = inject(a_pod(), ENABLED, mesh_config({}), VALUES)
    assert [c["name"] for c in pod["spec"]["containers"]] == ["meshb", "istio-proxy"]
    assert "lifecycle" not in sidecar_of(pod)


def test_a_pods_annotations_override():
    annotations = {
        "proxy.istio.io/config": "holdApplicationUntilProxyStarts: true\nproxyMetadata:\n  A: b\n",
        "sidecar.istio.io/logLevel": "debug",
        "sidecar.istio.io/proxyImage": "mine/proxyv2:9",
        "sidecar.istio.io/proxyCPU": "50m",
        "readiness.status.sidecar.istio.io/periodSeconds": "2",
    }
    pod = inject(a_pod(annotations=annotations), ENABLED, mesh_config({}), VALUES)
    proxy = sidecar_of(pod)
    assert pod["spec"]["containers"][0] is proxy
    assert proxy["image"] == "mine/proxyv2:9"
    assert "--proxyLogLevel=debug" in proxy["args"]
    assert proxy["resources"] == {"requests": {"cpu": "50m"}}
    assert proxy["readinessProbe"]["periodSeconds"] == 2
    assert environment_of(pod)["A"] == "b"


@pytest.mark.parametrize(
    "annotations",
    [
        {"proxy.istio.io/config": "concurency: 1"},
        {"proxy.istio.io/config": "a: ["},
        {"proxy.istio.io/config": "- a"},
        {"readiness.status.sidecar.istio.io/periodSeconds": "often"},
    ],
)
def test_an_annotation_that_cannot_be_read_is_named(annotations):
    with pytest.raises(Invalid) as refused:
        inject(a_pod(annotations=annotations), ENABLED, MESH, VALUES)
    (name,) = annotations
    assert f"metadata.annotations[{name}]" in refused.value.message


def test_a_container_of_the_same_name_is_laid_over_the_template():
    pod = a_pod()
    pod["spec"]["containers"].append(
        {
            "name": "istio-proxy",
            "image": "auto",
            "env": [{"name": "CA_ADDR", "value": "ca:1"}, {"name": "EXTRA", "value": "1"}],
            "resources": {"limits": {"cpu": "1"}},
        }
    )
    injected = inject(pod, ENABLED, MESH, VALUES)
    assert [c["name"] for c in injected["spec"]["containers"]] == ["istio-proxy", "meshb"]
    proxy = sidecar_of(injected)
    assert proxy["image"] == "istio/proxyv2:1.10.4"
    assert environment_of(injected)["CA_ADDR"] == "ca:1"
    assert environment_of(injected)["EXTRA"] == "1"
    assert proxy["resources"]["limits"] == {"cpu": "1", "memory": "1024Mi"}
    assert inject(injected, ENABLED, MESH, VALUES) == injected


def test_injecting_twice_changes_nothing():
    once = inject(a_pod(), ENABLED, MESH, VALUES)
    assert inject(once, ENABLED, MESH, VALUES) == once


def test_whose_pod_it_is():
    assert workload_of(a_pod()["metadata"]) == Workload("apps/v1", "Deployment", "default", "meshb")
    assert workload_of({"generateName": "job-", "namespace": "n"}).name == "job"
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": True}
    url = workload_of({"name": "db-0", "ownerReferences": [owner]}).url
    assert url == "kubernetes://apis/apps/v1/namespaces/default/statefulsets/db"


GATEWAY = {"inject.istio.io/templates": "gateway"}


def test_a_pod_becomes_a_gateway_by_its_template():
    own = {
        "name": "istio-proxy",
        "image": "auto",
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "A", "value": "b"}],
    }
    pod = a_pod({"sidecar.istio.io/inject": "true", "istio": "edge"}, GATEWAY)
    pod["spec"]["containers"] = [own]
    made = inject(pod, {}, MESH, VALUES)
    (container,) = made["spec"]["containers"]
    assert container["image"] == "istio/proxyv2:1.10.4"
    assert container["args"][:2] == ["proxy", "router"]
    assert [port["containerPort"] for port in container["ports"]] == [15090, 8080]
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}
    assert container["securityContext"]["runAsUser"] == 1337
    assert "lifecycle" not in container, "nothing waits for a gateway"
    environment = environment_of(made)
    assert environment["A"] == "b"
    assert "8080" in environment["ISTIO_META_POD_PORTS"]
    assert environment["ISTIO_META_APP_CONTAINERS"] == ""
    assert "security.istio.io/tlsMode" not in made["metadata"]["labels"]
    assert inject(copy.deepcopy(made), {}, MESH, VALUES) == made, "injecting again changes nothing"


def test_a_template_that_is_not_there_is_refused():
    with pytest.raises(Invalid) as refused:
        inject(a_pod({}, {"inject.istio.io/templates": "waypoint"}), ENABLED, MESH, VALUES)
    (cause,) = refused.value.details["causes"]
    assert cause["field"] == "metadata.annotations[inject.istio.io/templates]"
    assert "gateway, sidecar" in cause["message"]


def test_what_the_application_shows_of_itself_is_for_the_proxy_to_ask():
    written = a_pod(annotations={"prometheus.io/port": "8080"})
    pod = inject(written, ENABLED, MESH, VALUES)
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "15020"
    assert json.loads(environment_of(pod)["ISTIO_PROMETHEUS_ANNOTATIONS"]) == {"port": "8080"}
    again = inject(pod, ENABLED, MESH, VALUES)
    assert environment_of(again)["ISTIO_PROMETHEUS_ANNOTATIONS"] == '{"port":"8080"}'
    with pytest.raises(Invalid, match="15090"):
        inject(a_pod(annotations={"prometheus.io/port": "15090"}), ENABLED, MESH, VALUES)


@pytest.mark.covers("MeshConfig.extensionProviders[].opentelemetry.serviceAttributeEnrichment")
def test_spans_say_whose_they_are_by_opentelemetrys_conventions():
    def attributes(pod, **provider):
        otel = {"service": "otel.test", "port": 4317, **provider}
        mesh = mesh_config({"extensionProviders": [{"name": "otel", "opentelemetry": otel}]})
        return environment_of(inject(pod, ENABLED, mesh, VALUES)).get("OTEL_RESOURCE_ATTRIBUTES")

    conventions = {"serviceAttributeEnrichment": "OTEL_SEMANTIC_CONVENTIONS"}
    assert attributes(a_pod()) is None
    assert attributes(a_pod(), **conventions) == (
        "service.name=meshb,service.namespace=default,service.version=1,service.instance.id=default.$(POD_NAME).meshb"
    )
    labels = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/version": "v7"}
    annotations = {"resource.opentelemetry.io/service.instance.id": "i-1"}
    assert attributes(a_pod(labels, annotations), **conventions) == (
        "service.name=shop,service.namespace=default,service.version=v7,service.instance.id=i-1"
    )
    images = {"r:5000/x@sha256:a": "sha256:a", "x:1@sha256:a": "1@sha256:a", "r:5000/x": None}
    for image, version in images.items():
        found = attributes(a_pod(containers=[{"name": "meshb", "image": image}]), **conventions)
        assert f",service.version={version}," in found if version else "service.version" not in found
