"""Mutual TLS inside the mesh: what servers take, whom clients speak it with, and whom both believe."""

from __future__ import annotations

from typing import Any

import pytest

FILES = "/run/pilotfish/proxy"
MESH_HTTP = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
MESH_BYTES = ["istio-peer-exchange", "istio"]
ANY_OF_MESH = ["istio", "istio-peer-exchange", *MESH_HTTP]
SNIFFED = ["http/1.1", "h2c"]

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.1.0.5
  selector: {app: web}
  ports:
  - {name: http, port: 80}
  - {name: http2, port: 81}
  - {name: tcp, port: 83}
  - {name: auto, port: 85}
  - {name: tls, port: 443}
"""
SLICE = """
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [ENDPOINTS]
ports: [{name: http, port: 80}, {name: http2, port: 81}, {name: tcp, port: 83}, {name: auto, port: 85},
        {name: tls, port: 443}]
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.test]
  addresses: [10.1.0.6]
  ports: [{number: 90, name: tcp, protocol: TCP}]
  location: MESH_INTERNAL
  resolution: STATIC
"""


def pod(name: str, ip: str, *, account: str = "web", mode: str = "istio") -> str:
    labels = f"{{app: web, security.istio.io/tlsMode: {mode}}}" if mode else "{app: web}"
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {labels}}}
spec: {{serviceAccountName: {account}, containers: [{{name: web, image: web}}]}}
status: {{podIP: {ip}}}
"""


def behind(*pods: tuple[str, str]) -> str:
    """The Service's endpoints: pods by name and address."""
    found = (f"{{addresses: [{ip}], targetRef: {{kind: Pod, name: {name}}}}}" for name, ip in pods)
    return SLICE.replace("ENDPOINTS", ", ".join(found))


ONE = SERVICE + pod("web-1", "10.0.0.21") + behind(("web-1", "10.0.0.21"))


