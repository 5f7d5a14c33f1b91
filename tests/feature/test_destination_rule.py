"""DestinationRules: subsets, and which rule is for whom."""

from __future__ import annotations

from typing import Any

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.21], conditions: {ready: true}, targetRef: {kind: Pod, name: web-1}}
- {addresses: [10.0.0.22], conditions: {ready: true}, targetRef: {kind: Pod, name: web-2}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web, version: v1}}
spec: {containers: [{name: web, image: web}]}
status: {podIP: 10.0.0.21}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web, version: v2}}
spec: {containers: [{name: web, image: web}]}
status: {podIP: 10.0.0.22}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  subsets: [{name: one, labels: {version: v1}}, {name: none, labels: {version: v3}}, {name: all}]
"""


def subset(name: str) -> str:
    return f"outbound|80|{name}|web.default.svc.cluster.local"


def addresses(proxy: Any, name: str) -> list[str]:
    groups = proxy.get("endpoints", subset(name)).get("endpoints", [])
    return [e["endpoint"]["address"]["socket_address"]["address"] for group in groups for e in group["lb_endpoints"]]


def test_subsets_are_the_endpoints_with_their_labels(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    client.told()
    mesh.apply(RULE)
    made = {subset(name) for name in ("one", "none", "all")}
    # The host's own cluster is told too: it says which rule is for it.
    assert client.told() == {"clusters": made | {subset("")}, "endpoints": made}
    assert addresses(client, "one") == ["10.0.0.21"]
    assert addresses(client, "none") == []
    assert addresses(client, "all") == ["10.0.0.21", "10.0.0.22"]
    mesh.apply(RULE.replace("version: v1", "version: v2"))
    assert client.told() == {"endpoints": {subset("one")}}
    assert addresses(client, "one") == ["10.0.0.22"]
    mesh.delete("DestinationRule", "web")
    assert client.names("clusters").isdisjoint(made)


def test_clusters_say_which_rule_is_for_them(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB + "---" + RULE)
    for name in ("", "one"):
        about = client.get("clusters", subset(name))["metadata"]["filter_metadata"]["istio"]
        assert about["config"] == "/apis/networking.istio.io/v1/namespaces/default/destination-rule/web"
    mesh.delete("DestinationRule", "web")
    assert "config" not in client.get("clusters", subset(""))["metadata"]["filter_metadata"]["istio"]


def test_a_rule_is_for_those_who_see_it_and_whom_it_selects(mesh: Any) -> None:
    near, far = mesh.sidecar(), mesh.sidecar("far", "elsewhere", "10.0.0.10")
    edge = mesh.sidecar("edge", "default", "10.0.0.11", tier="edge")
    proxies = (near, far, edge)

    def having(name: str) -> list[bool]:
        return [subset(name) in proxy.names("clusters") for proxy in proxies]

    mesh.apply(WEB + "---" + RULE)
    assert having("one") == [True, True, True]
    mesh.apply(RULE.replace("host: web", 'host: web\n  exportTo: ["."]'))
    assert having("one") == [True, False, True]
    mesh.apply(RULE.replace("host: web", "host: web\n  workloadSelector: {matchLabels: {tier: edge}}"))
    assert having("one") == [False, False, True]


def test_the_mesh_says_who_sees_rules_that_do_not_say_it(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: far, namespace: team}
spec: {clusterIP: 10.1.0.9, selector: {app: far}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far, namespace: team}
spec: {host: far, subsets: [{name: v1, labels: {version: v1}}]}
""")
    subset = "outbound|80|v1|far.team.svc.cluster.local"
    assert subset in client.names("clusters")
    mesh.configure('defaultDestinationRuleExportTo: ["."]')
    assert subset not in client.names("clusters")
