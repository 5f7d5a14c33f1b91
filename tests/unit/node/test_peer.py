"""What a proxy's environment says of its workload."""

from __future__ import annotations

import base64

from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict

from pilotfish.node import peer, proxy

METADATA = {
    "NAME": "web-1",
    "NAMESPACE": "shop",
    "WORKLOAD_NAME": "web",
    "CLUSTER_ID": "Kubernetes",
    "MESH_ID": "cluster.local",
    "LABELS": {"app": "front", "version": "v2", "service.istio.io/canonical-name": "web-ui"},
}


def test_the_workload_in_variables_and_for_peers() -> None:
    found = peer.environment(METADATA, "front.shop", {})
    assert found["PILOTFISH_WORKLOAD"] == "web"
    assert found["PILOTFISH_MESH"] == "cluster.local"
    told = MessageToDict(struct_pb2.Value.FromString(base64.b64decode(found["PILOTFISH_PEER"])))
    assert told == {
        "workload": "web",
        "namespace": "shop",
        "app": "front",
        "version": "v2",
        "service": "web-ui",
        "revision": "v2",
        "cluster": "Kubernetes",
    }


def test_what_nobody_said_is_unknown() -> None:
    found = peer.environment({"NAME": "web-1", "NAMESPACE": "shop"}, "web-1.shop", {})
    names = ("APP", "VERSION", "CLUSTER", "MESH", "UNKNOWN")
    assert {found[f"PILOTFISH_{name}"] for name in names} == {"unknown"}
    assert (found["PILOTFISH_WORKLOAD"], found["PILOTFISH_CANONICAL_REVISION"]) == ("web-1", "latest")


def test_the_users_own_attributes_of_spans_win() -> None:
    given = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine,team=a", "DD_SERVICE": "mine"}
    found = peer.environment(METADATA, "front.shop", given)
    assert found["OTEL_RESOURCE_ATTRIBUTES"] == "service.name=front.shop,service.name=mine,team=a"
    assert found["DD_SERVICE"] == "mine"


def test_how_a_workload_is_called_in_spans() -> None:
    def named(**config: str) -> str:
        return proxy.service_name({**METADATA, "PROXY_CONFIG": config})

    assert named() == "front.shop"
    assert named(tracingServiceName="CANONICAL_NAME_ONLY") == "web-ui"
    assert named(tracingServiceName="CANONICAL_NAME_AND_NAMESPACE") == "web-ui.shop"
    assert named(serviceCluster="mine") == "mine"
