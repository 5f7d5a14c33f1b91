"""HTTP routes of VirtualServices, at a gateway: what they match, where requests go, what is changed on the way."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

BASE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: web}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.1.0.6, selector: {app: other}, ports: [{name: http, port: 80}, {name: more, port: 81}]}
"""
WEB, OTHER = (f"outbound|{port}||{name}.default.svc.cluster.local" for name, port in (("web", 8000), ("other", 80)))
TO_WEB = "route: [{destination: {host: web}}]"


def routes_of(mesh: Any, http: str, name: str = "http.80") -> list[dict[str, Any]]:
    """The Envoy routes of the HTTP routes of a VirtualService, given as items of a YAML list."""
    gateway = mesh.gateway(labels="istio: ingressgateway, tier: edge")
    service = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "web"},
        "spec": {"hosts": ["web.test"], "gateways": ["web"], "http": yaml.safe_load(http)},
    }
    mesh.apply(BASE + "---\n" + yaml.safe_dump(service))
    (host,) = gateway.get("routes", name)["virtual_hosts"]
    found: list[dict[str, Any]] = host.get("routes", [])
    return found


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{}", {"prefix": "/"}),
        ("{uri: {exact: /a}}", {"path": "/a"}),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", {"prefix": "/a", "case_sensitive": False}),
        ("{uri: {regex: '/a.*b'}}", {"safe_regex": {"regex": "/a.*b"}}),
        ("{uri: {}}", {"prefix": "/"}),
        (
            "{method: {exact: GET}, scheme: {exact: https}, authority: {prefix: web.}}",
            {
                "prefix": "/",
                "headers": [
                    {"name": ":method", "string_match": {"exact": "GET"}},
                    {"name": ":authority", "string_match": {"prefix": "web."}},
                    {"name": ":scheme", "string_match": {"exact": "https"}},
                ],
            },
        ),
        (
            "{headers: {x-b: {regex: 'a+'}, x-a: {}, x-c: {regex: '*'}}}",
            {
                "prefix": "/",
                "headers": [
                    {"name": "x-a", "present_match": True},
                    {"name": "x-b", "string_match": {"safe_regex": {"regex": "a+"}}},
                    {"name": "x-c", "present_match": True},
                ],
            },
        ),
        (
            "{withoutHeaders: {x-a: {exact: b}, x-c: {}}}",
            {
                "prefix": "/",
                "headers": [
                    {
                        "name": "x-a", "string_match": {"exact": "b"},
                        "invert_match": True, "treat_missing_header_as_empty": True,
                    },
                    {"name": "x-c", "present_match": True, "invert_match": True},
                ],
            },
        ),
        (
            "{queryParams: {a: {exact: b}, c: {}}}",
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "a", "string_match": {"exact": "b"}},
                    {"name": "c", "present_match": True},
                ],
            },
        ),
    ],
)  # fmt: skip
def test_what_a_route_matches(mesh: Any, match: str, expected: dict[str, Any]) -> None:
    (route,) = routes_of(mesh, f"[{{match: [{match}], {TO_WEB}}}]")
    assert route["match"] == expected
    assert route["route"]["cluster"] == WEB


def test_matches_are_routes_in_order_up_to_one_that_takes_everything(mesh: Any) -> None:
    http = f"""
    - name: first
      match: [{{name: a, uri: {{exact: /a}}, statPrefix: counted}}, {{uri: {{exact: /b}}}}]
      {TO_WEB}
    - match: [{{uri: {{prefix: /}}}}, {{uri: {{exact: /c}}}}]
      {TO_WEB}
    - {TO_WEB}
    """
    routes = routes_of(mesh, http)
    assert [route.get("name", "") for route in routes] == ["first.a", "first", ""]
    assert [route["match"] for route in routes] == [{"path": "/a"}, {"path": "/b"}, {"prefix": "/"}]
    assert routes[0]["stat_prefix"] == "counted"


