"""Plain HTTP servers of gateways: listeners, virtual hosts, and the clusters that routes need."""

from __future__ import annotations

from typing import Any

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*.example.com"]
"""
FRONT = """
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  type: LoadBalancer
  clusterIP: 10.1.0.2
  selector: {istio: ingressgateway}
  ports: [{name: http2, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: 8443}]
"""
ROUTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web.example.com]
  gateways: [web]
  http:
  - route: [{destination: {host: web}}]
"""
WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.1.0.5
  selector: {app: web}
  ports: [{name: http, port: 8000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.20], conditions: {ready: true}}]
"""
OTHER = WEB.replace("web", "other").replace("10.1.0.5", "10.1.0.6")
CLUSTER = "outbound|8000||web.default.svc.cluster.local"


def hosts(gateway: Any, route: str) -> dict[str, Any]:
    """The virtual hosts of a route configuration, by domain."""
    return {domain: host for host in gateway.get("routes", route)["virtual_hosts"] for domain in host["domains"]}


def test_a_gateway_that_nobody_means_has_nothing(mesh: Any) -> None:
    mesh.apply(WEB)
    gateway = mesh.gateway()
    for what in ("listeners", "routes", "clusters", "endpoints", "secrets"):
        assert gateway.names(what) == set(), what


def test_a_server_listens_where_the_service_leads(mesh: Any, load: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((FRONT, GATEWAY, ROUTED, WEB, OTHER)))
    listener = gateway.get("listeners", "0.0.0.0_8080")
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    assert listener["address"] == {"socket_address": {"address": "0.0.0.0", "port_value": 8080}}
    assert "bind_to_port" not in listener
    assert manager["rds"]["route_config_name"] == "http.8080"
    assert manager["use_remote_address"] is True
    assert manager["server_name"] == "istio-envoy"
    assert manager["stat_prefix"] == "outbound_0.0.0.0_8080;"
    assert manager["forward_client_cert_details"] == "SANITIZE_SET"
    assert [upgrade["upgrade_type"] for upgrade in manager["upgrade_configs"]] == ["websocket"]
    (host,) = gateway.get("routes", "http.8080")["virtual_hosts"]
    assert (host["name"], host["domains"]) == ("web.example.com:80", ["web.example.com"])
    assert host["routes"][0]["route"]["cluster"] == CLUSTER
    assert gateway.names("clusters") == gateway.names("endpoints") == {CLUSTER}, "no more than the routes need"


def test_a_change_of_endpoints_touches_endpoints_alone(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((FRONT, GATEWAY, ROUTED, WEB, OTHER)))
    gateway.told()
    slice_of = WEB.partition("---")[2]
    mesh.apply(slice_of.replace("10.0.0.20", "10.0.0.21"))
    assert gateway.told() == {"endpoints": {CLUSTER}}
    mesh.apply(slice_of.replace("web", "other"))
    assert gateway.told() == {}, "a host to which no route leads"


def test_without_a_service_in_front_the_port_is_its_own(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(GATEWAY)
    assert gateway.names("listeners") == {"0.0.0.0_80"}
    gateway.told()
    mesh.apply(FRONT)
    assert gateway.told() == {"listeners": {"0.0.0.0_80", "0.0.0.0_8080"}, "routes": {"http.80", "http.8080"}}
    mesh.delete("Gateway", "web")
    assert gateway.names("listeners") == gateway.names("routes") == set()


def test_a_server_without_routes_answers_404(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(GATEWAY + "---" + ROUTED.replace("web.example.com", "web.example.org"))
    (host,) = gateway.get("routes", "http.80")["virtual_hosts"]
    assert host["name"] == "blackhole:80"
    assert host["domains"] == ["*"]
    assert "routes" not in host
    assert gateway.names("clusters") == set()


def test_a_route_that_goes_takes_its_cluster_along(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((GATEWAY, ROUTED, WEB)))
    gateway.told()
    mesh.delete("VirtualService", "web")
    assert gateway.told() == {"routes": {"http.80"}, "clusters": {CLUSTER}, "endpoints": {CLUSTER}}
    assert gateway.names("clusters") == set()


def test_hosts_of_servers_and_virtual_services_meet_in_the_narrower_one(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(GATEWAY.replace('["*.example.com"]', '["*.example.com", shop.example.org]') + "---" + WEB)
    mesh.apply(ROUTED.replace("[web.example.com]", '["*.org", "*.web.example.com", other.net, WEB.Example.com]'))
    assert set(hosts(gateway, "http.80")) == {"shop.example.org", "*.web.example.com", "web.example.com"}
    mesh.apply(ROUTED.replace("[web.example.com]", '["*"]'))
    assert set(hosts(gateway, "http.80")) == {"*.example.com", "shop.example.org"}


def test_hosts_say_whose_virtual_services_may_bind(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(GATEWAY.replace('["*.example.com"]', '["./a.example.com", "team/b.example.com", "*/c.example.com"]'))
    text = ROUTED.replace("[web.example.com]", "[a.example.com, b.example.com, c.example.com]")
    bound = text.replace("gateways: [web]", "gateways: [default/web]")
    mesh.apply(bound)
    assert set(hosts(gateway, "http.80")) == {"a.example.com", "c.example.com"}
    mesh.apply(bound.replace("{name: web}", "{name: b, namespace: team}"))
    assert set(hosts(gateway, "http.80")) == {"a.example.com", "b.example.com", "c.example.com"}


def test_virtual_services_are_seen_as_they_are_exported(mesh: Any) -> None:
    gateway = mesh.gateway()
    private = ROUTED.replace("spec:", 'spec:\n  exportTo: ["."]')
    mesh.apply("---".join((GATEWAY, private, WEB)))
    assert set(hosts(gateway, "http.80")) == {"*"}
    mesh.apply(private.replace('"."', "istio-system"))
    assert set(hosts(gateway, "http.80")) == {"web.example.com"}


def test_virtual_services_of_other_gateways_do_not_show(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((GATEWAY, WEB, ROUTED.replace("gateways: [web]", "gateways: [mesh, other/web]"))))
    assert set(hosts(gateway, "http.80")) == {"*"}


def test_a_plain_server_can_send_everybody_to_https(mesh: Any) -> None:
    gateway = mesh.gateway()
    redirecting = GATEWAY.replace('["*.example.com"]', '["*.example.com"]\n    tls: {httpsRedirect: true}')
    mesh.apply("---".join((redirecting, ROUTED, WEB)))
    found = hosts(gateway, "http.80")
    assert {domain: host["require_tls"] for domain, host in found.items()} == {
        "web.example.com": "ALL",
        "*.example.com": "ALL",
    }
    assert "routes" not in found["*.example.com"]
    mesh.apply(GATEWAY)
    assert "require_tls" not in hosts(gateway, "http.80")["web.example.com"]


def test_several_gateways_share_a_port(mesh: Any) -> None:
    gateway = mesh.gateway()
    second = GATEWAY.replace("name: web", "name: shop").replace("*.example.com", "shop.org").replace("HTTP}", "GRPC}")
    shop = ROUTED.replace("web.example.com", "shop.org").replace("name: web", "name: shop", 1)
    mesh.apply("---".join((GATEWAY, second, ROUTED, shop.replace("gateways: [web]", "gateways: [shop]"), WEB)))
    assert gateway.names("listeners") == {"0.0.0.0_80"}
    assert set(hosts(gateway, "http.80")) == {"web.example.com", "shop.org"}


def test_several_virtual_services_of_one_host_are_merged_the_oldest_first(mesh: Any) -> None:
    gateway = mesh.gateway()
    old = ROUTED.replace("name: web", 'name: old, creationTimestamp: "2020-01-01T00:00:00Z"', 1)
    young = ROUTED.replace("name: web", 'name: young, creationTimestamp: "2024-01-01T00:00:00Z"', 1)
    mesh.apply("---".join((GATEWAY, WEB, OTHER, young, old.replace("host: web", "host: other"))))
    routes = hosts(gateway, "http.80")["web.example.com"]["routes"]
    clusters = [route["route"]["cluster"] for route in routes]
    assert clusters == [CLUSTER.replace("web", "other"), CLUSTER]


def test_gateways_are_told_apart_by_their_pods_labels(mesh: Any) -> None:
    ingress, edge = mesh.gateway(), mesh.gateway("edge", "team", "istio: edge")
    mesh.apply(GATEWAY)
    assert (ingress.names("listeners"), edge.names("listeners")) == ({"0.0.0.0_80"}, set())
    mesh.apply(GATEWAY.replace("ingressgateway", "edge"))
    assert (ingress.names("listeners"), edge.names("listeners")) == (set(), {"0.0.0.0_80"})
    mesh.apply(GATEWAY.replace("selector: {istio: ingressgateway}", "selector: {}"))
    assert ingress.names("listeners") == edge.names("listeners") == {"0.0.0.0_80"}


def test_a_gateway_is_what_its_pod_is(mesh: Any) -> None:
    """What a proxy says of its labels decides nothing: it would get credentials that are not for it."""
    mesh.apply(GATEWAY)
    pretender = mesh._connect("router", "10.0.0.8", "nobody", "istio-system", {"istio": "ingressgateway"})
    assert pretender.names("listeners") == set()
    gateway = mesh.gateway()
    mesh.delete("Pod", "gateway", "istio-system")
    assert gateway.names("listeners") == set()
    mesh.gateway()
    assert gateway.names("listeners") == {"0.0.0.0_80"}


def test_the_gateways_own_settings(mesh: Any) -> None:
    topology = {"numTrustedProxies": 2.0, "forwardClientCertDetails": "APPEND_FORWARD", "proxyProtocol": {}}
    gateway = mesh.gateway(metadata={"PROXY_CONFIG": {"gatewayTopology": topology}, "HTTP10": "1"})
    mesh.apply(GATEWAY)
    listener = gateway.get("listeners", "0.0.0.0_80")
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["xff_num_trusted_hops"] == 2
    assert manager["forward_client_cert_details"] == "APPEND_FORWARD"
    assert manager["http_protocol_options"] == {"accept_http_10": True}
    assert [found["name"] for found in listener["listener_filters"]] == ["envoy.filters.listener.proxy_protocol"]


def test_servers_can_bind_to_addresses(mesh: Any) -> None:
    gateway = mesh.gateway()
    bound = GATEWAY.replace("    hosts:", "    bind: 127.0.0.1\n    hosts:")
    mesh.apply(GATEWAY + "---" + bound.replace("name: web", "name: inner").replace("*.example.com", "*.internal"))
    assert gateway.names("listeners") == {"0.0.0.0_80", "127.0.0.1_80"}
    assert gateway.names("routes") == {"http.80", "http.80.127.0.0.1"}
