"""VirtualServices for sidecars: which hosts they route, for whom, and what a change touches.

What a route can say is in test_gateway_routes: it is the same for sidecars.
"""

from __future__ import annotations

from typing import Any

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 80}, {name: what, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.1.0.6, selector: {app: other}, ports: [{name: http, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
"""
ROUTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match: [{uri: {prefix: /other}}]
    route: [{destination: {host: other}}]
  - route: [{destination: {host: web, subset: v1}, weight: 90}, {destination: {host: web}, weight: 10}]
"""
WEB, V1 = "outbound|80||web.default.svc.cluster.local", "outbound|80|v1|web.default.svc.cluster.local"
OTHER = "outbound|9000||other.default.svc.cluster.local"


def routes(proxy: Any, host: str, port: str = "80") -> list[Any]:
    """Where requests for a host go: a cluster, or clusters with their weights."""
    found = next(h for h in proxy.get("routes", port)["virtual_hosts"] if host in h["domains"])
    return [
        {each["name"]: each.get("weight") for each in route["route"]["weighted_clusters"]["clusters"]}
        if "weighted_clusters" in route["route"]
        else route["route"]["cluster"]
        for route in found["routes"]
    ]


def test_a_host_is_routed_as_its_virtual_service_says(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES)
    assert routes(client, "web") == [WEB]
    client.told()
    mesh.apply(ROUTED)
    assert client.told() == {"routes": {"80", "web.default.svc.cluster.local:81"}}
    assert routes(client, "web") == [OTHER, {V1: 90, WEB: 10}]
    assert routes(client, "10.1.0.5") == routes(client, "web")
    sniffed = client.get("routes", "web.default.svc.cluster.local:81")["virtual_hosts"][0]["routes"]
    assert sniffed[0]["route"]["cluster"] == OTHER
    mesh.delete("VirtualService", "web")
    assert routes(client, "web") == [WEB]


def test_routes_say_which_virtual_service_they_are_of(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---" + ROUTED)
    hosts = {h["domains"][0]: h for h in client.get("routes", "80")["virtual_hosts"]}
    for route in hosts["web.default.svc.cluster.local"]["routes"]:
        about = route["metadata"]["filter_metadata"]["istio"]
        assert about == {"config": "/apis/networking.istio.io/v1/namespaces/default/virtual-service/web"}


def test_a_destination_whose_ports_change_is_routed_anew(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---" + ROUTED)
    mesh.delete("Service", "other")
    assert routes(client, "web")[0] == "outbound|80||other.default.svc.cluster.local"
    mesh.apply(SERVICES.replace("9000", "9001"))
    assert routes(client, "web")[0] == OTHER.replace("9000", "9001")


def test_routes_that_are_not_for_a_port_leave_it_as_it_is(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---" + ROUTED.replace("- route:", "- match: [{port: 81}]\n    route:"))
    mesh.apply(ROUTED.replace("{uri: {prefix: /other}}", "{port: 81}").partition("  - route")[0])
    assert routes(client, "web") == [WEB]
    sniffed = client.get("routes", "web.default.svc.cluster.local:81")["virtual_hosts"][0]["routes"]
    assert [route["route"]["cluster"] for route in sniffed] == [OTHER]


def test_a_name_that_no_registry_has_is_routed_at_port_80(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---" + ROUTED.replace("[web]", '[shop.test, "*.shop.test"]'))
    assert routes(client, "shop.test")[0] == OTHER
    assert routes(client, "*.shop.test")[0] == OTHER
    mesh.apply(ROUTED.replace("[web]", '["*"]'))
    (everything,) = (h for h in client.get("routes", "80")["virtual_hosts"] if h["domains"] == ["*"])
    assert everything["name"] == "allow_any"
    assert routes(client, "web")[0] == OTHER, "a wildcard covers the hosts of the registry"


def test_who_is_routed(mesh: Any) -> None:
    near, far = mesh.sidecar(), mesh.sidecar("far", "elsewhere", "10.0.0.10", tier="edge")
    mesh.apply(SERVICES + "---" + ROUTED.replace("spec:", 'spec:\n  exportTo: ["."]'))
    assert (routes(near, "web")[0], routes(far, "web.default")[0]) == (OTHER, WEB)
    mesh.apply(ROUTED.replace("{uri: {prefix: /other}}", "{sourceLabels: {tier: edge}}"))
    assert (routes(near, "web"), routes(far, "web.default")) == ([{V1: 90, WEB: 10}], [OTHER])
    mesh.apply(ROUTED.replace("{uri: {prefix: /other}}", "{sourceNamespace: elsewhere}"))
    assert (routes(near, "web"), routes(far, "web.default")) == ([{V1: 90, WEB: 10}], [OTHER])
    mesh.apply(ROUTED.replace("hosts:", "gateways: [some]\n  hosts:"))
    assert routes(near, "web") == [WEB]
