"""Sidecar: what workloads serve, where their programs listen for it, and the limits of connections to them."""

from __future__ import annotations

from typing import Any

import pytest

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.1.0.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: web}}
spec: {containers: [{name: c, image: i}]}
status: {podIP: 10.0.0.9}
"""


def sidecar(spec: str) -> str:
    lines = "\n".join(f"  {line}" for line in spec.strip().splitlines())
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: web}}
spec:
{lines}
"""


@pytest.fixture
def proxy(mesh: Any) -> Any:
    mesh.apply(SERVICE)
    return mesh.sidecar(app="web")


def inbound(proxy: Any) -> set[str]:
    return {name for name in proxy.names("clusters") if name.startswith("inbound|")}


def chain_ports(proxy: Any) -> dict[int, str]:
    """The ports for which the inbound listener has chains, and the first filter of each."""
    chains = proxy.get("listeners", "virtualInbound")["filter_chains"]
    matches = ((chain["filter_chain_match"].get("destination_port"), chain["filters"][0]["name"]) for chain in chains)
    return {port: name.rpartition(".")[2] for port, name in matches if port not in (None, 15006)}


def endpoint(proxy: Any, name: str) -> Any:
    assignment = proxy.get("clusters", name)["load_assignment"]
    return assignment["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]


def test_listed_ports_take_the_place_of_those_of_services(mesh: Any, proxy: Any) -> None:
    assert inbound(proxy) == {"inbound|8080||"}
    mesh.apply(
        sidecar("""
ingress:
- port: {number: 9080, protocol: HTTP, name: http}
  defaultEndpoint: 127.0.0.1:8081
- port: {number: 7000, protocol: TCP, name: tcp}
  defaultEndpoint: unix:///var/run/app.sock
""")
    )
    assert inbound(proxy) == {"inbound|9080||", "inbound|7000||"}
    assert chain_ports(proxy) == {9080: "http_connection_manager", 7000: "tcp_proxy"}
    assert endpoint(proxy, "inbound|9080||") == {"socket_address": {"address": "127.0.0.1", "port_value": 8081}}
    assert endpoint(proxy, "inbound|7000||") == {"pipe": {"path": "/var/run/app.sock"}}
    mesh.delete("Sidecar", "web")
    assert inbound(proxy) == {"inbound|8080||"}


def test_an_endpoint_at_any_address_is_the_workloads_own(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
ingress:
- port: {number: 9080, protocol: HTTP, name: http}
  defaultEndpoint: 0.0.0.0:8081
- port: {number: 9090, protocol: GRPC, name: grpc}
""")
    )
    other_port = proxy.get("clusters", "inbound|9080||")
    assert other_port["type"] == "ORIGINAL_DST"
    assert other_port["original_dst_lb_config"] == {"upstream_port_override": 8081}
    same_port = proxy.get("clusters", "inbound|9090||")
    assert same_port["type"] == "ORIGINAL_DST"
    assert "original_dst_lb_config" not in same_port


def test_connections_to_a_workload_are_limited_as_its_sidecar_says(mesh: Any, proxy: Any) -> None:
    def limits(name: str) -> tuple[int, int]:
        (threshold,) = proxy.get("clusters", name)["circuit_breakers"]["thresholds"]
        return threshold["max_connections"], threshold["max_pending_requests"]

    unlimited = 2**32 - 1
    assert limits("inbound|8080||") == (unlimited, unlimited)
    mesh.apply(sidecar("inboundConnectionPool: {tcp: {maxConnections: 10}, http: {http1MaxPendingRequests: 5}}"))
    assert limits("inbound|8080||") == (10, 5)
    mesh.apply(
        sidecar("""
inboundConnectionPool: {tcp: {maxConnections: 10}}
ingress:
- port: {number: 9080, protocol: HTTP, name: http}
  defaultEndpoint: 127.0.0.1:8081
- port: {number: 9081, protocol: HTTP, name: more}
  defaultEndpoint: 127.0.0.1:8082
  connectionPool: {tcp: {maxConnections: 3}}
""")
    )
    assert limits("inbound|9080||") == (10, unlimited)
    assert limits("inbound|9081||") == (3, unlimited)


def test_every_setting_of_a_pool_of_connections_to_a_workload(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
ingress:
- port: {number: 9080, protocol: HTTP, name: http}
  defaultEndpoint: 127.0.0.1:8081
  connectionPool:
    tcp:
      connectTimeout: 250ms
      tcpKeepalive: {probes: 3, time: 60s, interval: 5s}
      maxConnectionDuration: 600s
      idleTimeout: 90s
    http:
      http1MaxPendingRequests: 2
      http2MaxRequests: 3
      maxRequestsPerConnection: 4
      maxRetries: 5
      idleTimeout: 30s
- port: {number: 9081, protocol: HTTP, name: upgraded}
  connectionPool:
    http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 6, http2KeepAlive: {interval: 20s, timeout: 3s}}
- port: {number: 9082, protocol: HTTP, name: as-client}
  connectionPool: {http: {useClientProtocol: true}}
""")
    )

    def options(port: int) -> Any:
        return proxy.get("clusters", f"inbound|{port}||")["typed_extension_protocol_options"][OPTIONS]

    cluster = proxy.get("clusters", "inbound|9080||")
    assert cluster["connect_timeout"] == "0.250s"
    keepalive = {"keepalive_probes": 3, "keepalive_time": 60, "keepalive_interval": 5}
    assert cluster["upstream_connection_options"]["tcp_keepalive"] == keepalive
    (threshold,) = cluster["circuit_breakers"]["thresholds"]
    assert (threshold["max_pending_requests"], threshold["max_requests"], threshold["max_retries"]) == (2, 3, 5)
    assert options(9080)["common_http_protocol_options"] == {
        "idle_timeout": "30s",
        "max_requests_per_connection": 4,
        "max_connection_duration": "600s",
    }
    assert options(9081)["explicit_http_config"]["http2_protocol_options"] == {
        "max_concurrent_streams": 6,
        "connection_keepalive": {"interval": "20s", "timeout": "3s"},
    }
    assert "use_downstream_protocol_config" in options(9082)


