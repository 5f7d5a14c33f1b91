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