@pytest.mark.parametrize(
    ("match", "at_80", "at_443"),
    [
        ("{port: 80}", 1, 0),
        ("{port: 443}", 0, 1),
        ("{gateways: [web]}", 1, 1),
        ("{gateways: [default/web, mesh]}", 1, 1),
        ("{gateways: [mesh]}", 0, 0),
        ("{sourceLabels: {tier: edge}}", 1, 1),
        ("{sourceLabels: {tier: inner}}", 0, 0),
        ("{sourceNamespace: istio-system}", 1, 1),
        ("{sourceNamespace: default}", 0, 0),
    ],
)
def test_whom_a_route_is_for(mesh: Any, match: str, at_80: int, at_443: int) -> None:
    http = f"[{{match: [{match}], {TO_WEB}}}]"
    assert len(routes_of(mesh, http)) == at_80
    assert len(routes_of(mesh, http, "https.443.https.web.default")) == at_443


def test_by_default_a_request_takes_its_time_and_is_tried_again_where_nothing_was_processed(mesh: Any) -> None:
    (route,) = routes_of(mesh, f"[{{{TO_WEB}}}]")
    assert route["route"] == {
        "cluster": WEB,
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "num_retries": 2,
            "host_selection_retry_max_attempts": "5",
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/"
                        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    },
                }
            ],
        },
    }


def test_destinations_have_their_share_of_the_requests(mesh: Any) -> None:
    http = """
    - route:
      - {destination: {host: web}, weight: 70, headers: {request: {set: {x-a: "1", host: inner}, remove: [x-b]}}}
      - {destination: {host: other, port: {number: 80}, subset: v2}, weight: 30, headers: {response: {add: {x-c: d}}}}
      - {destination: {host: nobody.test}}
    """
    (route,) = routes_of(mesh, http)
    first, second = route["route"]["weighted_clusters"]["clusters"]
    overwrite = "OVERWRITE_IF_EXISTS_OR_ADD"
    assert first == {
        "name": WEB,
        "weight": 70,
        "request_headers_to_add": [{"header": {"key": "x-a", "value": "1"}, "append_action": overwrite}],
        "request_headers_to_remove": ["x-b"],
        "host_rewrite_literal": "inner",
    }
    assert second == {
        "name": OTHER.replace("||", "|v2|"),
        "weight": 30,
        "response_headers_to_add": [{"header": {"key": "x-c", "value": "d"}}],
    }


def test_ports_of_destinations(mesh: Any) -> None:
    http = """
    - match: [{uri: {exact: /only}}]
      route: [{destination: {host: web}}]
    - match: [{uri: {exact: /asked}}]
      route: [{destination: {host: other}}]
    - match: [{uri: {exact: /unknown}}]
      route: [{destination: {host: nobody.test}}]
    - route: [{destination: {host: other.default.svc.cluster.local, port: {number: 81}}}]
    """
    found = [route["route"]["cluster"] for route in routes_of(mesh, http)]
    assert found == [WEB, OTHER, "outbound|80||nobody.test", OTHER.replace("|80|", "|81|")]


def test_headers_of_a_route(mesh: Any) -> None:
    http = f"""
    - headers:
        request: {{set: {{x-b: "1", ":authority": inner.test}}, add: {{x-a: "2"}}, remove: [x-c, host]}}
        response: {{remove: [x-d]}}
      {TO_WEB}
    """
    (route,) = routes_of(mesh, http)
    added = [(each["header"]["key"], each.get("append_action", "")) for each in route["request_headers_to_add"]]
    assert added == [("x-b", "OVERWRITE_IF_EXISTS_OR_ADD"), ("x-a", "")]
    assert route["request_headers_to_remove"] == ["x-c"]
    assert route["response_headers_to_remove"] == ["x-d"]
    assert route["route"]["host_rewrite_literal"] == "inner.test"


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        ("{uri: /b}", {"prefix_rewrite": "/b"}),
        ("{authority: b.test}", {"host_rewrite_literal": "b.test"}),
        (
            "{uriRegexRewrite: {match: '^/a/(.*)', rewrite: '/b/\\1'}}",
            {"regex_rewrite": {"pattern": {"regex": "^/a/(.*)"}, "substitution": "/b/\\1"}},
        ),
    ],
)
def test_requests_are_rewritten(mesh: Any, rewrite: str, expected: dict[str, Any]) -> None:
    (route,) = routes_of(mesh, f"[{{match: [{{uri: {{prefix: /a}}}}], rewrite: {rewrite}, {TO_WEB}}}]")
    assert expected.items() <= route["route"].items()


