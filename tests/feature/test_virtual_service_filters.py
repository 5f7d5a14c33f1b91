"""What a VirtualService does to requests besides sending them on: faults, CORS, and copies for others."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.protos import NAME_TABLE_TYPE

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: shadow}
spec: {clusterIP: 10.1.0.6, selector: {app: shadow}, ports: [{name: http, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shadow}
spec: {host: shadow, subsets: [{name: v1, labels: {version: v1}}]}
"""
WEB, SHADOW = "outbound|80||web.default.svc.cluster.local", "outbound|9000||shadow.default.svc.cluster.local"
V1 = SHADOW.replace("||", "|v1|")
TO_WEB = "route: [{destination: {host: web}}]"


def virtual_service(route: str, gateways: str = "mesh", host: str = "web") -> str:
    spec = {"hosts": [host], "gateways": [gateways], "http": [yaml.safe_load(route)]}
    metadata = {"name": "web"}
    return yaml.safe_dump(
        {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}
    )


def only_route(mesh: Any, route: str) -> dict[str, Any]:
    """The Envoy route of a sidecar for the only HTTP route of a VirtualService."""
    client = mesh.sidecar()
    mesh.apply(f"{SERVICES}---\n{virtual_service(route)}")
    found: dict[str, Any]
    (found,) = next(h for h in client.get("routes", "80")["virtual_hosts"] if "web" in h["domains"])["routes"]
    return found


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            "{delay: {fixedDelay: 1.5s, percentage: {value: 0.57}}}",
            {"delay": {"fixed_delay": "1.500s", "percentage": {"numerator": 5700, "denominator": "MILLION"}}},
        ),
        (
            "{delay: {fixedDelay: 1s, percent: 7}}",
            {"delay": {"fixed_delay": "1s", "percentage": {"numerator": 70_000, "denominator": "MILLION"}}},
        ),
        (
            "{abort: {httpStatus: 418, percentage: {value: 100}}}",
            {"abort": {"http_status": 418, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}}},
        ),
        (
            "{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0.0001}}}",
            {"abort": {"grpc_status": 14, "percentage": {"numerator": 1, "denominator": "MILLION"}}},
        ),
        (
            "{delay: {fixedDelay: 1s}, abort: {httpStatus: 503}}",
            {
                "delay": {"fixed_delay": "1s", "percentage": {"denominator": "MILLION"}},
                "abort": {"http_status": 503, "percentage": {"denominator": "MILLION"}},
            },
        ),
    ],
)
def test_faults(mesh: Any, fault: str, expected: dict[str, Any]) -> None:
    route = only_route(mesh, f"{{fault: {fault}, {TO_WEB}}}")
    found = route["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert found.pop("@type").endswith(".fault.v3.HTTPFault")
    assert found == expected
    assert route["route"]["cluster"] == WEB


def test_what_browsers_are_told_of_other_origins(mesh: Any) -> None:
    policy = """
      allowOrigins: [{exact: "https://a.test"}, {prefix: "https://b."}, {regex: "https://c[0-9]+"}]
      allowMethods: [GET, PUT]
      allowHeaders: [x-a, x-b]
      exposeHeaders: [x-c, x-d]
      maxAge: 90s
      allowCredentials: true
    """
    route = only_route(mesh, f"corsPolicy: {yaml.safe_load(policy)}\n{TO_WEB}")
    found = route["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert found.pop("@type").endswith(".cors.v3.CorsPolicy")
    assert found == {
        "allow_origin_string_match": [
            {"exact": "https://a.test"},
            {"prefix": "https://b."},
            {"safe_regex": {"regex": "https://c[0-9]+"}},
        ],
        "allow_methods": "GET,PUT",
        "allow_headers": "x-a,x-b",
        "expose_headers": "x-c,x-d",
        "max_age": "90",
        "allow_credentials": True,
        "filter_enabled": {"default_value": {"numerator": 1_000_000, "denominator": "MILLION"}},
        "forward_not_matching_preflights": True,
    }


@pytest.mark.parametrize(
    ("policy", "origins", "forwarded"),
    [
        ("{allowOrigin: ['*']}", [{"exact": "*"}], True),
        ("{allowOrigin: [a], allowOrigins: [{exact: b}]}", [{"exact": "b"}], True),
        ("{allowOrigins: [{exact: a}], unmatchedPreflights: IGNORE}", [{"exact": "a"}], False),
        ("{allowOrigins: [{exact: a}], unmatchedPreflights: FORWARD}", [{"exact": "a"}], True),
    ],
)
def test_origins_and_preflights_of_others(
    mesh: Any, policy: str, origins: list[dict[str, str]], forwarded: bool
) -> None:
    route = only_route(mesh, f"{{corsPolicy: {policy}, {TO_WEB}}}")
    found = route["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert found["allow_origin_string_match"] == origins
    assert found["forward_not_matching_preflights"] is forwarded
    assert "allow_credentials" not in found


def test_redirects_have_cors_too(mesh: Any) -> None:
    route = only_route(mesh, "{corsPolicy: {allowOrigins: [{exact: a}]}, redirect: {uri: /b}}")
    assert "redirect" in route
    assert "envoy.filters.http.cors" in route["typed_per_filter_config"]


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ("mirror: {host: shadow}", [(SHADOW, 1_000_000)]),
        ("{mirror: {host: shadow, subset: v1}, mirrorPercentage: {value: 12.5}}", [(V1, 125_000)]),
        ("mirror: {host: web, port: {number: 80}}", [(WEB, 1_000_000)]),
        ("{mirror: {host: shadow}, mirrorPercent: 3}", [(SHADOW, 30_000)]),
        ("{mirror: {host: shadow}, mirror_percent: 4}", [(SHADOW, 40_000)]),
        ("{mirror: {host: shadow}, mirrorPercentage: {value: 5}, mirrorPercent: 3}", [(SHADOW, 50_000)]),
        ("{mirror: {host: shadow}, mirrorPercentage: {value: 0}}", []),
        ("{mirror: {host: shadow}, mirrorPercent: 0}", []),
        (
            """mirrors:
            - {destination: {host: shadow, subset: v1}, percentage: {value: 1}}
            - {destination: {host: shadow}, percentage: {}}
            - {destination: {host: web, port: {number: 80}}}""",
            [(V1, 10_000), (WEB, 1_000_000)],
        ),
    ],
)
def test_copies_of_requests(mesh: Any, mirror: str, expected: list[tuple[str, int]]) -> None:
    mirrored = yaml.safe_load(mirror) | yaml.safe_load(TO_WEB)
    policies = only_route(mesh, yaml.safe_dump(mirrored))["route"].get("request_mirror_policies", [])
    shares = [(policy["cluster"], policy["runtime_fraction"]["default_value"]) for policy in policies]
    assert shares == [(cluster, {"numerator": n, "denominator": "MILLION"}) for cluster, n in expected]
    assert all(policy["trace_sampled"] is False for policy in policies)
    assert all(policy["disable_shadow_host_suffix_append"] for policy in policies)


def test_sidecars_on_demand_have_the_clusters_of_mirrors(mesh: Any) -> None:
    client = mesh.sidecar(metadata={"DNS_CAPTURE": "true"})
    mesh.apply(f"{SERVICES}---\n{virtual_service(f'{{mirror: {{host: shadow}}, {TO_WEB}}}')}")
    assert not {WEB, SHADOW} & client.names("clusters")
    demand = demand_name(Demand("10.0.0.9", "web.default.svc.cluster.local"))
    mesh.dns().config.asked(NAME_TABLE_TYPE, [demand], (), ())
    assert {WEB, SHADOW} <= client.names("clusters")


def test_gateways_have_the_clusters_of_mirrors(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
""")
    mirrored = f"{{mirror: {{host: shadow}}, {TO_WEB}}}"
    mesh.apply(f"{SERVICES}---\n{virtual_service(mirrored, 'web', 'web.test')}")
    assert {WEB, SHADOW} <= gateway.names("clusters")
    mesh.apply(virtual_service(f"{{{TO_WEB}}}", "web", "web.test"))
    assert SHADOW not in gateway.names("clusters")
