"""Sidecar: what workloads see of the mesh, and what becomes of what they do not see."""

from __future__ import annotations

from typing import Any

import pytest

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  clusterIP: 10.1.0.1
  ports:
  - {name: http, port: 9080}
  - {name: tcp-admin, port: 9000}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  clusterIP: 10.1.0.2
  ports: [{name: http, port: 9080}]
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  clusterIP: 10.1.0.3
  ports: [{name: tcp, port: 7000}]
"""
REVIEWS, RATINGS = "reviews.shop.svc.cluster.local", "ratings.shop.svc.cluster.local"
LEDGER = "ledger.bank.svc.cluster.local"


def sidecar(spec: str, name: str = "default", namespace: str = "shop") -> str:
    lines = "\n".join(f"  {line}" for line in spec.strip().splitlines())
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {namespace}}}
spec:
{lines}
"""


def hosts(proxy: Any) -> set[str]:
    """The hosts to which it has clusters."""
    return {name.rpartition("|")[2] for name in proxy.names("clusters") if name.startswith("outbound|")}


@pytest.fixture
def proxy(mesh: Any) -> Any:
    mesh.apply(SERVICES)
    return mesh.sidecar(namespace="shop", app="web")


def test_without_a_sidecar_everything_is_seen(proxy: Any) -> None:
    assert hosts(proxy) == {REVIEWS, RATINGS, LEDGER}


@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        ("./*", {REVIEWS, RATINGS}),
        ("bank/*", {LEDGER}),
        ("*/ledger.bank.svc.cluster.local", {LEDGER}),
        ("./Reviews.shop.svc.cluster.local", {REVIEWS}),
        ("*/*.bank.svc.cluster.local", {LEDGER}),
        ("shop/*.bank.svc.cluster.local", set()),
        ("~/*", set()),
        ("*/*", {REVIEWS, RATINGS, LEDGER}),
        ("*/*, ~bank/*", {REVIEWS, RATINGS}),
        ("*/*, ~./*", {LEDGER}),
        ("*/*, ~/ledger.bank.svc.cluster.local", {REVIEWS, RATINGS}),
        ("~shop/*.bank.svc.cluster.local, */*", {REVIEWS, RATINGS, LEDGER}),
        ("*/*, ~/*", set()),
    ],
)
def test_egress_hosts_are_what_is_seen(mesh: Any, proxy: Any, listed: str, seen: set[str]) -> None:
    hosts_of = ", ".join(f"'{host}'" for host in listed.split(", "))
    mesh.apply(sidecar(f"egress: [{{hosts: [{hosts_of}]}}]"))
    assert hosts(proxy) == seen
    mesh.delete("Sidecar", "default", "shop")
    assert hosts(proxy) == {REVIEWS, RATINGS, LEDGER}


def test_only_the_routes_and_listeners_of_what_is_seen_are_there(mesh: Any, proxy: Any) -> None:
    mesh.apply(sidecar("egress: [{hosts: ['./ratings.shop.svc.cluster.local']}]"))
    assert {n for n in proxy.names("listeners") if not n.startswith("virtual")} == {"0.0.0.0_9080"}
    names = [host["name"] for host in proxy.get("routes", "9080")["virtual_hosts"]]
    assert names == [f"{RATINGS}:9080", "allow_any"]


