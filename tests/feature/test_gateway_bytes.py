"""Servers of gateways that pass bytes on: TCP, TLS that ends there, and TLS that is passed through."""

from __future__ import annotations

from typing import Any

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tcp}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 9000, name: tcp, protocol: TCP}
    hosts: ["*"]
"""
ROUTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db}
spec:
  hosts: [db.example.com]
  gateways: [tcp]
  tcp:
  - match: [{port: 1}]
    route: [{destination: {host: nowhere}}]
  - match: [{port: 9000}]
    route:
    - {destination: {host: db, port: {number: 5432}}, weight: 80}
    - {destination: {host: spare}, weight: 20}
"""
DB = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.1.0.5, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: spare}
spec: {clusterIP: 10.1.0.6, selector: {app: spare}, ports: [{name: tcp, port: 6543}]}
"""
CLUSTER = "outbound|5432||db.default.svc.cluster.local"
SPARE = "outbound|6543||spare.default.svc.cluster.local"

PASSED = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tcp}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    hosts: ["*.example.com"]
    tls: {mode: PASSTHROUGH}
"""
BY_NAME = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db}
spec:
  hosts: ["*.example.com"]
  gateways: [tcp]
  tls:
  - match: [{port: 443, sniHosts: [db.example.com]}]
    route: [{destination: {host: db}}]
  - match: [{port: 444, sniHosts: [no.example.com]}, {sniHosts: [spare.example.com, "*.spare.example.com"]}]
    route: [{destination: {host: spare}}]
"""
TLS_TO_DB = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec:
  host: db.default.svc.cluster.local
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 7}}
    tls: {mode: SIMPLE, insecureSkipVerify: true}
    proxyProtocol: {}
"""


def proxied(chain: Any) -> Any:
    config = chain["filters"][0]["typed_config"]
    if "cluster" in config:
        return config["cluster"]
    return {each["name"]: each["weight"] for each in config["weighted_clusters"]["clusters"]}


def test_tcp_goes_where_the_first_route_leads_that_means_the_server(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((GATEWAY, ROUTED, DB)))
    (chain,) = gateway.get("listeners", "0.0.0.0_9000")["filter_chains"]
    assert "filter_chain_match" not in chain
    assert proxied(chain) == {CLUSTER: 80, SPARE: 20}
    assert gateway.names("clusters") == {CLUSTER, SPARE}
    gateway.told()
    mesh.apply(ROUTED.replace("weight: 80", "weight: 0").replace("- {destination: {host: spare}, weight: 20}", ""))
    assert gateway.told() == {"listeners": {"0.0.0.0_9000"}, "clusters": {SPARE}, "endpoints": {SPARE}}
    (chain,) = gateway.get("listeners", "0.0.0.0_9000")["filter_chains"]
    assert proxied(chain) == CLUSTER


