from __future__ import annotations

import re

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from google.protobuf import json_format

from pilotfish.pki.identity import Identity, node_identity
from pilotfish.xds.node import Peer, Refused, authorised, parse_node

WEB = Peer(Identity("cluster.local", "default", "web"))
AGENT = Peer(node_identity("cluster.local"), "laptop")


def described(node_id: str, **metadata: object) -> base_pb2.Node:
    return json_format.ParseDict({"id": node_id, "metadata": metadata}, base_pb2.Node())


def test_a_sidecar_is_read_from_its_id_and_metadata() -> None:
    node = parse_node(
        described(
            "sidecar~10.1.2.3~web-1.default~default.svc.cluster.local",
            LABELS={"app": "web"},
            PORTS=[1, "a", None, True, {"x": 1}],
        )
    )
    assert (node.type, node.ip, node.name, node.namespace) == ("sidecar", "10.1.2.3", "web-1", "default")
    assert node.labels == {"app": "web"}
    assert node.metadata["PORTS"] == [1, "a", None, True, {"x": 1}]


def test_metadata_takes_precedence() -> None:
    node = parse_node(described("sidecar~10.1.2.3~web-1.a~x", NAMESPACE="b", GENERATOR="grpc"))
    assert (node.type, node.namespace) == ("grpc", "b")


@pytest.mark.parametrize(
    "node_id", ["", "web", "ztunnel~10.0.0.1~a.b~c", "sidecar~nowhere~a.b~c", "sidecar~10.0.0.1~a.b"]
)
def test_other_ids_are_refused(node_id: str) -> None:
    with pytest.raises(Refused, match=re.escape(repr(node_id))) as refused:
        parse_node(described(node_id))
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("node_id", "peer"),
    [
        ("sidecar~10.0.0.1~web-1.default~x", WEB),
        ("router~10.0.0.1~gateway.default~x", WEB),
        ("router~10.0.0.1~gateway.istio-system~x", AGENT),
        ("dns~~laptop.kube-system~x", AGENT),
    ],
)
def test_those_may_connect_whose_certificate_says_so(node_id: str, peer: Peer) -> None:
    node = authorised(parse_node(described(node_id)), peer, {"cluster.local", "mesh.test"})
    assert node.service_account == ("" if peer is AGENT else "web")


@pytest.mark.parametrize(
    ("node_id", "peer", "trust_domain", "message"),
    [
        ("sidecar~10.0.0.1~web-1.other~x", WEB, "cluster.local", r"may not connect as sidecar of namespace 'other'"),
        ("dns~10.0.0.1~web-1.default~x", WEB, "cluster.local", r"may not connect as dns"),
        ("sidecar~10.0.0.1~web-1.default~x", AGENT, "cluster.local", r"may not connect as sidecar"),
        ("sidecar~10.0.0.1~web-1.default~x", WEB, "example.org", r"of no trust domain of this mesh"),
        ("sidecar~10.0.0.1~web-1.default~x", None, "cluster.local", r"shows no client certificate"),
    ],
)
def test_others_may_not(node_id: str, peer: Peer | None, trust_domain: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        authorised(parse_node(described(node_id)), peer, {trust_domain})