def test_a_listener_for_a_port_goes_before_the_one_for_all(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
egress:
- port: {number: 9080, protocol: HTTP, name: http}
  hosts: [./ratings.shop.svc.cluster.local]
- hosts: ['./*', bank/*]
""")
    )
    clusters = {name for name in proxy.names("clusters") if name.startswith("outbound")}
    assert clusters == {f"outbound|9080||{RATINGS}", f"outbound|9000||{REVIEWS}", f"outbound|7000||{LEDGER}"}


def test_a_listener_that_binds_is_called_by_clients_themselves(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
egress:
- port: {number: 9080, protocol: HTTP, name: http}
  captureMode: NONE
  hosts: ['./*']
- port: {number: 7000, protocol: TCP, name: ledger}
  bind: 127.0.0.9
  captureMode: NONE
  hosts: [bank/*]
""")
    )
    assert {n for n in proxy.names("listeners") if not n.startswith("virtual")} == {"127.0.0.1_9080", "127.0.0.9_7000"}
    http = proxy.get("listeners", "127.0.0.1_9080")
    assert http["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9080}
    assert "bind_to_port" not in http, "Envoy binds by default"
    names = [host["name"] for host in proxy.get("routes", "9080")["virtual_hosts"]]
    assert names == [f"{RATINGS}:9080", f"{REVIEWS}:9080", "allow_any"]
    tcp = proxy.get("listeners", "127.0.0.9_7000")
    assert tcp["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] == f"outbound|7000||{LEDGER}"


def test_an_address_without_capture_mode_is_one_of_captured_connections(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
egress:
- port: {number: 7000, protocol: TCP, name: ledger}
  bind: 192.0.2.7
  hosts: [bank/*]
""")
    )
    assert proxy.get("listeners", "192.0.2.7_7000")["bind_to_port"] is False


def test_all_ports_can_be_bound_at_one_address(mesh: Any, proxy: Any) -> None:
    mesh.apply(sidecar("egress: [{captureMode: NONE, hosts: ['*/*']}]"))
    bound = {"127.0.0.1_9080", "127.0.0.1_9000", "127.0.0.1_7000"}
    assert {n for n in proxy.names("listeners") if not n.startswith("virtual")} == bound
    assert proxy.names("routes") == {"9080"}


def test_a_listener_speaks_the_protocol_that_it_says(mesh: Any, proxy: Any) -> None:
    """Not that of the hosts' ports."""
    mesh.apply(
        sidecar("""
egress:
- {port: {number: 9080, protocol: TCP, name: tcp}, hosts: ['./*']}
- {port: {number: 9000, protocol: HTTP, name: http}, hosts: ['./*']}
""")
    )
    tcp = proxy.get("listeners", "10.1.0.2_9080")
    assert tcp["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] == f"outbound|9080||{RATINGS}"
    assert proxy.names("routes") == {"9000"}
    assert "0.0.0.0_9000" in proxy.names("listeners")
    (host, _) = proxy.get("routes", "9000")["virtual_hosts"]
    assert host["routes"][0]["route"]["cluster"] == f"outbound|9000||{REVIEWS}"


def test_listeners_on_unix_sockets(mesh: Any, proxy: Any) -> None:
    """One for all ports of the hosts: requests say which they mean."""
    mesh.apply(
        sidecar("""
egress:
- port: {number: 0, protocol: HTTP, name: http}
  bind: unix:///run/http.sock
  hosts: ['./*']
- port: {number: 0, protocol: TCP, name: tcp}
  bind: unix://@tcp
  hosts: [bank/*]
- hosts: [bank/*]
""")
    )
    own = {n for n in proxy.names("listeners") if not n.startswith("virtual")}
    assert own == {"unix:///run/http.sock_0", "unix://@tcp_0", "10.1.0.3_7000"}
    http = proxy.get("listeners", "unix:///run/http.sock_0")
    assert http["address"] == {"pipe": {"path": "/run/http.sock"}}
    assert "bind_to_port" not in http
    manager = http["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["rds"]["route_config_name"] == "unix:///run/http.sock"
    routes = proxy.get("routes", "unix:///run/http.sock")
    assert "ignore_port_in_host_matching" not in routes
    reviews = next(host for host in routes["virtual_hosts"] if host["name"] == f"{REVIEWS}:9080")
    assert {REVIEWS, f"{REVIEWS}:9080", "reviews", "reviews:9080", "10.1.0.1:9080"} <= set(reviews["domains"])
    tcp = proxy.get("listeners", "unix://@tcp_0")
    assert tcp["address"] == {"pipe": {"path": "@tcp"}}
    assert tcp["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] == f"outbound|7000||{LEDGER}"
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec: {clusterIP: 10.1.0.2, ports: [{name: http, port: 9080}, {name: http-plain, port: 80}]}
""")
    hosts_by_name = {
        host["name"]: host.get("domains", ()) for host in proxy.get("routes", "unix:///run/http.sock")["virtual_hosts"]
    }
    assert "ratings" in hosts_by_name[f"{RATINGS}:80"]
    assert "ratings" not in hosts_by_name[f"{RATINGS}:9080"]
    assert "ratings:9080" in hosts_by_name[f"{RATINGS}:9080"]
    mesh.delete("Sidecar", "default", "shop")
    assert "unix:///run/http.sock" not in proxy.names("routes")


def test_what_a_virtual_service_leads_to_comes_along(mesh: Any, proxy: Any) -> None:
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: ledger.bank.svc.cluster.local, port: {number: 7000}}}]
""")
    mesh.apply(sidecar("egress: [{hosts: ['./*']}]"))
    assert hosts(proxy) == {REVIEWS, RATINGS, LEDGER}
    assert "10.1.0.3_7000" not in proxy.names("listeners"), "it is not seen by itself"
    mesh.delete("VirtualService", "reviews", "shop")
    assert hosts(proxy) == {REVIEWS, RATINGS}


def test_what_it_leads_to_goes_when_it_is_exported_by_default_no_more(mesh: Any, proxy: Any) -> None:
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: away, namespace: bank}
spec:
  hosts: [ratings.shop.svc.cluster.local]
  http:
  - route: [{destination: {host: ledger, port: {number: 7000}}}]
""")
    mesh.apply(sidecar("egress: [{hosts: ['./*', 'bank/ratings.shop.svc.cluster.local']}]"))
    assert hosts(proxy) == {REVIEWS, RATINGS, LEDGER}
    mesh.configure("defaultVirtualServiceExportTo: ['.']")
    assert hosts(proxy) == {REVIEWS, RATINGS}


def test_virtual_services_of_namespaces_that_are_not_imported_do_not_apply(mesh: Any, proxy: Any) -> None:
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: away, namespace: bank}
spec:
  hosts: [ratings.shop.svc.cluster.local]
  http: [{directResponse: {status: 418}}]
""")

    def answered() -> bool:
        host = next(h for h in proxy.get("routes", "9080")["virtual_hosts"] if h["name"] == f"{RATINGS}:9080")
        return "direct_response" in host["routes"][0]

    assert answered()
    mesh.apply(sidecar("egress: [{hosts: ['./*']}]"))
    assert not answered()
    mesh.apply(sidecar("egress: [{hosts: ['./*', 'bank/ratings.shop.svc.cluster.local']}]"))
    assert answered()


def test_the_one_that_selects_a_workload_goes_before_its_namespaces_and_that_before_the_roots(
    mesh: Any, proxy: Any
) -> None:
    mesh.apply(sidecar("egress: [{hosts: [bank/*]}]", namespace="istio-system"))
    assert hosts(proxy) == {LEDGER}
    mesh.apply(sidecar("egress: [{hosts: ['./*']}]"))
    assert hosts(proxy) == {REVIEWS, RATINGS}
    mesh.apply(sidecar(f"workloadSelector: {{labels: {{app: web}}}}\negress: [{{hosts: ['./{REVIEWS}']}}]", name="web"))
    assert hosts(proxy) == {REVIEWS}
    other = mesh.sidecar(name="other", namespace="shop", ip="10.0.0.8", app="other")
    assert hosts(other) == {REVIEWS, RATINGS}


def test_unknown_destinations_are_refused_or_not_as_the_sidecar_says(mesh: Any, proxy: Any) -> None:
    def catch_all() -> str:
        chain = proxy.get("listeners", "virtualOutbound")["filter_chains"][-1]
        found: str = chain["filters"][0]["typed_config"]["cluster"]
        return found

    mesh.apply(sidecar("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"))
    assert catch_all() == "BlackHoleCluster"
    assert proxy.get("routes", "9080")["virtual_hosts"][-1]["name"] == "block_all"
    mesh.configure("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    mesh.apply(sidecar("outboundTrafficPolicy: {mode: ALLOW_ANY}"))
    assert catch_all() == "PassthroughCluster"


def test_unknown_destinations_go_to_an_egress_proxy(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
egress: [{hosts: ['./ratings.shop.svc.cluster.local']}]
outboundTrafficPolicy:
  mode: ALLOW_ANY
  egressProxy: {host: ledger.bank.svc.cluster.local, port: {number: 7000}}
""")
    )
    cluster = f"outbound|7000||{LEDGER}"
    assert cluster in proxy.names("clusters")
    chain = proxy.get("listeners", "virtualOutbound")["filter_chains"][-1]
    assert chain["filters"][0]["typed_config"]["cluster"] == cluster
    assert proxy.get("routes", "9080")["virtual_hosts"][-1]["routes"][0]["route"]["cluster"] == cluster


def test_an_egress_proxy_can_be_a_subset(mesh: Any, proxy: Any) -> None:
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ledger, namespace: bank}
spec: {host: ledger, subsets: [{name: v2, labels: {version: v2}}]}
""")
    mesh.apply(
        sidecar("""
outboundTrafficPolicy:
  mode: ALLOW_ANY
  egressProxy: {host: ledger.bank.svc.cluster.local, subset: v2, port: {number: 7000}}
""")
    )
    cluster = f"outbound|7000|v2|{LEDGER}"
    assert cluster in proxy.names("clusters")
    chain = proxy.get("listeners", "virtualOutbound")["filter_chains"][-1]
    assert chain["filters"][0]["typed_config"]["cluster"] == cluster


def test_a_pods_labels_decide_which_sidecar_is_its(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar(f"workloadSelector: {{labels: {{tier: front}}}}\negress: [{{hosts: ['./{REVIEWS}']}}]", name="front")
    )
    assert hosts(proxy) == {REVIEWS, RATINGS, LEDGER}
    mesh.apply("""
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {tier: front}}
spec: {containers: [{name: c, image: i}]}
status: {podIP: 10.0.0.9}
""")
    assert hosts(proxy) == {REVIEWS}