def rule(policy: str, host: str = "web.default.svc.cluster.local", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web}}
spec: {{host: {host}, trafficPolicy: {policy}, {more}}}
"""


def cluster(proxy: Any, port: int = 80, subset: str = "", host: str = "web.default.svc.cluster.local") -> Any:
    return proxy.get("clusters", f"outbound|{port}|{subset}|{host}")


def where_taken(found: Any) -> Any:
    """The TLS that a cluster begins with endpoints that take it; None where it knows no such thing."""
    matches = found.get("transport_socket_matches")
    if matches is None:
        return None
    assert "transport_socket" not in found
    assert [(m["name"], m["match"]) for m in matches] == [
        ("tlsMode-istio", {"tlsMode": "istio"}),
        ("tlsMode-disabled", {}),
    ]
    assert matches[1]["transport_socket"]["name"] == "envoy.transport_sockets.raw_buffer"
    return matches[0]["transport_socket"]["typed_config"]


def believed(context: Any) -> list[str]:
    """The names of which a server must show one."""
    validation = context["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    names = validation.get("match_typed_subject_alt_names", [])
    assert all(name["san_type"] == "URI" for name in names if name["matcher"]["exact"].startswith("spiffe://"))
    return [name["matcher"]["exact"] for name in names]


def taking(proxy: Any, port: int = 80, host: str = "web.default.svc.cluster.local") -> dict[str, bool]:
    """Which endpoints are known to take mutual TLS, by address."""
    assignment = proxy.get("endpoints", f"outbound|{port}||{host}")
    endpoints = [e for locality in assignment.get("endpoints", ()) for e in locality["lb_endpoints"]]
    return {
        e["endpoint"]["address"]["socket_address"]["address"]: e.get("metadata", {})
        .get("filter_metadata", {})
        .get("envoy.transport_socket_match")
        == {"tlsMode": "istio"}
        for e in endpoints
    }


def secret(name: str) -> Any:
    source = {"path": f"{FILES}/sds-{name}.json", "watched_directory": {"path": FILES}}
    return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}


# Servers


def ways(listener: Any, port: int | None) -> list[tuple[str, list[str], str, bool]]:
    """How connections may come to a port: transport, protocols, what is behind them, and whether TLS ends here."""
    return [
        (
            chain["filter_chain_match"]["transport_protocol"],
            chain["filter_chain_match"].get("application_protocols", []),
            "http" if "http_connection_manager" in chain["filters"][-1]["name"] else "tcp",
            "transport_socket" in chain,
        )
        for chain in listener["filter_chains"]
        if chain["filter_chain_match"].get("destination_port") == port
    ]


def test_servers_take_it_beside_anything_else(mesh: Any) -> None:
    proxy = mesh.sidecar("web-1", ip="10.0.0.21", app="web")
    mesh.apply(SERVICE)
    listener = proxy.get("listeners", "virtualInbound")
    for port in (80, 81):
        assert ways(listener, port) == [("tls", ANY_OF_MESH, "http", True), ("raw_buffer", [], "http", False)]
    for port in (83, 443):
        assert ways(listener, port) == [
            ("tls", ANY_OF_MESH, "tcp", True),
            ("raw_buffer", [], "tcp", False),
            ("tls", [], "tcp", False),
        ]
    for port in (85, None):
        assert ways(listener, port) == [
            ("tls", MESH_HTTP, "http", True),
            ("tls", MESH_BYTES, "tcp", True),
            ("raw_buffer", SNIFFED, "http", False),
            ("raw_buffer", [], "tcp", False),
            ("tls", [], "tcp", False),
        ]
    filters = {f["name"].rpartition(".")[2]: f for f in listener["listener_filters"]}
    assert list(filters) == ["original_dst", "tls_inspector", "http_inspector"]
    assert filters["tls_inspector"]["filter_disabled"] == {"destination_port_range": {"start": 15006, "end": 15007}}


def test_servers_believe_certificates_of_the_mesh(mesh: Any) -> None:
    proxy = mesh.sidecar("web-1", ip="10.0.0.21", app="web")

    def context() -> Any:
        chains = proxy.get("listeners", "virtualInbound")["filter_chains"]
        sockets = [chain["transport_socket"] for chain in chains if "transport_socket" in chain]
        assert sockets and all(socket == sockets[0] for socket in sockets)
        return sockets[0]["typed_config"]

    assert context() == {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
                "cipher_suites": [
                    "ECDHE-ECDSA-AES256-GCM-SHA384",
                    "ECDHE-RSA-AES256-GCM-SHA384",
                    "ECDHE-ECDSA-AES128-GCM-SHA256",
                    "ECDHE-RSA-AES128-GCM-SHA256",
                    "AES256-GCM-SHA384",
                    "AES128-GCM-SHA256",
                ],
            },
            "tls_certificate_sds_secret_configs": [secret("default")],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}
                    ]
                },
                "validation_context_sds_secret_config": secret("ROOTCA"),
            },
        },
    }
    mesh.configure(
        """
        trustDomainAliases: [old.test]
        meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]}
        """
    )
    common = context()["common_tls_context"]
    names = common["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]
    assert [name["matcher"]["prefix"] for name in names] == ["spiffe://cluster.local/", "spiffe://old.test/"]
    assert common["tls_params"] == {
        "tls_minimum_protocol_version": "TLSv1_3",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384"],
    }


def test_workloads_are_told_who_called(mesh: Any) -> None:
    proxy = mesh.sidecar("web-1", ip="10.0.0.21", app="web")
    mesh.apply(SERVICE)
    chains = proxy.get("listeners", "virtualInbound")["filter_chains"]
    for chain in (c for c in chains if "transport_socket" in c and "http" in c["filters"][-1]["name"]):
        manager = chain["filters"][-1]["typed_config"]
        assert manager["forward_client_cert_details"] == "APPEND_FORWARD"
        assert manager["set_current_client_cert_details"] == {"subject": True, "dns": True, "uri": True}


# Clients


def test_clients_speak_it_with_those_who_take_it(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICE + pod("web-1", "10.0.0.21", mode="") + behind(("web-1", "10.0.0.21")))
    assert where_taken(cluster(client)) is None, "there is nobody to speak it with"
    assert taking(client) == {"10.0.0.21": False}
    two = behind(("web-1", "10.0.0.21"), ("web-2", "10.0.0.22"))
    mesh.apply(pod("web-2", "10.0.0.22") + two)
    assert taking(client) == {"10.0.0.21": False, "10.0.0.22": True}
    assert where_taken(cluster(client)) == {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "outbound_.80_._.web.default.svc.cluster.local",
        "common_tls_context": {
            "alpn_protocols": ["istio-http/1.1", "istio", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [secret("default")],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/default/sa/web"}}
                    ]
                },
                "validation_context_sds_secret_config": secret("ROOTCA"),
            },
        },
    }
    mesh.apply(pod("web-2", "10.0.0.22", mode="disabled"))
    assert taking(client) == {"10.0.0.21": False, "10.0.0.22": False}
    assert where_taken(cluster(client)) is None


@pytest.mark.parametrize(
    ("port", "offered", "for_requests"),
    [
        (80, ["istio-http/1.1", "istio", "http/1.1"], None),
        (81, ["istio-h2", "istio", "h2"], None),
        (83, ["istio"], None),
        (85, ["istio"], "istio-http/1.1,istio-h2,istio"),
        (443, ["istio"], None),
    ],
)
def test_servers_are_told_what_is_inside(mesh: Any, port: int, offered: list[str], for_requests: str | None) -> None:
    client = mesh.sidecar()
    mesh.apply(ONE)
    found = cluster(client, port)
    assert where_taken(found)["common_tls_context"]["alpn_protocols"] == offered
    told = found["metadata"]["filter_metadata"].get("pilotfish.security")
    assert told == (None if for_requests is None else {"request_protocols": for_requests})


def test_a_port_that_ends_tls_of_its_own_does_not_take_it(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(ONE)
    client.told()
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web}
spec:
  workloadSelector: {labels: {app: web}}
  ingress:
  - {port: {number: 443, protocol: HTTPS, name: https}, tls: {mode: SIMPLE, credentialName: web}}
  - {port: {number: 80, protocol: HTTP, name: http}}
""")
    assert client.told()["endpoints"] == {"outbound|443||web.default.svc.cluster.local"}
    assert (taking(client, 443), taking(client)) == ({"10.0.0.21": False}, {"10.0.0.21": True})
    mesh.delete("Sidecar", "web")
    assert taking(client, 443) == {"10.0.0.21": True}


