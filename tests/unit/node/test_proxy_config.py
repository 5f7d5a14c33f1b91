"""MeshConfig's defaultConfig on its way: from the injected pod to the bootstrap and command line of its proxy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Container, Pod
from pilotfish.mesh.injection import inject
from pilotfish.mesh.meshconfig import read_mesh_config
from pilotfish.mesh.values import values_of
from pilotfish.node import bootstrap, environment, proxy
from pilotfish.node.bootstrap import ProxyBootstrap

VALUES = values_of({"global": {"hub": "istio", "tag": "1.30.0"}})


@dataclass(frozen=True)
class Started:
    """What a node would start for a pod's proxy."""

    pod: Pod
    container: Container
    env: Mapping[str, str]
    record: ProxyBootstrap

    @property
    def bootstrap(self) -> dict[str, Any]:
        return bootstrap.render(self.record)


def start(default_config: str = "{}", mesh: str = "{}", **metadata: Any) -> Started:
    """A pod of a mesh with this `defaultConfig`, injected and taken up by a node."""
    config = read_mesh_config(yaml.safe_dump({**yaml.safe_load(mesh), "defaultConfig": yaml.safe_load(default_config)}))
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "ns", "labels": {"app": "web"}, **metadata},
        "spec": {"nodeName": "n", "containers": [{"name": "web", "image": "web"}]},
    }
    pod = decode(POD, inject(document, {"istio-injection": "enabled"}, config, VALUES))
    container = proxy.proxy_container(pod)
    assert container is not None
    env = environment.resolve(pod, container, environment.Sources("10.1.0.2", "10.1.0.1", {}, {}))
    arguments = proxy.parse_arguments([environment.expand(text, env) for text in container.args])
    return Started(pod, container, env, proxy.describe(pod, container, env, arguments, "10.1.0.2"))


@pytest.mark.covers("MeshConfig.defaultConfig.serviceCluster", "MeshConfig.defaultConfig.tracingServiceName")
def test_what_the_workload_is_called() -> None:
    labels = {"app": "web", "service.istio.io/canonical-name": "shop"}
    assert start().bootstrap["node"]["cluster"] == "web.ns"
    assert start("{serviceCluster: mine}").bootstrap["node"]["cluster"] == "mine"
    assert start("{tracingServiceName: CANONICAL_NAME_ONLY}", labels=labels).bootstrap["node"]["cluster"] == "shop"
    canonical = start("{tracingServiceName: CANONICAL_NAME_AND_NAMESPACE}", labels=labels)
    assert canonical.bootstrap["node"]["cluster"] == "shop.ns"


@pytest.mark.covers("MeshConfig.defaultConfig.concurrency")
def test_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for config, workers in (("{}", 2), ("{concurrency: 5}", 5), ("{concurrency: 0}", 0)):
        started = start(config)
        assert proxy.concurrency(started.container, started.env) == workers


@pytest.mark.covers("MeshConfig.defaultConfig.holdApplicationUntilProxyStarts")
def test_the_application_waits() -> None:
    assert [c.name for c in start().pod.spec.containers] == ["web", "istio-proxy"]
    held = start("{holdApplicationUntilProxyStarts: true}")
    assert [c.name for c in held.pod.spec.containers] == ["istio-proxy", "web"]
    assert held.container.lifecycle is not None and held.container.lifecycle.post_start is not None


@pytest.mark.covers("MeshConfig.defaultConfig.proxyMetadata")
def test_metadata_is_environment_and_what_the_control_plane_is_told() -> None:
    started = start('{proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true", LEVEL: high}}')
    assert (started.env["ISTIO_META_DNS_CAPTURE"], started.env["LEVEL"]) == ("true", "high")
    assert started.bootstrap["node"]["metadata"]["DNS_CAPTURE"] == "true"


@pytest.mark.covers(
    "MeshConfig.defaultConfig.gatewayTopology.numTrustedProxies",
    "MeshConfig.defaultConfig.gatewayTopology.forwardClientCertDetails",
    "MeshConfig.defaultConfig.gatewayTopology.proxyProtocol",
)
def test_a_gateway_tells_the_control_plane_what_stands_in_front_of_it() -> None:
    """What that does to its listeners: tests/feature/test_gateway_http.py."""
    topology = "{numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD, proxyProtocol: {}}"
    config = start(f"{{gatewayTopology: {topology}}}", annotations={"inject.istio.io/templates": "gateway"})
    told = config.bootstrap["node"]["metadata"]["PROXY_CONFIG"]["gatewayTopology"]
    assert told == yaml.safe_load(topology)


@pytest.mark.covers(
    "MeshConfig.defaultConfig.proxyStatsMatcher.inclusionPrefixes",
    "MeshConfig.defaultConfig.proxyStatsMatcher.inclusionSuffixes",
    "MeshConfig.defaultConfig.proxyStatsMatcher.inclusionRegexps",
)
def test_statistics_that_are_kept() -> None:
    def patterns(started: Started) -> list[Any]:
        found: list[Any] = started.bootstrap["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
        return found

    matcher = "{inclusionPrefixes: [cluster.outbound], inclusionSuffixes: [rq_total], inclusionRegexps: [a.b]}"
    usual = patterns(start())
    more = [each for each in patterns(start(f"{{proxyStatsMatcher: {matcher}}}")) if each not in usual]
    assert more == [{"prefix": "cluster.outbound"}, {"suffix": "rq_total"}, {"safe_regex": {"regex": "a.b"}}]


@pytest.mark.covers("MeshConfig.defaultConfig.image.imageType")
def test_the_kind_of_image() -> None:
    assert start("{image: {imageType: distroless}}").container.image == "istio/proxyv2:1.30.0-distroless"
