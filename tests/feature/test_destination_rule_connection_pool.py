"""DestinationRules' connection pools and outlier detection, and what MeshConfig says of all hosts."""

from __future__ import annotations

from typing import Any

import pytest

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.1.0.5
  ports:
  - {name: http, port: 80}
  - {name: grpc, port: 90}
  - {name: any, port: 100}
  - {name: tcp, port: 110}
"""
HOST = "web.default.svc.cluster.local"
UNLIMITED = 4294967295
NO_LIMITS = {
    "max_connections": UNLIMITED,
    "max_pending_requests": UNLIMITED,
    "max_requests": UNLIMITED,
    "max_retries": UNLIMITED,
    "track_remaining": True,
}
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HTTP1 = {"explicit_http_config": {"http_protocol_options": {}}}
AS_CLIENT = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}


def rule(policy: str, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web}}
spec:
  host: web
  trafficPolicy: {policy}
  {more}
"""


def cluster(proxy: Any, port: int = 80, subset: str = "") -> Any:
    return proxy.get("clusters", f"outbound|{port}|{subset}|{HOST}")


def options(proxy: Any, port: int = 80) -> Any:
    found = cluster(proxy, port).get("typed_extension_protocol_options", {}).get(HTTP, {})
    return {name: value for name, value in found.items() if name != "@type"}


def limits(proxy: Any, port: int = 80, subset: str = "") -> Any:
    (found,) = cluster(proxy, port, subset)["circuit_breakers"]["thresholds"]
    return found


