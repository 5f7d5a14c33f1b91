"""Services of type ExternalName: names that stand for others."""

from __future__ import annotations

from typing import Any

ALIAS = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{type: ExternalName, externalName: {target}}}
"""
ENTRY = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: default}
spec:
  hosts: [api.test]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
"""

GATEWAY_HOST = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: front, namespace: default}
spec: {hosts: [front.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}
"""


def alias(target: str, name: str = "shop", namespace: str = "default") -> str:
    return ALIAS.format(name=name, namespace=namespace, target=target)


def domains(proxy: Any) -> dict[str, list[str]]:
    return {h["name"]: h.get("domains", []) for h in proxy.get("routes", "80")["virtual_hosts"]}


def test_http_by_the_alias_goes_where_the_name_goes(mesh: Any) -> None:
    proxy, other = mesh.sidecar(), mesh.sidecar("other", "elsewhere", "10.0.0.8")
    mesh.apply(ENTRY)
    before = proxy.names("clusters")
    mesh.apply(alias("Api.test."))
    forms = ["shop.default.svc.cluster.local", "shop.default.svc.cluster.local.", "shop.default.svc", "shop.default"]
    assert set(domains(proxy)["api.test:80"]) == {"api.test", "api.test.", "shop", *forms}
    assert set(domains(other)["api.test:80"]) == {"api.test", "api.test.", *forms}
    assert proxy.names("clusters") == before, "an alias is nothing by itself"
    mesh.delete("Service", "shop")
    assert set(domains(proxy)["api.test:80"]) == {"api.test", "api.test."}


def test_tls_clients_may_name_the_alias(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(ENTRY + alias("api.test"))
    [chain] = proxy.get("listeners", "0.0.0.0_443")["filter_chains"]
    full = "shop.default.svc.cluster.local"
    expected = ["api.test", full, "shop", "shop.default.svc", "shop.default"]
    assert sorted(chain["filter_chain_match"]["server_names"]) == sorted(expected)


def test_an_alias_of_an_alias(mesh: Any) -> None:
    """Whichever comes first."""
    proxy = mesh.sidecar()
    mesh.apply(alias("shop.default.svc.cluster.local", "store") + alias("api.test"))
    mesh.apply(ENTRY)
    assert {"store.default", "shop.default"} <= set(domains(proxy)["api.test:80"])
    mesh.apply(alias("other.test"))
    assert set(domains(proxy)["api.test:80"]) == {"api.test", "api.test."}


def test_an_alias_of_a_kubernetes_service(mesh: Any) -> None:
    proxy = mesh.sidecar()
    service = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}]}
"""
    mesh.apply(service + alias("web.prod.svc.cluster.local"))
    assert "shop" in domains(proxy)["web.prod.svc.cluster.local:80"]


def test_a_route_to_an_alias_leads_to_what_it_stands_for(mesh: Any) -> None:
    """Also when that comes, or becomes another, after the route."""
    proxy = mesh.sidecar()
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: front, namespace: default}
spec: {hosts: [front.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: default}
spec: {hosts: [front.test], http: [{route: [{destination: {host: shop, port: {number: 80}}}]}]}
""")
    mesh.apply(alias("api.test"))

    def cluster() -> str:
        [host] = [h for h in proxy.get("routes", "80")["virtual_hosts"] if h["name"] == "front.test:80"]
        found: str = host["routes"][0]["route"]["cluster"]
        return found

    mesh.apply(ENTRY)
    assert cluster() == "outbound|80||api.test"
    mesh.apply(ENTRY.replace("api.test", "other.test").replace("name: api,", "name: other,") + alias("other.test"))
    assert cluster() == "outbound|80||other.test"


def test_a_virtual_service_of_an_alias_is_for_requests_by_that_name(mesh: Any) -> None:
    proxy = mesh.sidecar()
    routed = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec: {hosts: [shop], http: [{directResponse: {status: 418}}]}
"""
    mesh.apply(ENTRY + alias("api.test") + alias("shop.default.svc.cluster.local", "store"))
    mesh.apply(routed)
    names = domains(proxy)
    full = "shop.default.svc.cluster.local"
    assert set(names[f"{full}:80"]) == {full, f"{full}.", "shop", "shop.default", "shop.default.svc"}
    assert names["api.test:80"][:2] == ["api.test", "api.test."]
    assert not set(names["api.test:80"]) & set(names[f"{full}:80"])
    assert "store" in names["api.test:80"]
    (own,) = [h for h in proxy.get("routes", "80")["virtual_hosts"] if h["name"] == f"{full}:80"]
    assert own["routes"][0]["direct_response"]["status"] == 418
    mesh.apply(ENTRY.replace("number: 80", "number: 8080"))
    assert proxy.get("routes", "8080")["virtual_hosts"][1]["name"] == f"{full}:8080"
    mesh.apply(alias("www.example.com") + GATEWAY_HOST)
    assert f"{full}:80" in domains(proxy), "nobody knows that name, which is asked for at port 80 then"
    mesh.delete("VirtualService", "shop")
    assert f"{full}:80" not in domains(proxy)


def test_an_alias_with_routes_is_there_for_proxies_on_demand(mesh: Any) -> None:
    """A lookup of the alias asks for the host that it means, and not for the alias."""
    mesh.apply(ENTRY + alias("api.test"))
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec: {hosts: [shop], http: [{route: [{destination: {host: shop}}]}]}
""")
    proxy = mesh.sidecar(metadata={"DNS_CAPTURE": "true"})
    assert "shop.default.svc.cluster.local:80" in domains(proxy)
    assert "outbound|80||api.test" in proxy.names("clusters")


def test_what_dns_knows_of_it(mesh: Any, load: Any) -> None:
    dns = mesh.dns()
    mesh.apply(alias("www.example.com"))
    assert dns.get("names", "*/shop.default.svc.cluster.local") == load("""
        table:
          shop.default.svc.cluster.local:
            {registry: Kubernetes, shortname: shop, namespace: default, canonical: www.example.com}
        """)