def test_without_a_route_nobody_listens(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(GATEWAY)
    assert gateway.names("listeners") == set()
    mesh.apply(ROUTED + "---" + DB)
    assert gateway.names("listeners") == {"0.0.0.0_9000"}
    mesh.apply(ROUTED.replace("port: 9000", "port: 9001"))
    assert gateway.names("listeners") == gateway.names("clusters") == set()
    mesh.apply(ROUTED)
    mesh.delete("VirtualService", "db")
    assert gateway.names("listeners") == set()


def test_a_route_may_name_the_gateways_that_it_is_for(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((GATEWAY, DB, ROUTED.replace("{port: 9000}", "{gateways: [other]}"))))
    assert gateway.names("listeners") == set()
    mesh.apply(ROUTED.replace("{port: 9000}", "{gateways: [other, default/tcp]}"))
    assert gateway.names("listeners") == {"0.0.0.0_9000"}


def test_tls_that_ends_at_the_gateway_goes_on_as_bytes(mesh: Any) -> None:
    gateway = mesh.gateway()
    ended = GATEWAY.replace("protocol: TCP", "protocol: TLS").replace('["*"]', "[db.example.com]")
    mesh.apply("---".join((ended + "    tls: {mode: SIMPLE, credentialName: db}\n", ROUTED, DB)))
    (chain,) = gateway.get("listeners", "0.0.0.0_9000")["filter_chains"]
    assert chain["filter_chain_match"] == {"server_names": ["db.example.com"]}
    assert proxied(chain) == {CLUSTER: 80, SPARE: 20}
    context = chain["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_certificate_sds_secret_configs"][0]["name"] == "kubernetes://db"
    mesh.apply(ended + "    tls: {mode: ISTIO_MUTUAL}")
    (chain,) = gateway.get("listeners", "0.0.0.0_9000")["filter_chains"]
    context = chain["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["alpn_protocols"] == ["h2", "http/1.1"]


def test_tls_is_passed_through_by_its_server_name(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((PASSED, BY_NAME, DB)))
    listener = gateway.get("listeners", "0.0.0.0_443")
    assert [found["name"] for found in listener["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]
    first, second = listener["filter_chains"]
    assert (first["filter_chain_match"], proxied(first)) == ({"server_names": ["db.example.com"]}, CLUSTER)
    names = ["spare.example.com", "*.spare.example.com"]
    assert (second["filter_chain_match"], proxied(second)) == ({"server_names": names}, SPARE)
    assert "transport_socket" not in first
    assert gateway.names("routes") == set()


def test_https_that_ends_and_tls_that_does_not_share_a_port(mesh: Any) -> None:
    gateway = mesh.gateway()
    both = (
        PASSED
        + """
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [spare.example.com]
    tls: {mode: SIMPLE, credentialName: web}
"""
    )
    mesh.apply("---".join((both, BY_NAME, DB)))
    chains = gateway.get("listeners", "0.0.0.0_443")["filter_chains"]
    assert [chain["filter_chain_match"]["server_names"] for chain in chains] == [
        ["spare.example.com"],
        ["db.example.com"],
    ], "Envoy takes each name once: the server's own goes before a route's"


def test_tls_is_passed_on_to_the_cluster_that_its_server_name_is(mesh: Any) -> None:
    gateway = mesh.gateway()
    external = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out}
spec: {hosts: [out.default.svc.cluster.local], resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}]}
"""
    auto = PASSED.replace("PASSTHROUGH", "AUTO_PASSTHROUGH").replace("*.example.com", "*.default.svc.cluster.local")
    mesh.apply("---".join((auto, DB, external, DB.replace("name: db", "name: db, namespace: other"))))
    names = {name.replace("|", "_.") for name in (CLUSTER, SPARE)}
    chains = gateway.get("listeners", "0.0.0.0_443")["filter_chains"]
    assert [chain["filter_chain_match"] for chain in chains] == [
        {
            "server_names": [name],
            "application_protocols": ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
        }
        for name in sorted(names)
    ]
    assert {proxied(chain) for chain in chains} == gateway.names("clusters") == gateway.names("endpoints") == names
    mesh.delete("Service", "spare")
    assert gateway.names("clusters") == {CLUSTER.replace("|", "_.")}
    mesh.apply(TLS_TO_DB)
    passed_on = gateway.get("clusters", CLUSTER.replace("|", "_."))
    assert "transport_socket" not in passed_on  # what passes is TLS already
    assert passed_on["circuit_breakers"]["thresholds"][0]["max_connections"] == 7
    mesh.delete("DestinationRule", "db")
    mesh.apply(PASSED)
    assert gateway.names("clusters") == gateway.names("listeners") == set()


def test_what_rules_say_of_connections(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("---".join((GATEWAY, DB, ROUTED)))

    def said() -> Any:
        (chain,) = gateway.get("listeners", "0.0.0.0_9000")["filter_chains"]
        config = chain["filters"][0]["typed_config"]
        return {name: config[name] for name in ("idle_timeout", "hash_policy", "tunneling_config") if name in config}

    assert said() == {}
    policy = "{connectionPool: {tcp: {idleTimeout: 5s}}, loadBalancer: {consistentHash: {useSourceIp: true}}}"
    mesh.apply(TLS_TO_DB.split("  trafficPolicy:")[0] + f"  trafficPolicy: {policy}")
    assert said() == {"idle_timeout": "5s", "hash_policy": [{"source_ip": {}}]}
    tunnel = "{tunnel: {targetHost: far.test, targetPort: 443}}"
    mesh.apply(TLS_TO_DB.split("  trafficPolicy:")[0] + f"  trafficPolicy: {tunnel}")
    assert said() == {"tunneling_config": {"hostname": "far.test:443"}}
    mesh.delete("DestinationRule", "db")
    assert said() == {}
