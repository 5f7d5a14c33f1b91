"""VirtualServices that leave a part of their routes to others."""

from __future__ import annotations

from typing import Any

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: team}
spec: {clusterIP: 10.1.0.6, selector: {app: shop}, ports: [{name: http, port: 9000}]}
"""
ROOT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [web]
  http:
  - name: shop
    match: [{uri: {prefix: /shop}}]
    timeout: 2s
    delegate: {name: shop, namespace: team}
  - route: [{destination: {host: web}}]
"""
DELEGATE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: team}
spec:
  http:
  - match: [{uri: {exact: /shop/cart}}]
    route: [{destination: {host: shop}}]
  - match: [{uri: {prefix: /elsewhere}}]
    route: [{destination: {host: shop}}]
"""
WEB, SHOP = "outbound|80||web.default.svc.cluster.local", "outbound|9000||shop.team.svc.cluster.local"


def routes(proxy: Any, port: str = "80", host: str = "web") -> list[tuple[str, str]]:
    """What is matched of the path, and where it goes."""
    found = next(h for h in proxy.get("routes", port)["virtual_hosts"] if host in h["domains"])
    return [(r["match"].get("path") or r["match"]["prefix"], r["route"]["cluster"]) for r in found["routes"]]


def test_the_routes_of_a_delegate_stand_in_the_place_of_the_reference(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---" + ROOT)
    assert routes(client) == [("/", WEB)], "a delegate that is not there leaves nothing"
    client.told()
    mesh.apply(DELEGATE)
    assert routes(client) == [("/shop/cart", SHOP), ("/", WEB)]
    assert client.told() == {"routes": {"80"}}
    (first, _) = next(h for h in client.get("routes", "80")["virtual_hosts"] if "web" in h["domains"])["routes"]
    assert (first["name"], first["route"]["timeout"]) == ("shop", "2s")
    mesh.apply(DELEGATE.replace("/shop/cart", "/shop/basket"))
    assert routes(client) == [("/shop/basket", SHOP), ("/", WEB)]
    mesh.delete("VirtualService", "shop", "team")
    assert routes(client) == [("/", WEB)]


def test_a_delegate_is_for_roots_of_namespaces_to_which_it_is_exported(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---" + ROOT + "---" + DELEGATE.replace("spec:", 'spec:\n  exportTo: ["."]'))
    assert routes(client) == [("/", WEB)]
    mesh.apply(DELEGATE.replace("spec:", "spec:\n  exportTo: [default]"))
    assert routes(client) == [("/shop/cart", SHOP), ("/", WEB)]
    mesh.apply(DELEGATE)
    mesh.configure("defaultVirtualServiceExportTo: ['.']")
    assert routes(client) == [("/", WEB)]


def test_a_delegate_in_the_namespace_of_its_root(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---" + ROOT.replace(", namespace: team", ""))
    mesh.apply(DELEGATE.replace(", namespace: team", "").replace("host: shop", "host: shop.team.svc.cluster.local"))
    assert routes(client) == [("/shop/cart", SHOP), ("/", WEB)]


def test_gateways_follow_delegates_too(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
""")
    mesh.apply(SERVICES + "---" + ROOT.replace("hosts: [web]", "hosts: [web.test]\n  gateways: [edge]"))
    assert routes(gateway, "http.80", "web.test") == [("/", WEB)]
    mesh.apply(DELEGATE)
    assert routes(gateway, "http.80", "web.test") == [("/shop/cart", SHOP), ("/", WEB)]
    assert SHOP in gateway.names("clusters")
    mesh.delete("VirtualService", "root")
    assert gateway.names("clusters") == set()
