"""A stock kubectl, in each version that the machine has, against the API server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

# Google Cloud SDK keeps a kubectl of each version beside each other.
VERSIONED = Path("/usr/lib/google-cloud-sdk/bin")
OLDEST_AND_NEWEST = ("kubectl.1.27", "kubectl.1.33")


def installed() -> list[str]:
    versions = [str(VERSIONED / name) for name in OLDEST_AND_NEWEST if (VERSIONED / name).exists()]
    plain = shutil.which("kubectl")
    return versions or ([plain] if plain else [])


@dataclass(frozen=True)
class Kubectl:
    """One kubectl, in a namespace of its own."""

    program: str
    kubeconfig: Path
    namespace: str

    def run(self, *arguments: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [self.program, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments]
        # Older kubectls take what begins with a brace for JSON.
        stdin = f"---\n{stdin}" if stdin else ""
        environment = {**os.environ, "HOME": str(self.kubeconfig.parent)}
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, env=environment, check=False
        )

    def require(self, minor: int, what: str) -> None:
        """Skip the test where this kubectl is older than 1.<minor>."""
        version = msgspec.json.decode(self("version", "--client", "-o", "json"))["clientVersion"]
        if int(version["minor"]) < minor:
            pytest.skip(f"kubectl 1.{version['minor']} does not {what}")

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout


@pytest.fixture(params=installed() or [None], ids=lambda p: Path(p).name if p else "none")
def kubectl(request: pytest.FixtureRequest, api: Any) -> Iterator[Kubectl]:
    if request.param is None:
        pytest.skip("no kubectl is installed (Debian: apt install kubernetes-client)")
    test = re.sub(r"[^a-z0-9]+", "-", f"{request.node.name}".lower()).strip("-")[-60:].strip("-")
    outside = Kubectl(request.param, api.kubeconfig, "default")
    outside("apply", "-f", "-", stdin=f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {test}}}}}")
    yield Kubectl(request.param, api.kubeconfig, test)


WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1.2", ports: [{containerPort: 80}], env: [{name: A, value: b}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [a.example.com]
  location: MESH_EXTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.4}]
"""


def test_apply_creates_changes_and_leaves_alone(kubectl: Kubectl) -> None:
    names = ["deployment.apps/web", "service/web", "serviceentry.networking.istio.io/outside"]
    assert kubectl("apply", "-f", "-", stdin=WEB).splitlines() == [f"{name} created" for name in names]
    assert kubectl("apply", "-f", "-", stdin=WEB).splitlines() == [f"{name} unchanged" for name in names]
    changed = WEB.replace("nginx:1.2", "nginx:1.3").replace("name: A", "name: B").replace("192.0.2.4", "192.0.2.5")
    outcome = kubectl("apply", "-f", "-", stdin=changed).splitlines()
    assert [line.split()[1] for line in outcome] == ["configured", "unchanged", "configured"]
    path = "{.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env}"
    assert kubectl("get", "deploy", "web", "-o", f"jsonpath={path}") == 'nginx:1.3 [{"name":"B","value":"b"}]'
    assert kubectl("get", "se", "outside", "-o", "jsonpath={.spec.endpoints[0].address}") == "192.0.2.5"
    kubectl("delete", "-f", "-", stdin=WEB)
    assert kubectl("get", "deploy,svc,se", "-o", "name") == ""


def test_of_ten_documents_the_bad_one_is_named_and_the_others_are_applied(kubectl: Kubectl) -> None:
    good = [f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c{n}}}, data: {{a: b}}}}" for n in range(9)]
    bad = (
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: wrong}, "
        "spec: {hosts: [a.b], ports: [{number: 80, name: http, protcol: HTTP}]}}"
    )
    done = kubectl.run("apply", "-f", "-", stdin="\n---\n".join([*good[:4], bad, *good[4:]]))
    assert done.returncode == 1
    assert done.stdout.count("created") == 9
    assert 'spec.ports[0].protcol: unknown field, did you mean "protocol"?' in done.stderr
    assert '"wrong"' in done.stderr


def test_unknown_fields_of_kubernetes_kinds_are_refused_or_warned_of(kubectl: Kubectl) -> None:
    kubectl.require(25, "ask the server to validate strictly")
    sent = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}], fooo: 1}}"
    refused = kubectl.run("apply", "-f", "-", stdin=sent)
    assert 'strict decoding error: unknown field "spec.fooo"' in refused.stderr
    warned = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=sent)
    assert 'Warning: unknown field "spec.fooo"' in warned.stderr
    assert warned.stdout == "service/s created\n"