def test_nobody_speaks_it_where_the_mesh_says_so(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(ONE)
    assert where_taken(cluster(client)) is not None
    mesh.configure("enableAutoMtls: false")
    assert where_taken(cluster(client)) is None
    mesh.apply(rule("{tls: {mode: ISTIO_MUTUAL}}"))
    assert cluster(client)["transport_socket"]["name"] == "envoy.transport_sockets.tls"


def test_rules_go_first(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(ONE)
    subsets = "subsets: [{name: plain, trafficPolicy: {tls: {mode: DISABLE}}}, {name: other}]"
    mesh.apply(rule("{portLevelSettings: [{port: {number: 81}, tls: {mode: SIMPLE}}]}", more=subsets))
    assert where_taken(cluster(client)) is not None
    simple = cluster(client, 81)
    assert where_taken(simple) is None
    assert "tls_certificate_sds_secret_configs" not in str(simple["transport_socket"])
    plain = cluster(client, 80, "plain")
    assert where_taken(plain) is None and "transport_socket" not in plain
    assert where_taken(cluster(client, 80, "other"))["sni"] == "outbound_.80_.other_.web.default.svc.cluster.local"


def test_a_rule_asks_for_it_of_every_endpoint(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICE + pod("web-1", "10.0.0.21", mode="") + behind(("web-1", "10.0.0.21")))

    def context() -> Any:
        found = cluster(client)
        assert where_taken(found) is None
        return found["transport_socket"]["typed_config"]

    mesh.apply(rule("{tls: {mode: ISTIO_MUTUAL}}"))
    assert context()["sni"] == "outbound_.80_._.web.default.svc.cluster.local"
    assert believed(context()) == ["spiffe://cluster.local/ns/default/sa/web"]
    mesh.apply(rule("{tls: {mode: ISTIO_MUTUAL, sni: web.test, subjectAltNames: ['spiffe://x/y', web.test]}}"))
    assert context()["sni"] == "web.test"
    assert believed(context()) == ["spiffe://x/y", "web.test"]


def test_a_proxy_header_goes_before_it(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(ONE + "---" + rule("{proxyProtocol: {version: V2}}"))
    sockets = [match["transport_socket"] for match in cluster(client)["transport_socket_matches"]]
    assert {socket["name"] for socket in sockets} == {"envoy.transport_sockets.upstream_proxy_protocol"}
    inner = [socket["typed_config"]["transport_socket"]["name"].rpartition(".")[2] for socket in sockets]
    assert inner == ["tls", "raw_buffer"]


def test_endpoints_that_are_not_sent_all_take_it_or_none(mesh: Any) -> None:
    client = mesh.sidecar()
    headless = SERVICE.replace("10.1.0.5", "None")
    mesh.apply(headless + pod("web-1", "10.0.0.21") + behind(("web-1", "10.0.0.21")))
    found = cluster(client)
    assert found["type"] == "ORIGINAL_DST"
    assert believed(found["transport_socket"]["typed_config"]) == ["spiffe://cluster.local/ns/default/sa/web"]
    mesh.apply(pod("web-2", "10.0.0.22", mode="") + behind(("web-1", "10.0.0.21"), ("web-2", "10.0.0.22")))
    assert "transport_socket" not in cluster(client)


# Whom clients believe


def test_accounts_come_and_go(mesh: Any) -> None:
    client = mesh.sidecar()
    other = mesh.sidecar("other", ip="10.0.0.8")
    mesh.apply(ONE)
    name = "outbound|80||web.default.svc.cluster.local"
    client.told()

    mesh.apply(pod("web-2", "10.0.0.22") + behind(("web-1", "10.0.0.21"), ("web-2", "10.0.0.22")))
    assert set(client.told()) == {"endpoints"}, "the same account: clusters are as they were"
    before = cluster(client, 83)
    mesh.apply(pod("web-2", "10.0.0.22", account="next"))
    told = client.told()
    assert name in told["clusters"] and set(told) == {"clusters"}
    assert {cluster_name.rpartition("|")[2] for cluster_name in told["clusters"]} == {"web.default.svc.cluster.local"}
    accounts = ["spiffe://cluster.local/ns/default/sa/next", "spiffe://cluster.local/ns/default/sa/web"]
    assert believed(where_taken(cluster(client))) == accounts
    assert cluster(client, 83) != before
    assert cluster(other) == cluster(client)
    mesh.apply(behind(("web-1", "10.0.0.21")))
    assert believed(where_taken(cluster(client))) == accounts[1:]


def test_identities_of_other_trust_domains(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.configure("trustDomainAliases: [old.test]")
    mesh.apply(ONE)
    assert believed(where_taken(cluster(client))) == [
        "spiffe://cluster.local/ns/default/sa/web",
        "spiffe://old.test/ns/default/sa/web",
    ]
    mesh.configure("trustDomain: mesh.test")
    assert believed(where_taken(cluster(client))) == ["spiffe://mesh.test/ns/default/sa/web"]
    chains = client.get("listeners", "virtualInbound")["filter_chains"]
    assert "spiffe://mesh.test/" in str(chains) and "spiffe://cluster.local/" not in str(chains)


def test_who_has_an_account_takes_it(mesh: Any) -> None:
    """Endpoints of an entry, and WorkloadEntries, as they say themselves."""
    client = mesh.sidecar()
    host = "db.test"
    mesh.apply(ENTRY + "  endpoints: [{address: 10.0.0.31, serviceAccount: db}, {address: 10.0.0.32}]")
    assert taking(client, 90, host) == {"10.0.0.31": True, "10.0.0.32": False}
    found = where_taken(cluster(client, 90, host=host))
    assert believed(found) == ["spiffe://cluster.local/ns/default/sa/db"]
    assert found["sni"] == "outbound_.90_._.db.test"

    labelled = "{address: 10.0.0.31, serviceAccount: db, labels: {security.istio.io/tlsMode: disabled}}"
    mesh.apply(ENTRY + f"  endpoints: [{labelled}]")
    assert taking(client, 90, host) == {"10.0.0.31": False}
    assert where_taken(cluster(client, 90, host=host)) is None

    mesh.apply(ENTRY + "  endpoints: [{address: 10.0.0.32}]")
    assert where_taken(cluster(client, 90, host=host)) is None, "nobody knows who is at a literal address"

    mesh.apply(
        ENTRY
        + """
  workloadSelector: {labels: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-1}
spec: {address: 10.0.0.33, serviceAccount: vm, labels: {app: db}}
"""
    )
    assert taking(client, 90, host) == {"10.0.0.33": True}
    assert believed(where_taken(cluster(client, 90, host=host))) == ["spiffe://cluster.local/ns/default/sa/vm"]


def test_an_entry_names_who_answers(mesh: Any) -> None:
    client = mesh.sidecar()
    host = "db.test"
    endpoints = "  endpoints: [{address: 10.0.0.31, serviceAccount: db}]\n"
    mesh.apply(ENTRY + endpoints + "  subjectAltNames: [db.example.com, 'spiffe://far.test/db']")
    assert believed(where_taken(cluster(client, 90, host=host))) == [
        "db.example.com",
        "spiffe://cluster.local/ns/default/sa/db",
        "spiffe://far.test/db",
    ]


def test_hosts_outside_of_the_mesh(mesh: Any) -> None:
    client = mesh.sidecar()
    external = ENTRY.replace("INTERNAL", "EXTERNAL")
    mesh.apply(external + "  endpoints: [{address: 10.0.0.31, serviceAccount: db}]")
    assert where_taken(cluster(client, 90, host="db.test")) is None
    mesh.apply(rule("{tls: {mode: ISTIO_MUTUAL}}", "db.test"))
    assert "transport_socket" in cluster(client, 90, host="db.test")


def test_names_that_are_looked_up(mesh: Any) -> None:
    client = mesh.sidecar()
    looked_up = ENTRY.replace("STATIC", "DNS")
    mesh.apply(looked_up + "  endpoints: [{address: db.internal, serviceAccount: db}]")
    found = cluster(client, 90, host="db.test")
    assert believed(where_taken(found)) == ["spiffe://cluster.local/ns/default/sa/db"]
    (endpoint,) = found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["metadata"]["filter_metadata"]["envoy.transport_socket_match"] == {"tlsMode": "istio"}


# Gateways


def test_gateways_speak_it_with_workloads(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(
        ONE
        + """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [web.test]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web.test]
  gateways: [public]
  http: [{route: [{destination: {host: web, port: {number: 85}}}]}]
"""
    )
    found = cluster(gateway, 85)
    assert believed(where_taken(found)) == ["spiffe://cluster.local/ns/default/sa/web"]
    manager = gateway.get("listeners", "0.0.0.0_80")["filter_chains"][0]["filters"][0]["typed_config"]
    assert [f["name"] for f in manager["http_filters"]][1] == "istio.alpn"


def test_only_workloads_that_take_it_are_behind_gateways_between_networks(mesh: Any) -> None:
    gateway = mesh.gateway()
    two = pod("web-2", "10.0.0.22", mode="") + behind(("web-1", "10.0.0.21"), ("web-2", "10.0.0.22"))
    mesh.apply(
        ONE
        + two
        + """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 15443, name: tls, protocol: TLS}, hosts: ["*.local"], tls: {mode: AUTO_PASSTHROUGH}}
"""
    )
    name = "outbound_.80_._.web.default.svc.cluster.local"
    assert "transport_socket" not in str(gateway.get("clusters", name)).replace("transport_socket_match'", "")
    (locality,) = gateway.get("endpoints", name)["endpoints"]
    found = [e["endpoint"]["address"]["socket_address"]["address"] for e in locality["lb_endpoints"]]
    assert found == ["10.0.0.21"]


def test_the_gateway_of_a_node_speaks_plainly(mesh: Any) -> None:
    node = mesh.node_gateway()
    mesh.apply(ONE.replace("{name: http, port: 80}\n", "{name: http, port: 80, nodePort: 30080}\n", 1))
    found = cluster(node)
    assert where_taken(found) is None and "transport_socket" not in found