def test_limits_of_time(mesh: Any) -> None:
    (route,) = routes_of(mesh, f"[{{timeout: 1.5s, {TO_WEB}}}]")
    assert route["route"]["timeout"] == "1.500s"
    assert "max_stream_duration" not in route["route"], "Envoy would pass the timeout over"


def test_retries(mesh: Any) -> None:
    policy = """{attempts: 3, perTryTimeout: 2s, retryOn: "gateway-error, 503,429", retryRemoteLocalities: true,
      retryIgnorePreviousHosts: false, backoff: 20ms}"""
    (route,) = routes_of(mesh, f"[{{retries: {policy}, {TO_WEB}}}]")
    found = route["route"]["retry_policy"]
    assert found["retry_on"] == "gateway-error,retriable-status-codes"
    assert found["retriable_status_codes"] == [503, 429]
    assert (found["num_retries"], found["per_try_timeout"]) == (3, "2s")
    assert found["retry_back_off"] == {"base_interval": "0.020s"}
    assert found["retry_priority"]["name"] == "envoy.retry_priorities.previous_priorities"
    assert "retry_host_predicate" not in found
    (route,) = routes_of(mesh, f"[{{retries: {{attempts: 0}}, {TO_WEB}}}]")
    assert "retry_policy" not in route["route"]


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("{uri: /b}", {"path_redirect": "/b"}),
        ("{prefixRewrite: /b, redirectCode: 302}", {"prefix_rewrite": "/b", "response_code": "FOUND"}),
        (
            "{authority: b.test, scheme: https, port: 8443, redirectCode: 308}",
            {
                "host_redirect": "b.test", "scheme_redirect": "https", "port_redirect": 8443,
                "response_code": "PERMANENT_REDIRECT",
            },
        ),
        ("{scheme: https, port: 443}", {"scheme_redirect": "https"}),
        ("{uri: /b, derivePort: FROM_REQUEST_PORT}", {"path_redirect": "/b"}),
        ("{scheme: https, derivePort: FROM_REQUEST_PORT}", {"scheme_redirect": "https", "port_redirect": 80}),
        ("{uri: /b, derivePort: FROM_PROTOCOL_DEFAULT}", {"path_redirect": "/b"}),
    ],
)  # fmt: skip
def test_clients_are_sent_elsewhere(mesh: Any, redirect: str, expected: dict[str, Any]) -> None:
    (route,) = routes_of(mesh, f"[{{redirect: {redirect}}}]")
    assert route["redirect"] == expected


@pytest.mark.parametrize(
    ("body", "expected"), [("", None), (", body: {string: so}", "c28="), (", body: {bytes: AAE=}", "AAE=")]
)
def test_the_proxy_answers_by_itself(mesh: Any, body: str, expected: str | None) -> None:
    (route,) = routes_of(mesh, f"[{{directResponse: {{status: 418{body}}}}}]")
    answer = {"status": 418} | ({"body": {"inline_bytes": expected}} if expected else {})
    assert route["direct_response"] == answer


def test_what_takes_everything_comes_after_the_routes_of_younger_virtual_services(mesh: Any) -> None:
    (route,) = routes_of(mesh, f"[{{{TO_WEB}}}]")
    young = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: young, creationTimestamp: "2099-01-01T00:00:00Z"}}
spec: {{hosts: [web.test], gateways: [web], http: [{{match: [{{uri: {{exact: /young}}}}], {TO_WEB}}}]}}
"""
    mesh.apply(young)
    gateway = mesh.gateway(labels="istio: ingressgateway, tier: edge")
    (host,) = gateway.get("routes", "http.80")["virtual_hosts"]
    assert [each["match"] for each in host["routes"]] == [{"path": "/young"}, {"prefix": "/"}]
    assert host["routes"][1] == route
    assert re.fullmatch(r"web\.test:80", host["name"])
