"""What is refused, and in which words; what was accepted stays."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = pytest.mark.root

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, {protocol}: HTTP}}]
  endpoints: [{{address: 192.0.2.1}}]
"""


def entry(name: str, protocol: str = "protocol") -> str:
    return ENTRY.format(name=name, protocol=protocol)


def test_an_unknown_field_is_refused_with_its_path_and_the_nearest_name(mesh: Any) -> None:
    said = mesh.apply(entry("typo", "protcol"), check=False)
    assert 'spec.ports[0].protcol: unknown field, did you mean "protocol"?' in said
    assert "typo" not in mesh.kubectl("get", "serviceentries")


def test_a_wrong_type_is_refused_with_its_path(mesh: Any) -> None:
    said = mesh.apply(entry("wrong").replace("number: 80", 'number: "eighty"'), check=False)
    assert "spec.ports[0].number" in said
    assert "expected a whole number" in said


def test_broken_yaml_is_refused_with_its_place(mesh: Any) -> None:
    said = mesh.apply("apiVersion: v1\nkind: [ConfigMap\n", check=False)
    assert re.search(r"error .*line \d+", said)


def test_an_unknown_field_of_a_kubernetes_kind_is_refused_by_strict_validation(mesh: Any) -> None:
    mesh.require_kubectl(25, "ask the server to validate strictly")
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: odd}\nspec: {prots: [{port: 80}], selector: {a: b}}\n"
    said = mesh.apply(manifest, check=False)
    assert 'unknown field "spec.prots"' in said


def test_ten_documents_of_which_one_is_bad(mesh: Any) -> None:
    names = [f"batch-{number}" for number in range(10)]
    manifest = "---".join(entry(name, "protcol" if name == "batch-4" else "protocol") for name in names)
    done = mesh.run("kubectl", "apply", "-f", "-", stdin=manifest, check=False)
    assert done.returncode != 0
    for name in names:
        assert (f"serviceentry.networking.istio.io/{name} created" in done.stdout) == (name != "batch-4")
    assert "batch-4" in done.stdout
    assert "spec.ports[0].protcol" in done.stdout
    mesh.kubectl("delete", "serviceentry", *(name for name in names if name != "batch-4"))


POD = """
apiVersion: v1
kind: Pod
metadata: {name: stranger, labels: {app: stranger}}
spec:
  containers:
    - {name: main, image: registry.example/team/stranger:1.2}
"""


def test_an_unknown_image_is_an_image_error_with_the_command_that_adds_it(mesh: Any, tools: Any) -> None:
    try:
        mesh.apply(POD)
        tools.eventually(
            lambda: re.search(r"ErrImagePull|ImagePullBackOff", mesh.kubectl("get", "pods", "stranger")),
            "the pod shows an image error",
        )
        tools.eventually(
            lambda: (
                "pilotfish image add registry.example/team/stranger:1.2" in mesh.kubectl("describe", "pod", "stranger")
            ),
            "an event names the command",
        )
        mesh.pilotfish("image", "add", "registry.example/team/stranger:1.2", "--", "sleep", "1000")
        tools.eventually(
            lambda: "2/2" in mesh.kubectl("get", "pods", "stranger"), "the pod runs once the image is there"
        )
    finally:
        mesh.kubectl("delete", "pod", "stranger", "--grace-period=0", "--force", "--ignore-not-found")
        mesh.pilotfish("image", "rm", "registry.example/team/stranger:1.2", check=False)


def test_an_installation_with_an_unknown_profile_or_field_is_refused(mesh: Any, tmp_path: Any) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text(
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: defualt}\n",
    )
    said = mesh.pilotfish("install", "-y", "-f", str(file), check=False)
    assert "spec.profile" in said
    assert "default" in said
    file.write_text(
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n"
        "spec: {profile: default, meshConfig: {acessLogFile: /dev/stdout}}\n",
    )
    assert "spec.meshConfig.acessLogFile" in mesh.pilotfish("install", "-y", "-f", str(file), check=False)
    assert "/dev/stdout" in mesh.kubectl("describe", "istiooperator", "installed-state", "-n", "istio-system")