def test_an_idle_time_of_bytes_is_one_of_requests_that_have_none(mesh: Any, proxy: Any) -> None:
    mesh.apply(sidecar("inboundConnectionPool: {tcp: {idleTimeout: 90s}}"))
    options = proxy.get("clusters", "inbound|8080||")["typed_extension_protocol_options"][OPTIONS]
    assert options["common_http_protocol_options"] == {"idle_timeout": "90s"}


def test_what_a_destination_rule_gives_clients_the_workload_takes(mesh: Any, proxy: Any) -> None:
    """Of the host, or of its port; a Sidecar's pool goes before it."""

    def limits() -> tuple[int, int]:
        (threshold,) = proxy.get("clusters", "inbound|8080||")["circuit_breakers"]["thresholds"]
        return threshold["max_connections"], threshold["max_requests"]

    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: %s
  workloadSelector: {matchLabels: %s}
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 7}, http: {http2MaxRequests: 8, h2UpgradePolicy: UPGRADE}}
    retryBudget: {percent: 30}
    portLevelSettings: [{port: {number: %d}, connectionPool: {tcp: {maxConnections: 5}}}]
"""
    unlimited = 2**32 - 1
    assert limits() == (unlimited, unlimited)
    mesh.apply(rule % ("web", "{}", 81))
    assert limits() == (7, 8)
    cluster = proxy.get("clusters", "inbound|8080||")
    assert cluster["circuit_breakers"]["thresholds"][0]["retry_budget"]["budget_percent"] == {"value": 30.0}
    assert "typed_extension_protocol_options" not in cluster, "an upgrade is between the proxies"
    assert cluster["metadata"]["filter_metadata"]["istio"]["config"].endswith("/destination-rule/web")
    mesh.apply(rule % ("'*.default.svc.cluster.local'", "{}", 80))
    assert limits() == (5, unlimited)
    mesh.apply(sidecar("inboundConnectionPool: {tcp: {maxConnections: 3}}"))
    assert limits() == (3, unlimited)
    mesh.delete("Sidecar", "web")
    mesh.apply(rule % ("web", "{app: web}", 81))
    assert limits() == (unlimited, unlimited), "it is for certain clients"


def test_listed_ports_have_the_pool_of_the_service_that_leads_there(mesh: Any, proxy: Any) -> None:
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}
""")
    mesh.apply(
        sidecar("""
ingress:
- port: {number: 8080, protocol: HTTP, name: http}
- port: {number: 8081, protocol: HTTP, name: other}
""")
    )
    found = [proxy.get("clusters", f"inbound|{port}||")["circuit_breakers"]["thresholds"][0] for port in (8080, 8081)]
    assert [threshold["max_connections"] for threshold in found] == [7, 2**32 - 1]