def test_get_prints_tables(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    header, row = kubectl("get", "svc").splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert re.match(r"web +LoadBalancer +10\.96\.\d+\.\d+ +<pending> +80:3\d{4}/TCP +\d+s", row)
    wide = kubectl("get", "deploy", "-o", "wide")
    assert wide.split()[-3:] == ["web", "nginx:1.2", "app=web"]
    assert kubectl("get", "deploy", "-o", "name") == "deployment.apps/web\n"
    assert kubectl("get", "all", "-l", "app=web", "-o", "name") == "deployment.apps/web\n"
    assert kubectl.namespace in kubectl("get", "deploy", "-A")
    assert kubectl("get", "deploy", "--field-selector", "metadata.name=other", "-o", "name") == ""
    assert '"kind": "ServiceEntry"' in kubectl("get", "se", "outside", "-o", "json")


def test_patches_of_three_types(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    strategic = '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"q:1"}]}}}}'
    kubectl("patch", "deploy", "web", "-p", strategic)
    kubectl("patch", "deploy", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":7}]')
    kubectl("patch", "deploy", "web", "--type=merge", "-p", '{"metadata":{"labels":{"app":null,"x":"y"}}}')
    path = "{.spec.replicas} {.spec.template.spec.containers[*].image} {.metadata.labels}"
    assert kubectl("get", "deploy", "web", "-o", f"jsonpath={path}") == '7 q:1 {"x":"y"}'


def test_label_annotate_scale_set_image_replace(kubectl: Kubectl) -> None:
    kubectl.require(23, "wait for a JSON path")
    kubectl("apply", "-f", "-", stdin=WEB)
    assert kubectl("label", "deploy", "web", "tier=front") == "deployment.apps/web labeled\n"
    assert kubectl("annotate", "deploy", "web", "note=x").startswith("deployment.apps/web annotate")
    assert kubectl("scale", "deploy", "web", "--replicas=3") == "deployment.apps/web scaled\n"
    assert kubectl("set", "image", "deploy/web", "web=z:2") == "deployment.apps/web image updated\n"
    document = kubectl("get", "deploy", "web", "-o", "yaml").replace("replicas: 3", "replicas: 5")
    assert kubectl("replace", "-f", "-", stdin=document) == "deployment.apps/web replaced\n"
    kubectl("wait", "--for=jsonpath={.spec.replicas}=5", "deploy/web", "--timeout=5s")


def test_generators_create(kubectl: Kubectl) -> None:
    """From 1.32 on these send protobuf."""
    kubectl("create", "configmap", "c", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "deployment", "d", "--image=i:1", "--replicas=0", "--port=80")
    kubectl("create", "service", "nodeport", "n", "--tcp=80:8080")
    assert kubectl("get", "cm", "c", "-o", "jsonpath={.data.a}") == "b"
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.a} {.type}") == "Yg== Opaque"
    path = "{.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort} {.spec.strategy.type}"
    assert kubectl("get", "deploy", "d", "-o", f"jsonpath={path}") == "0 80 RollingUpdate"
    assert kubectl("get", "svc", "n", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"


def test_describe_explain_and_discovery(kubectl: Kubectl) -> None:
    kubectl.require(27, "explain from OpenAPI v3")
    kubectl("apply", "-f", "-", stdin=WEB)
    assert re.search(r"IP: +10\.96\.", kubectl("describe", "svc", "web"))
    assert re.search(r"Image: +nginx:1.2", kubectl("describe", "deploy", "web"))
    assert re.search(r"Address: +192.0.2.4", kubectl("describe", "se", "outside"))
    assert re.search(r"FIELD: containerPort <integer>", kubectl("explain", "pod.spec.containers.ports.containerPort"))
    assert "hosts" in kubectl("explain", "serviceentry.spec")
    resources = kubectl("api-resources")
    assert re.search(r"deployments +deploy +apps/v1 +true +Deployment", resources)
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert "No events found" in kubectl.run("events").stderr


def test_server_side_apply(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=WEB)
    kubectl("scale", "deploy", "web", "--replicas=4")
    refused = kubectl.run("apply", "--server-side", "-f", "-", stdin=WEB)
    assert refused.returncode == 1
    assert ".spec.replicas" in refused.stderr
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=WEB)
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "2"


def test_a_namespace_that_terminates_takes_nothing_new(kubectl: Kubectl) -> None:
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
    assert "Terminating" in kubectl("get", "namespace", kubectl.namespace)
    refused = kubectl.run("create", "-f", "-", stdin="{apiVersion: v1, kind: ConfigMap, metadata: {name: late}}")
    assert "because it is being terminated" in refused.stderr
