"""DestinationRules' load balancers: which endpoint gets a request."""

from __future__ import annotations

from typing import Any

import pytest

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}, {name: tcp, port: 90}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}, {name: tcp, port: 9090}]
endpoints: [{addresses: [10.0.0.21], conditions: {ready: true}}]
"""
HOST = "web.default.svc.cluster.local"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def rule(settings: str, more: str = "{}") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web}}
spec:
  host: web
  trafficPolicy: {{loadBalancer: {settings}}}
  subsets: [{{name: own, trafficPolicy: {more}}}]
"""


def balancing(proxy: Any, subset: str = "", port: int = 80) -> dict[str, Any]:
    found = proxy.get("clusters", f"outbound|{port}|{subset}|{HOST}")
    return {name: value for name, value in found.items() if name == "lb_policy" or name.endswith("_lb_config")}


def hashed(proxy: Any) -> Any:
    options = proxy.get("clusters", f"outbound|80||{HOST}").get("typed_extension_protocol_options", {})
    return options.get(HTTP, {}).get("hash_policy")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{}", {"lb_policy": "LEAST_REQUEST"}),
        ("{simple: UNSPECIFIED}", {"lb_policy": "LEAST_REQUEST"}),
        ("{simple: LEAST_REQUEST}", {"lb_policy": "LEAST_REQUEST"}),
        ("{simple: LEAST_CONN}", {"lb_policy": "LEAST_REQUEST"}),
        ("{simple: RANDOM}", {"lb_policy": "RANDOM"}),
        ("{simple: ROUND_ROBIN}", {}),  # Envoy's default
        (
            "{simple: ROUND_ROBIN, warmupDurationSecs: 30s}",
            {"round_robin_lb_config": {"slow_start_config": {"slow_start_window": "30s"}}},
        ),
        (
            "{warmup: {duration: 60s}}",
            {
                "lb_policy": "LEAST_REQUEST",
                "least_request_lb_config": {
                    "slow_start_config": {
                        "slow_start_window": "60s",
                        "aggression": {"default_value": 1.0, "runtime_key": "warmup.aggression"},
                        "min_weight_percent": {"value": 10.0},
                    }
                },
            },
        ),
        (
            "{simple: ROUND_ROBIN, warmup: {duration: 1m, minimumPercent: 5, aggression: 2}}",
            {
                "round_robin_lb_config": {
                    "slow_start_config": {
                        "slow_start_window": "60s",
                        "aggression": {"default_value": 2.0, "runtime_key": "warmup.aggression"},
                        "min_weight_percent": {"value": 5.0},
                    }
                }
            },
        ),
        (
            "{consistentHash: {httpHeaderName: x}}",
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": "1024"}},
        ),
        (
            "{consistentHash: {httpHeaderName: x, minimumRingSize: 7}}",
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": "7"}},
        ),
        (
            "{consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 9}}}",
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": "9"}},
        ),
        ("{consistentHash: {httpHeaderName: x, ringHash: {}}}", {"lb_policy": "RING_HASH"}),
        ("{consistentHash: {httpHeaderName: x, maglev: {}}}", {"lb_policy": "MAGLEV"}),
        (
            "{consistentHash: {httpHeaderName: x, maglev: {tableSize: 101}}}",
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": "101"}},
        ),
    ],
)
def test_choices(mesh: Any, settings: str, expected: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB + "---" + rule(settings, "{loadBalancer: {simple: RANDOM}}"))
    assert balancing(client) == expected
    assert balancing(client, "own") == {"lb_policy": "RANDOM"}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("httpHeaderName: x-user", {"header": {"header_name": "x-user"}}),
        ("httpQueryParameterName: user", {"query_parameter": {"name": "user"}}),
        ("useSourceIp: true", {"connection_properties": {"source_ip": True}}),
        ("httpCookie: {name: user}", {"cookie": {"name": "user"}}),
        (
            "httpCookie: {name: user, path: /a, ttl: 0s, attributes: [{name: SameSite, value: Strict}]}",
            {
                "cookie": {
                    "name": "user",
                    "path": "/a",
                    "ttl": "0s",
                    "attributes": [{"name": "SameSite", "value": "Strict"}],
                }
            },
        ),
    ],
)
def test_requests_are_hashed_wherever_a_route_comes_from(mesh: Any, key: str, expected: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)
    assert hashed(client) is None
    mesh.apply(rule(f"{{consistentHash: {{{key}}}}}"))
    assert hashed(client) == [expected]


def test_connections_are_hashed_by_their_source(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB)

    def policy() -> Any:
        chain = client.get("listeners", "10.1.0.5_90")["filter_chains"][0]
        return chain["filters"][0]["typed_config"].get("hash_policy")

    assert policy() is None
    mesh.apply(rule("{consistentHash: {useSourceIp: true}}"))
    assert policy() == [{"source_ip": {}}]
    mesh.apply(rule("{consistentHash: {httpHeaderName: x}}"))
    assert policy() is None


def test_passed_through(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(WEB + "---" + rule("{}", "{loadBalancer: {simple: PASSTHROUGH}}"))
    found = client.get("clusters", f"outbound|80|own|{HOST}")
    assert (found["type"], found["lb_policy"]) == ("ORIGINAL_DST", "CLUSTER_PROVIDED")
    assert f"outbound|80|own|{HOST}" not in client.names("endpoints")
    assert f"outbound|80||{HOST}" in client.names("endpoints")
    mesh.apply(rule("{simple: PASSTHROUGH}"))
    assert client.names("endpoints") == set()
    mesh.apply(rule("{simple: RANDOM}"))
    assert f"outbound|80||{HOST}" in client.names("endpoints")


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far}
spec:
  hosts: [far.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  endpoints: [{address: a.far.test}, {address: b.far.test}]
"""


def test_names_that_are_looked_up(mesh: Any) -> None:
    client = mesh.sidecar()
    by_source = rule("{consistentHash: {useSourceIp: true, maglev: {}}}")
    mesh.apply(ENTRY + "---" + by_source.replace("host: web", "host: far.test"))
    found = client.get("clusters", "outbound|80||far.test")
    assert (found["cluster_type"]["name"], found["lb_policy"]) == ("envoy.clusters.dns", "MAGLEV")
