"""Istio's kinds through the API server: what is said of them on the way in, and what kubectl makes of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pilotfish.api.decode import present_paths
from pilotfish.api.kinds import SCHEME

EXAMPLES = Path(__file__).parents[1] / "api" / "istio"
FIRST = {file.stem: next(yaml.safe_load_all(file.read_text())) for file in sorted(EXAMPLES.glob("*.yaml"))}


def path_of(document: dict[str, Any], name: str = "") -> str:
    kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
    assert kind is not None
    collection = f"/apis/{document['apiVersion']}/namespaces/default/{kind.plural}"
    return f"{collection}/{name}" if name else collection


def warned(answer: httpx.Response) -> list[str]:
    return re.findall(r'299 - "((?:[^"\\]|\\.)*)"', ", ".join(answer.headers.get_list("Warning")))


@pytest.fixture(scope="module")
def kubectl(api: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("no kubectl is installed (Debian: apt install kubernetes-client)")

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [program, "--kubeconfig", str(api.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.parametrize("word", FIRST)
def test_an_object_is_kept_and_told_what_has_no_effect_yet(word: str, api: Any) -> None:
    document = {**FIRST[word], "metadata": {"name": "kept"}}
    kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
    assert kind is not None
    without_effect = present_paths(document, kind.without_effect)
    with api.client() as client:
        made = client.post(path_of(document), json=document)
        assert made.status_code == 201, made.text
        about = f"{kind.kind} kept: "
        expected = {
            f"{about}{path} is accepted and has no effect "
            + (f"in Istio neither: {kind.istio_neither[path]}" if path in kind.istio_neither else "yet")
            for path in without_effect
        }
        assert {one for one in warned(made) if "has no effect" in one} == expected
        kept = client.get(path_of(document, "kept")).json()
    assert kept["spec"] == document["spec"]
    conditions = kept.get("status", {}).get("conditions", [])
    assert [(c["type"], c["status"]) for c in conditions] == [("pilotfish.dev/Honoured", "False")] * bool(expected)
    assert all(path in conditions[0]["message"] for path in without_effect)


def test_istios_warnings_are_told_to_whoever_writes(api: Any) -> None:
    route = {"route": [{"destination": {"host": "a"}}]}
    spec = {"hosts": ["a.com"], "http": [route, route]}
    document = {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "unreachable"},
        "spec": spec,
    }
    with api.client() as client:
        made = client.post(path_of(document), json=document)
        assert any(one.startswith("VirtualService unreachable: spec.http[1]: it is never used") for one in warned(made))
        patch = {"spec": {"http": [route]}}
        headers = {"Content-Type": "application/merge-patch+json"}
        changed = client.patch(path_of(document, "unreachable"), json=patch, headers=headers)
    assert changed.status_code == 200, changed.text
    assert warned(changed) == []


def test_every_fault_is_told_at_once_with_its_field(api: Any) -> None:
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "wrong"},
        "spec": {"servers": [{"port": {"number": 0, "name": "a", "protocol": "HTTPS"}, "hosts": ["a"]}]},
    }
    with api.client() as client:
        answer = client.post(path_of(document), json=document).json()
        misspelt = client.post(path_of(document), json={**document, "spec": {"server": []}}).json()
    assert [cause["field"] for cause in answer["details"]["causes"]] == [
        "spec.servers[0].port.number",
        "spec.servers[0].hosts[0]",
        "spec.servers[0].tls",
    ]
    assert 'spec.server: unknown field, did you mean "servers"?' in misspelt["message"]


def test_a_gateways_name_is_one_label(api: Any) -> None:
    document = {**FIRST["gateway"], "metadata": {"name": "a.b"}}
    with api.client() as client:
        answer = client.post(path_of(document), json=document).json()
    assert [cause["field"] for cause in answer["details"]["causes"]] == ["metadata.name"]


def test_kubectl_applies_gets_describes_and_deletes_each_kind(kubectl: Any) -> None:
    manifests = [{**document, "metadata": {"name": "walked"}} for document in FIRST.values()]
    text = yaml.safe_dump_all(manifests)
    applied = kubectl("apply", "-f", "-", stdin=text)
    assert applied.returncode == 0, applied.stderr
    kinds = [SCHEME.by_kind(manifest["apiVersion"], manifest["kind"]) for manifest in manifests]
    without_any = [kind for kind in kinds if kind is not None and kind.not_honoured == {"spec"}]
    assert applied.stderr.count("spec is accepted and has no effect yet") == len(without_any)
    again = kubectl("apply", "-f", "-", stdin=text)
    assert again.stdout.count("unchanged") == len(manifests), again.stdout
    for manifest in manifests:
        kind = SCHEME.by_kind(manifest["apiVersion"], manifest["kind"])
        assert kind is not None
        for word in (kind.resource, *kind.short_names):
            got = kubectl("get", word, "walked")
            assert got.returncode == 0, got.stderr
            assert got.stdout.split()[0] == "NAME"
        described = kubectl("describe", kind.resource, "walked")
        told = bool(present_paths(manifest, kind.without_effect))
        assert ("pilotfish.dev/Honoured" in described.stdout) is told, described.stderr
    listed = kubectl("get", "istio-io", "-o", "name")
    assert listed.stdout.count("/walked") == len(manifests), listed.stdout + listed.stderr
    deleted = kubectl("delete", "-f", "-", stdin=text)
    assert deleted.stdout.count("deleted") == len(manifests), deleted.stderr


def test_kubectl_prints_the_columns_of_istios_definitions(kubectl: Any) -> None:
    chosen = [{**FIRST[word], "metadata": {"name": "columns"}} for word in ("virtualservice", "destinationrule")]
    chosen.append({**FIRST["workloadentry"], "metadata": {"name": "columns"}})
    assert kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(chosen)).returncode == 0
    heads = {word: kubectl("get", word, "columns").stdout.splitlines()[0].split() for word in ("vs", "dr", "we")}
    assert heads == {
        "vs": ["NAME", "GATEWAYS", "HOSTS", "AGE"],
        "dr": ["NAME", "HOST", "AGE"],
        "we": ["NAME", "AGE", "ADDRESS"],
    }
    assert '["edge/public","mesh"]' in kubectl("get", "vs", "columns").stdout
    assert "localityLbSetting" in kubectl("explain", "destinationrule.spec.trafficPolicy.loadBalancer").stdout
