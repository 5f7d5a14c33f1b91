"""From a refused resource to the objects that it came from, and back when it is accepted."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import ObjectKey
from pilotfish.xds.blame import FEW, Blame, blamed
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, ProxyNode
from pilotfish.xds.status import Rejection

WEB, ENTRY = ObjectKey("Service", "ns", "web"), ObjectKey("ServiceEntry", "ns", "entry")
POD, GATEWAY = ObjectKey("Pod", "ns", "p"), ObjectKey("Pod", "kube-system", "gw")
HOST = "web.ns.svc.cluster.local"


def _proxy(type: str = "sidecar", name: str = "p", namespace: str = "ns") -> ProxyNode:
    return ProxyNode(f"{type}~10.0.0.1~{name}.{namespace}~x", type, "10.0.0.1", name, namespace)


def _web(name: str = "web", namespace: str = "ns", **more: Any) -> Any:
    ports = [
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]
    metadata = {"name": name, "namespace": namespace, "annotations": more.pop("annotations", {})}
    return decode(
        kinds.SERVICE,
        {"metadata": metadata, "spec": {"clusterIP": "10.96.0.1", "ports": ports, "selector": {"a": "b"}, **more}},
    )


def _entry() -> Any:
    spec = {"hosts": ["App.test"], "addresses": ["240.240.0.1"], "ports": [{"number": 443, "name": "tls"}]}
    return decode(kinds.SERVICE_ENTRY, {"metadata": {"name": "entry", "namespace": "ns"}, "spec": spec})


def _model(*objects: Any) -> Model:
    model = Model()
    model.apply([(None, obj) for obj in objects or (_web(), _entry())])
    return model


@pytest.mark.parametrize(
    ("type_url", "name", "expected"),
    [
        (CLUSTER, f"outbound|80||{HOST}", WEB),
        (ENDPOINT, f"outbound|80||{HOST}", WEB),
        (CLUSTER, f"outbound_udp|53||{HOST}", WEB),
        (ENDPOINT, f"outbound_udp|53||{HOST}", WEB),
        (CLUSTER, "outbound|443|v1|App.test", ENTRY),
        (CLUSTER, "outbound|80||gone.test", POD),
        (CLUSTER, "inbound|8080||", POD),
        (CLUSTER, "BlackHoleCluster", POD),
        (LISTENER, "10.96.0.1_80", WEB),
        (LISTENER, "0.0.0.0_80", WEB),
        (LISTENER, "240.240.0.1_443", ENTRY),
        (LISTENER, "10.96.0.9_80", POD),
        (LISTENER, "10.96.0.1_53", POD),
        (LISTENER, "virtualOutbound", POD),
        (ROUTE, "80", WEB),
        (ROUTE, "app.test:443", ENTRY),
        (ROUTE, "app.test:80", POD),
        (ROUTE, "block_all", POD),
        (SECRET, "default", POD),
    ],
)
def test_the_object_behind_a_sidecars_resource(type_url: str, name: str, expected: ObjectKey) -> None:
    assert blamed(_model(), _proxy(), type_url, name) == (expected,)


@pytest.mark.parametrize(
    ("type_url", "name", "expected"),
    [
        (LISTENER, "0.0.0.0_30080", WEB),
        (LISTENER, "udp_0.0.0.0_30053", WEB),
        (LISTENER, "0.0.0.0_30053", GATEWAY),
        (LISTENER, "0.0.0.0_80", GATEWAY),
        (CLUSTER, f"outbound_udp|53||{HOST}", WEB),
    ],
)
def test_the_object_behind_a_node_gateways_resource(type_url: str, name: str, expected: ObjectKey) -> None:
    assert blamed(_model(), _proxy("router", "gw", "kube-system"), type_url, name) == (expected,)


@pytest.mark.parametrize(
    ("type_url", "name", "expected"),
    [
        (LISTENER, "0.0.0.0_8443", ["web"]),
        (LISTENER, "10.0.0.1_9000", ["tcp"]),
        (LISTENER, "0.0.0.0_9000", []),
        (ROUTE, "https.443.https.web.ns", ["web"]),
        (ROUTE, "http.8080", []),
        (SECRET, "kubernetes://web-cacert", ["web"]),
        (SECRET, "kubernetes://other", []),
    ],
)
def test_the_objects_behind_a_gateways_resource(type_url: str, name: str, expected: list[str]) -> None:
    pod = {
        "metadata": {"name": "edge", "namespace": "istio-system", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
        "status": {"podIP": "10.0.0.2"},
    }
    service = _web("edge", "istio-system", ports=[{"name": "https", "port": 443, "targetPort": 8443}])
    servers = {
        "web": {
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
            "hosts": ["*"],
            "tls": {"mode": "MUTUAL", "credentialName": "web"},
        },
        "tcp": {"port": {"number": 9000, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"], "bind": "10.0.0.1"},
    }
    gateways = [
        {"metadata": {"name": name, "namespace": "ns"}, "spec": {"selector": {"a": "b"}, "servers": [server]}}
        for name, server in servers.items()
    ]
    model = _model(decode(kinds.POD, pod), service, *(decode(kinds.GATEWAY, gateway) for gateway in gateways))
    found = blamed(model, _proxy("router", "edge", "istio-system"), type_url, name)
    wanted = tuple(ObjectKey("Gateway", "ns", name) for name in expected)
    assert found == (wanted or (ObjectKey("Pod", "istio-system", "edge"),))


def test_too_many_objects_share_no_blame() -> None:
    few = [_web(f"web-{i}") for i in range(FEW)]
    assert len(blamed(_model(*few), _proxy(), LISTENER, "0.0.0.0_80")) == FEW
    assert blamed(_model(*few, _web("one-more")), _proxy(), LISTENER, "0.0.0.0_80") == (POD,)


def test_what_a_proxy_does_not_see_is_not_blamed() -> None:
    hidden = _web("hidden", "other", annotations={"networking.istio.io/exportTo": "."})
    assert blamed(_model(_web(), hidden), _proxy(), ROUTE, "80") == (WEB,)


class _Reports:
    """What was said of each object last."""

    def __init__(self) -> None:
        self.standing: dict[ObjectKey, str | None] = {}
        self.blame = Blame(_model(), self._report)

    def _report(self, key: ObjectKey, message: str | None) -> None:
        self.standing[key] = message

    def reject(self, node: ProxyNode, type_url: str, *names: str, message: str = "bad") -> None:
        at = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        self.blame.rejected(node, Rejection(type_url, names, message, at))


CLUSTER_NAME = f"outbound|80||{HOST}"


def test_a_refusal_stands_until_the_same_resource_is_accepted() -> None:
    reports, proxy = _Reports(), _proxy()
    reports.reject(proxy, CLUSTER, CLUSTER_NAME, message="no such thing")
    assert reports.standing == {WEB: f"p.ns refused {CLUSTER_NAME}: no such thing"}
    reports.blame.acknowledged(proxy, CLUSTER, {"another": "1"})
    reports.blame.acknowledged(proxy, LISTENER, {CLUSTER_NAME: "1"})
    reports.blame.acknowledged(_proxy(name="q"), CLUSTER, {CLUSTER_NAME: "1"})
    assert reports.standing[WEB]
    reports.blame.acknowledged(proxy, CLUSTER, {CLUSTER_NAME: "2"})
    assert reports.standing == {WEB: None}


def test_an_object_is_forgiven_when_nobody_refuses_anything_of_it() -> None:
    reports, one, two = _Reports(), _proxy(name="one"), _proxy(name="two")
    reports.reject(one, CLUSTER, CLUSTER_NAME)
    reports.reject(two, LISTENER, "10.96.0.1_80", "240.240.0.1_443")
    reports.blame.disconnected(one)
    assert reports.standing[WEB] == "two.ns refused 10.96.0.1_80: bad"
    reports.blame.disconnected(two)
    assert reports.standing == {WEB: None, ENTRY: None}


def test_a_refusal_again_replaces_its_words() -> None:
    reports, proxy = _Reports(), _proxy()
    reports.reject(proxy, CLUSTER, CLUSTER_NAME, message="first")
    reports.reject(proxy, CLUSTER, CLUSTER_NAME, message="second")
    assert str(reports.standing[WEB]).endswith("second")
    reports.blame.acknowledged(proxy, CLUSTER, {CLUSTER_NAME: None})
    assert reports.standing == {WEB: None}


def _envoy_filter(apply_to: str, operation: str, value: dict[str, Any], match: dict[str, Any]) -> Any:
    patch = {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value}}
    metadata = {"name": "f", "namespace": "ns"}
    return decode(kinds.ENVOY_FILTER, {"metadata": metadata, "spec": {"configPatches": [patch]}})


@pytest.mark.parametrize(
    "patch, type_url, name, is_to_blame",
    [
        (("CLUSTER", "MERGE", {}, {"cluster": {"service": HOST}}), CLUSTER, f"outbound|80||{HOST}", True),
        (("CLUSTER", "MERGE", {}, {"cluster": {"service": "other"}}), CLUSTER, f"outbound|80||{HOST}", False),
        (("CLUSTER", "MERGE", {}, {"context": "SIDECAR_INBOUND"}), CLUSTER, f"outbound|80||{HOST}", False),
        (("CLUSTER", "ADD", {"name": "mine"}, {}), CLUSTER, "mine", True),
        (("CLUSTER", "ADD", {"name": "mine"}, {}), CLUSTER, f"outbound|80||{HOST}", False),
        (("HTTP_ROUTE", "MERGE", {}, {"routeConfiguration": {"name": "80"}}), ROUTE, "80", True),
        (("HTTP_FILTER", "INSERT_FIRST", {}, {"context": "SIDECAR_OUTBOUND"}), LISTENER, "0.0.0.0_80", True),
        (("HTTP_FILTER", "INSERT_FIRST", {}, {"listener": {"name": "x"}}), LISTENER, "0.0.0.0_80", False),
    ],
)
def test_an_envoy_filter_is_blamed_for_what_it_changes(patch: Any, type_url: str, name: str, is_to_blame: bool) -> None:
    found = blamed(_model(_web(), _envoy_filter(*patch)), _proxy(), type_url, name)
    assert found == ((ObjectKey("EnvoyFilter", "ns", "f"),) if is_to_blame else (WEB,))
