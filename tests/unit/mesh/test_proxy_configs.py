"""ProxyConfigs: which of them shape a pod's proxy, and how they merge."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pilotfish.api import proxyconfig
from pilotfish.api.decode import decode
from pilotfish.api.errors import Invalid
from pilotfish.api.kinds import PROXY_CONFIG
from pilotfish.api.networking import ProxyConfig
from pilotfish.mesh.injection import inject
from pilotfish.mesh.meshconfig import read_mesh_config
from pilotfish.mesh.proxy_configs import effective
from pilotfish.mesh.values import values_of

MESH = read_mesh_config("defaultConfig: {concurrency: 1, proxyMetadata: {A: mesh, B: mesh, C: mesh, D: mesh, E: mesh}}")


def config(name: str, spec: str, namespace: str = "default", created: str = "2024-01-01T00:00:00Z") -> ProxyConfig:
    document: dict[str, Any] = {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "ProxyConfig",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": yaml.safe_load(spec),
    }
    return decode(PROXY_CONFIG, document)


def found(*configs: ProxyConfig, annotation: str = "{}", **labels: str) -> proxyconfig.ProxyConfig:
    return effective(MESH, configs, "default", labels, yaml.safe_load(annotation), "here")


@pytest.mark.covers("ProxyConfig.spec.environmentVariables")
def test_the_more_special_wins_variable_by_variable() -> None:
    everywhere = config(
        "a", "{concurrency: 2, environmentVariables: {B: root, C: root, D: root, E: root}}", "istio-system"
    )
    here = config("b", "{concurrency: 3, environmentVariables: {C: here, D: here, E: here}}")
    web = config("c", "{selector: {matchLabels: {app: web}}, environmentVariables: {E: web}}")
    annotation = "{concurrency: 4, proxyMetadata: {D: pod, E: pod}}"
    merged = found(web, here, everywhere, annotation=annotation, app="web")
    assert merged.proxy_metadata == {"A": "mesh", "B": "root", "C": "here", "D": "pod", "E": "web"}
    assert merged.concurrency == 4
    assert found(web, here, everywhere).concurrency == 3
    assert found().concurrency == 1


@pytest.mark.covers("ProxyConfig.spec.selector.matchLabels")
def test_one_that_selects_wins_over_the_annotation() -> None:
    web = config("c", "{selector: {matchLabels: {app: web}}, concurrency: 0, image: {imageType: distroless}}")
    merged = found(web, annotation="{concurrency: 4}", app="web")
    assert merged.concurrency == 0
    assert merged.image is not None and merged.image.image_type == "distroless"
    assert found(web, app="other").concurrency == 1


def test_of_several_of_a_kind_the_oldest_alone_counts() -> None:
    young = config("a", "{concurrency: 2}", created="2024-02-01T00:00:00Z")
    old = config("b", "{selector: {}, concurrency: 3}")
    assert found(young, old).concurrency == 3


def test_others_namespaces_do_not_matter() -> None:
    elsewhere = config("a", "{concurrency: 2}", "other")
    selecting = config("b", "{selector: {matchLabels: {app: web}}, concurrency: 2}", "istio-system")
    assert found(elsewhere, selecting, app="web").concurrency == 1


def test_an_annotation_that_cannot_be_read() -> None:
    with pytest.raises(Invalid, match=r"here\.concurency"):
        found(annotation="{concurency: 4}")


@pytest.mark.covers("ProxyConfig.spec.concurrency", "ProxyConfig.spec.image.imageType")
def test_what_the_container_gets() -> None:
    pod = {
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    }
    spec = "{selector: {matchLabels: {app: web}}, concurrency: 5, environmentVariables: {LEVEL: high}}"
    typed = config("b", "{image: {imageType: distroless}}")
    values = values_of({"global": {"hub": "istio", "tag": "1.20.0"}})
    injected = inject(pod, {"istio-injection": "enabled"}, MESH, values, [config("a", spec), typed])
    proxy = next(c for c in injected["spec"]["containers"] if c["name"] == "istio-proxy")
    env = {variable["name"]: variable.get("value") for variable in proxy["env"]}
    assert env["LEVEL"] == "high"
    assert '"concurrency":5' in env["PROXY_CONFIG"]
    assert proxy["image"] == "istio/proxyv2:1.20.0-distroless"