def tcp_proxy(proxy: Any) -> Any:
    listener = proxy.get("listeners", "10.1.0.5_110")
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def test_limits(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    assert limits(client) == NO_LIMITS
    before = cluster(client)
    client.told()
    mesh.apply(
        rule("""
    connectionPool:
      tcp: {maxConnections: 1, connectTimeout: 250ms}
      http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRetries: 4}""")
    )
    assert limits(client) == {
        "max_connections": 1,
        "max_pending_requests": 2,
        "max_requests": 3,
        "max_retries": 4,
        "track_remaining": True,
    }
    assert cluster(client)["connect_timeout"] == "0.250s"
    assert client.told() == {"clusters": {f"outbound|{p}||{HOST}" for p in (80, 90, 100, 110)}}
    mesh.delete("DestinationRule", "web")
    assert cluster(client) == before


def test_connections_of_http(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    assert [options(client, port) for port in (80, 90, 100)] == [
        {},
        {"explicit_http_config": {"http2_protocol_options": {}}},
        AS_CLIENT,
    ]
    mesh.apply(
        rule("""
    connectionPool:
      tcp: {maxConnectionDuration: 1h, idleTimeout: 30s}
      http:
        maxRequestsPerConnection: 5
        idleTimeout: 1.5s
        maxConcurrentStreams: 7
        http2KeepAlive: {interval: 10s, timeout: 2s}""")
    )
    shared = {
        "common_http_protocol_options": {
            "idle_timeout": "1.500s",
            "max_requests_per_connection": 5,
            "max_connection_duration": "3600s",
        }
    }
    http2 = {"max_concurrent_streams": 7, "connection_keepalive": {"interval": "10s", "timeout": "2s"}}
    as_client = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": http2}}
    assert options(client, 80) == {**shared, **HTTP1}
    assert options(client, 90) == {**shared, "explicit_http_config": {"http2_protocol_options": http2}}
    assert options(client, 100) == {**shared, **as_client}
    mesh.apply(rule("{connectionPool: {tcp: {idleTimeout: 30s}}}"))
    assert options(client, 80) == {"common_http_protocol_options": {"idle_timeout": "30s"}, **HTTP1}


def test_connections_of_bytes(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    plain = tcp_proxy(client)
    assert plain.keys().isdisjoint({"idle_timeout", "max_downstream_connection_duration"})
    mesh.apply(rule("{connectionPool: {tcp: {maxConnectionDuration: 90s, idleTimeout: 0s}}}"))
    assert tcp_proxy(client) == {**plain, "idle_timeout": "0s", "max_downstream_connection_duration": "90s"}


@pytest.mark.parametrize(
    ("mesh_wide", "policy", "upgraded"),
    [
        ("DO_NOT_UPGRADE", "{}", set()),
        ("UPGRADE", "{}", {80}),
        ("UPGRADE", "{h2UpgradePolicy: DEFAULT}", {80}),
        ("UPGRADE", "{h2UpgradePolicy: DO_NOT_UPGRADE}", set()),
        ("UPGRADE", "{useClientProtocol: true}", set()),
        ("DO_NOT_UPGRADE", "{h2UpgradePolicy: UPGRADE}", {80, 100, 110}),
    ],
)
def test_upgrades(mesh: Any, mesh_wide: str, policy: str, upgraded: set[int]) -> None:
    client = mesh.sidecar()
    mesh.configure(f"h2UpgradePolicy: {mesh_wide}")
    mesh.apply(WEB + "---" + rule(f"{{connectionPool: {{tcp: {{maxConnections: 9}}, http: {policy}}}}}"))
    http2 = {"explicit_http_config": {"http2_protocol_options": {}}}
    assert {port for port in (80, 100, 110) if options(client, port) == http2} == upgraded
    if "useClientProtocol" in policy:
        assert options(client, 80) == options(client, 90) == AS_CLIENT


def test_keepalive(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    assert "upstream_connection_options" not in cluster(client)
    mesh.configure("tcpKeepalive: {probes: 3, time: 10s, interval: 4s}")
    assert cluster(client)["upstream_connection_options"] == {
        "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 4}
    }
    mesh.configure("tcpKeepalive: {probes: 3, time: 10s}")
    mesh.apply(rule("{connectionPool: {tcp: {tcpKeepalive: {time: 20s, interval: 5s}}}}"))
    assert cluster(client)["upstream_connection_options"] == {
        "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 20, "keepalive_interval": 5}
    }
    mesh.apply(rule("{connectionPool: {tcp: {tcpKeepalive: {probes: 7}}}}"))
    assert cluster(client)["upstream_connection_options"] == {
        "tcp_keepalive": {"keepalive_probes": 7, "keepalive_time": 10}
    }
    mesh.configure("{}")
    mesh.apply(rule("{connectionPool: {tcp: {tcpKeepalive: {}}}}"))
    assert cluster(client)["upstream_connection_options"] == {"tcp_keepalive": {}}


def test_retry_budgets(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB + "---" + rule("{retryBudget: {percent: 25.5, minRetryConcurrency: 2, budgetInterval: 3s}}"))
    budget = {"budget_percent": {"value": 25.5}, "min_retry_concurrency": 2}
    assert limits(client) == {**NO_LIMITS, "retry_budget": budget}
    # The published protobufs do not know budget_interval (field 3, length 2: 3 seconds); Envoy does.
    (threshold,) = client.message("clusters", f"outbound|80||{HOST}").circuit_breakers.thresholds
    assert threshold.retry_budget.SerializeToString().endswith(b"\x1a\x02\x08\x03")
    mesh.apply(rule("{retryBudget: {}}"))
    assert limits(client)["retry_budget"] == {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3}


def test_outliers(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    assert "outlier_detection" not in cluster(client)
    mesh.apply(rule("{outlierDetection: {}}"))
    assert cluster(client)["outlier_detection"] == {"enforcing_success_rate": 0}
    assert cluster(client)["common_lb_config"] == {"healthy_panic_threshold": {}}
    mesh.apply(
        rule("""
    outlierDetection:
      consecutive5xxErrors: 0
      consecutiveGatewayErrors: 4
      interval: 1s
      baseEjectionTime: 1m
      maxEjectionPercent: 50
      minHealthPercent: 30
      splitExternalLocalOriginErrors: true
      consecutiveLocalOriginFailures: 6
      outlierDetectionHttpErrorCodes: [429, 503]""")
    )
    assert cluster(client)["outlier_detection"] == {
        "enforcing_success_rate": 0,
        "consecutive_5xx": 0,
        "enforcing_consecutive_5xx": 0,
        "consecutive_gateway_failure": 4,
        "enforcing_consecutive_gateway_failure": 100,
        "interval": "1s",
        "base_ejection_time": "60s",
        "max_ejection_percent": 50,
        "split_external_local_origin_errors": True,
        "enforcing_local_origin_success_rate": 0,
        "consecutive_local_origin_failure": 6,
        "enforcing_consecutive_local_origin_failure": 100,
    }
    assert cluster(client)["common_lb_config"] == {"healthy_panic_threshold": {"value": 30.0}}

    def status(code: str) -> Any:
        header = {"name": ":status", "string_match": {"exact": code}}
        return {"http_response_headers_match": {"headers": [header]}}

    errors = {"or_match": {"rules": [status("429"), status("503")]}}
    assert options(client) == {**HTTP1, "outlier_detection": {"error_matcher": errors}}
    mesh.apply(rule("{outlierDetection: {consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [500]}}"))
    assert options(client)["outlier_detection"] == {"error_matcher": status("500")}
    assert cluster(client)["outlier_detection"]["enforcing_consecutive_5xx"] == 100


def test_what_the_mesh_says_of_hosts_that_have_no_rule(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.configure("""
defaultTrafficPolicy:
  connectionPool: {tcp: {maxConnections: 11}}
  outlierDetection: {consecutive5xxErrors: 12}
""")
    mesh.apply(WEB)

    def said(port: int = 80) -> tuple[int, int]:
        return limits(client, port)["max_connections"], cluster(client, port)["outlier_detection"]["consecutive_5xx"]

    assert said() == (11, 12)
    mesh.apply(rule("{connectionPool: {http: {maxRetries: 1}}}"))
    assert said() == (UNLIMITED, 12)
    mesh.apply(rule("{outlierDetection: {consecutive5xxErrors: 1}}"))
    assert said() == (11, 1)


def test_the_mesh_can_say_of_all_hosts_what_a_rule_says_of_one(mesh: Any) -> None:
    policy = """
    connectionPool:
      tcp:
        maxConnections: 1
        connectTimeout: 250ms
        tcpKeepalive: {probes: 2, time: 20s, interval: 5s}
        maxConnectionDuration: 90s
        idleTimeout: 30s
      http:
        http1MaxPendingRequests: 2
        http2MaxRequests: 3
        maxRequestsPerConnection: 5
        maxRetries: 4
        idleTimeout: 1.5s
        h2UpgradePolicy: DO_NOT_UPGRADE
        useClientProtocol: true
        maxConcurrentStreams: 7
        http2KeepAlive: {interval: 10s, timeout: 2s}
    outlierDetection:
      splitExternalLocalOriginErrors: true
      consecutiveLocalOriginFailures: 6
      consecutiveGatewayErrors: 4
      consecutive5xxErrors: 3
      interval: 1s
      baseEjectionTime: 1m
      maxEjectionPercent: 50
      minHealthPercent: 30
      outlierDetectionHttpErrorCodes: [429, 503]"""
    client = mesh.sidecar()
    mesh.apply(WEB)
    plain = [cluster(client, port) for port in (80, 90, 100, 110)], tcp_proxy(client)

    def without_the_rule(of: dict[str, Any]) -> dict[str, Any]:
        """A cluster, but for the word of which rule it was made from."""
        metadata = of["metadata"]["filter_metadata"]
        kept = {name: value for name, value in metadata["istio"].items() if name != "config"}
        return {**of, "metadata": {"filter_metadata": {**metadata, "istio": kept}}}

    mesh.apply(rule(policy))
    ruled = [without_the_rule(cluster(client, port)) for port in (80, 90, 100, 110)], tcp_proxy(client)
    mesh.delete("DestinationRule", "web")
    assert ([cluster(client, port) for port in (80, 90, 100, 110)], tcp_proxy(client)) == plain
    mesh.configure(f"defaultTrafficPolicy: {policy}")
    of_mesh = [cluster(client, port) for port in (80, 90, 100, 110)], tcp_proxy(client)
    assert of_mesh == ruled
    assert all(found != before for found, before in zip(of_mesh[0], plain[0], strict=True))
    assert of_mesh[1] != plain[1]


def test_upgrades_by_the_word_for_all_hosts(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    mesh.configure("defaultTrafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}")
    assert options(client) == {"explicit_http_config": {"http2_protocol_options": {}}}


def test_subsets_and_ports_have_their_own(mesh: Any) -> None:
    client = mesh.sidecar()
    policy = """
    connectionPool: {tcp: {maxConnections: 1}}
    outlierDetection: {consecutive5xxErrors: 1}
    retryBudget: {}
    portLevelSettings: [{port: {number: 90}, connectionPool: {tcp: {maxConnections: 2}}}]"""
    subsets = """
  subsets:
  - {name: same}
  - {name: own, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
  - name: port
    trafficPolicy:
      connectionPool: {tcp: {maxConnections: 4}}
      portLevelSettings: [{port: {number: 80}, outlierDetection: {consecutive5xxErrors: 2}}]"""
    mesh.apply(WEB + "---" + rule(policy, subsets))

    def said(port: int, subset: str = "") -> tuple[int, int | None, bool]:
        found = limits(client, port, subset)
        ejected = cluster(client, port, subset).get("outlier_detection", {}).get("consecutive_5xx")
        return found["max_connections"], ejected, "retry_budget" in found

    assert said(80) == said(80, "same") == (1, 1, True)
    assert said(80, "own") == (3, 1, True)
    assert said(90) == said(90, "same") == (2, None, False)
    assert said(90, "own") == (3, None, False)
    assert said(80, "port") == (UNLIMITED, 2, True)
    assert said(100, "port") == (4, 1, True)


def test_a_port_has_all_settings_of_its_own(mesh: Any) -> None:
    client = mesh.sidecar()
    own = "outlierDetection: {consecutive5xxErrors: 2}, loadBalancer: {simple: RANDOM}"
    mesh.apply(WEB + "---" + rule(f"{{portLevelSettings: [{{port: {{number: 90}}, {own}}}]}}"))
    assert cluster(client, 90)["outlier_detection"]["consecutive_5xx"] == 2
    assert cluster(client, 90)["lb_policy"] == "RANDOM"
    assert "outlier_detection" not in cluster(client, 80)
    assert cluster(client, 80)["lb_policy"] == "LEAST_REQUEST"