def test_an_address_names_the_chains_of_captured_connections(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
ingress:
- {port: {number: 9080, protocol: HTTP, name: http}, bind: 10.0.0.9, captureMode: IPTABLES}
""")
    )
    chains = [
        chain
        for chain in proxy.get("listeners", "virtualInbound")["filter_chains"]
        if chain["filter_chain_match"].get("destination_port") == 9080
    ]
    assert [chain["name"] for chain in chains] == ["10.0.0.9_9080"] * 2, "for mutual TLS, and for plaintext"
    assert {c["filters"][-1]["typed_config"]["stat_prefix"] for c in chains} == {"inbound_10.0.0.9_9080;"}


def test_a_port_that_is_not_captured_has_a_listener_of_its_own(mesh: Any, proxy: Any) -> None:
    mesh.apply(
        sidecar("""
ingress:
- port: {number: 9080, protocol: HTTP, name: http}
  bind: 127.0.0.8
  captureMode: NONE
  defaultEndpoint: 127.0.0.1:8081
- port: {number: 9081, protocol: TCP, name: tcp}
  captureMode: NONE
- port: {number: 9082, name: auto}
  captureMode: NONE
- port: {number: 9083, protocol: TCP, name: captured}
""")
    )
    assert set(chain_ports(proxy)) == {9083}
    http = proxy.get("listeners", "127.0.0.8_9080")
    assert http["address"]["socket_address"] == {"address": "127.0.0.8", "port_value": 9080}
    assert "bind_to_port" not in http, "Envoy binds by default"
    assert http["traffic_direction"] == "INBOUND"
    assert [each["name"] for each in http["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]
    mutual, plain = http["filter_chains"]
    assert mutual["filter_chain_match"]["transport_protocol"] == "tls" and "transport_socket" in mutual
    assert plain["filter_chain_match"] == {"destination_port": 9080, "transport_protocol": "raw_buffer"}
    assert endpoint(proxy, "inbound|9080||") == {"socket_address": {"address": "127.0.0.1", "port_value": 8081}}
    tcp = proxy.get("listeners", "10.0.0.9_9081")
    assert tcp["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] == "inbound|9081||"
    assert endpoint(proxy, "inbound|9081||") == {"socket_address": {"address": "127.0.0.1", "port_value": 9081}}
    auto = proxy.get("listeners", "10.0.0.9_9082")
    inspectors = [each["name"].rpartition(".")[2] for each in auto["listener_filters"]]
    assert inspectors == ["tls_inspector", "http_inspector"]
    assert len(auto["filter_chains"]) == 5
    mesh.delete("Sidecar", "web")
    assert not {"127.0.0.8_9080", "10.0.0.9_9081", "10.0.0.9_9082"} & proxy.names("listeners")


def tls_files(folder: Any, make: Any) -> str:
    certificate, key = make("example.com")
    for name, content in (("cert", certificate), ("key", key), ("roots", certificate)):
        (folder / name).write_bytes(content)
    return f"serverCertificate: {folder}/cert, privateKey: {folder}/key, caCertificates: {folder}/roots"


def _of_mesh(chain: Any) -> bool:
    return "istio" in chain["filter_chain_match"].get("application_protocols", ())


def encrypted(proxy: Any, port: int) -> tuple[Any, Any]:
    """The chain of a port for TLS that is not the mesh's, and its TLS context."""
    chains = proxy.get("listeners", "virtualInbound")["filter_chains"]
    chains = [c for c in chains if c["filter_chain_match"].get("destination_port") == port and not _of_mesh(c)]
    (chain,) = [c for c in chains if c["filter_chain_match"]["transport_protocol"] == "tls"]
    return chain, chain.get("transport_socket", {}).get("typed_config")


def test_tls_ends_at_the_sidecar(mesh: Any, proxy: Any, tmp_path: Any, make_certificate: Any) -> None:
    files = tls_files(tmp_path, make_certificate)
    mesh.apply(
        sidecar(f"""
ingress:
- port: {{number: 9443, protocol: HTTPS, name: https}}
  defaultEndpoint: 127.0.0.1:8080
  tls: {{mode: SIMPLE, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3, cipherSuites: [ALL], {files}}}
- port: {{number: 9444, protocol: TLS, name: tls}}
  tls:
    mode: MUTUAL
    {files.replace(", ", chr(10) + "    ")}
    insecureSkipVerify: false
    verifyCertificateSpki: ["{"A" * 43}="]
    verifyCertificateHash: ["{"ab" * 32}"]
- port: {{number: 9445, protocol: HTTPS, name: passed-on}}
  tls: {{mode: PASSTHROUGH}}
- port: {{number: 9080, protocol: HTTP, name: http}}
""")
    )
    chain, context = encrypted(proxy, 9443)
    assert chain["filter_chain_match"] == {"destination_port": 9443, "transport_protocol": "tls"}
    assert chain["filters"][0]["name"].endswith("http_connection_manager")
    assert context["require_client_certificate"] is False
    common = context["common_tls_context"]
    assert common["alpn_protocols"] == ["h2", "http/1.1"]
    pair = f"file-cert:{tmp_path}/cert~{tmp_path}/key"
    assert [secret["name"] for secret in common["tls_certificate_sds_secret_configs"]] == [pair]
    assert common["tls_params"] == {
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": ["ALL"],
    }
    chain, context = encrypted(proxy, 9444)
    assert chain["filters"][0]["name"].endswith("tcp_proxy")
    assert context["require_client_certificate"] is True
    combined = context["common_tls_context"]["combined_validation_context"]
    assert combined["validation_context_sds_secret_config"]["name"] == f"file-root:{tmp_path}/roots"
    assert combined["default_validation_context"] == {
        "verify_certificate_spki": ["A" * 43 + "="],
        "verify_certificate_hash": ["ab" * 32],
    }
    chain, context = encrypted(proxy, 9445)
    assert context is None
    assert chain["filters"][0]["name"].endswith("tcp_proxy"), "it ends in the program"
    assert proxy.names("secrets") == {pair, f"file-root:{tmp_path}/roots"}
    filters = {f["name"].rpartition(".")[2]: f for f in proxy.get("listeners", "virtualInbound")["listener_filters"]}
    assert filters["tls_inspector"]["filter_disabled"] == {"destination_port_range": {"start": 15006, "end": 15007}}


def test_tls_of_a_port_that_is_not_captured(
    mesh: Any, proxy: Any, tmp_path: Any, make_certificate: Any, revocations: bytes
) -> None:
    files = tls_files(tmp_path, make_certificate)
    (tmp_path / "crl").write_bytes(revocations)
    mesh.apply(
        sidecar(f"""
ingress:
- port: {{number: 9443, protocol: HTTPS, name: https}}
  captureMode: NONE
  defaultEndpoint: unix:///var/run/app.sock
  tls: {{mode: OPTIONAL_MUTUAL, caCrl: {tmp_path}/crl, {files}}}
""")
    )
    listener = proxy.get("listeners", "10.0.0.9_9443")
    assert [each["name"] for each in listener["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]
    context = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    validation = context["combined_validation_context"]["default_validation_context"]
    assert validation == {"crl": {"filename": f"{tmp_path}/crl"}}
