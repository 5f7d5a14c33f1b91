"""What a VirtualService does with the HTTP requests that it matches."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import Answer, Case, at_gateway, case, grpc, http

pytestmark = pytest.mark.root

VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  http:
"""
URL = "http://$host"

CASES = [
    case(
        "weights",
        VIRTUAL_SERVICE
        + """
  - route:
    - {destination: {host: v1}, weight: 75}
    - {destination: {host: v2}, weight: 25}
    - {destination: {host: v3}, weight: 0}
""",
        http("http://$host/", count=200, shares={"v1": 0.75, "v2": 0.25}),
    ),
    case(
        "weights are relative to their sum",
        VIRTUAL_SERVICE
        + """
  - route:
    - {destination: {host: v1}, weight: 1}
    - {destination: {host: v2}, weight: 4}
""",
        http("http://$host/", count=200, shares={"v1": 0.2, "v2": 0.8}),
    ),
    case(
        "a port of the destination",
        VIRTUAL_SERVICE
        + """
  - route: [{destination: {host: v1, port: {number: 81}}}]
""",
        http("http://$host/", arrives={"version": "v1", "protocol": "HTTP/2", "port": 8081}),
    ),
    case(
        "a destination that is not there",
        VIRTUAL_SERVICE
        + """
  - route: [{destination: {host: nowhere}}]
""",
        http("http://$host/", status=503, arrives=None),
    ),
    case(
        "headers of the route",
        VIRTUAL_SERVICE
        + """
  - headers:
      request: {set: {x-set: new, x-new: new}, add: {x-add: more}, remove: [x-remove]}
      response: {set: {x-version: overwritten}, add: {x-added: "1"}, remove: [x-secret]}
    route: [{destination: {host: v1}}]
""",
        http(
            "http://$host/",
            headers={"x-set": "old", "x-add": "first", "x-remove": "gone", "x-kept": "kept"},
            instruct={"headers": {"x-secret": "secret"}},
            arrives={
                "headers": {"x-set": "new", "x-new": "new", "x-add": "first,more", "x-remove": None, "x-kept": "kept"}
            },
            answers={"headers": {"x-version": "overwritten", "x-added": "1", "x-secret": None}},
        ),
    ),
    case(
        "headers of one destination",
        VIRTUAL_SERVICE
        + """
  - route:
    - destination: {host: v1}
      weight: 50
    - destination: {host: v2}
      weight: 50
      headers:
        request: {set: {x-to: v2}, add: {x-more: "1"}, remove: [x-remove]}
        response: {set: {x-from: v2}, add: {x-also: "1"}, remove: [x-version]}
""",
        http("http://$host/", count=60, headers={"x-remove": "1"}, check=lambda found: headers_only_of_v2(found)),
    ),
    case(
        "the host header is set",
        VIRTUAL_SERVICE
        + """
  - headers: {request: {set: {host: other.test}}}
    route: [{destination: {host: v1}}]
""",
        http("http://$host/", arrives={"authority": "other.test"}),
    ),
    *(
        case(
            f"redirect: {what}",
            VIRTUAL_SERVICE
            + f"""
  - redirect: {redirect}
""",
            http(f"{url}/a/b?q=1", status=status, answers={"headers": {"location": location}}, arrives=None),
        )
        for what, url, redirect, status, location in (
            ("path", URL, "{uri: /new}", 301, "http://$host/new?q=1"),
            ("authority", URL, "{authority: x.test}", 301, "http://x.test/a/b?q=1"),
            ("port", URL, "{port: 8443}", 301, "http://$host:8443/a/b?q=1"),
            ("scheme", URL, "{scheme: https}", 301, "https://$host/a/b?q=1"),
            ("status", URL, "{uri: /new, redirectCode: 308}", 308, "http://$host/new?q=1"),
            (
                "the port of the request",
                "http://$host:81",
                "{authority: x.test, derivePort: FROM_REQUEST_PORT}",
                301,
                "http://x.test:81/a/b?q=1",
            ),
            (
                "the port of the protocol",
                "http://$host:81",
                "{authority: x.test, derivePort: FROM_PROTOCOL_DEFAULT}",
                301,
                "http://x.test/a/b?q=1",
            ),
        )
    ),
    case(
        "redirect: the prefix that matched",
        VIRTUAL_SERVICE
        + """
  - match: [{uri: {prefix: /old}}]
    redirect: {prefixRewrite: /new}
""",
        http("http://$host/old/b", status=301, answers={"headers": {"location": "http://$host/new/b"}}, arrives=None),
    ),
    case(
        "a direct response",
        VIRTUAL_SERVICE
        + """
  - match: [{uri: {prefix: /text}}]
    directResponse: {status: 418, body: {string: "a teapot"}}
    headers: {response: {set: {x-direct: "yes"}}}
  - match: [{uri: {prefix: /bytes}}]
    directResponse: {status: 200, body: {bytes: aGVsbG8=}}
  - directResponse: {status: 503}
""",
        http(
            "http://$host/text", status=418, answers={"body": "a teapot", "headers": {"x-direct": "yes"}}, arrives=None
        ),
        http("http://$host/bytes", status=200, answers={"body": "hello"}, arrives=None),
        http("http://$host/", status=503, answers={"body": ""}, arrives=None),
    ),
    case(
        "rewrite: the prefix",
        VIRTUAL_SERVICE
        + """
  - match: [{uri: {prefix: /old}}]
    rewrite: {uri: /new}
    route: [{destination: {host: v1}}]
  - match: [{uri: {exact: /exact}}]
    rewrite: {uri: /other}
    route: [{destination: {host: v1}}]
""",
        http(
            "http://$host/old/b?q=1",
            arrives={"path": "/new/b", "query": "q=1", "headers": {"x-envoy-original-path": "/old/b?q=1"}},
        ),
        http("http://$host/exact", arrives={"path": "/other"}),
    ),
    case(
        "rewrite: a prefix to the root makes no double slash",
        VIRTUAL_SERVICE
        + """
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /}
    route: [{destination: {host: v1}}]
""",
        http("http://$host/old/b", arrives={"path": "/b"}),
    ),
    case(
        "rewrite: the authority",
        VIRTUAL_SERVICE
        + """
  - rewrite: {authority: other.test}
    route: [{destination: {host: v1}}]
""",
        http("http://$host/", arrives={"authority": "other.test"}),
    ),
    case(
        "rewrite: by a regular expression",
        VIRTUAL_SERVICE
        + """
  - match: [{uri: {prefix: /service/}}]
    rewrite:
      uriRegexRewrite: {match: "^/service/([^/]+)(/.*)", rewrite: '\\2/instance/\\1'}
    route: [{destination: {host: v1}}]
""",
        http("http://$host/service/foo/v1/api", arrives={"path": "/v1/api/instance/foo"}),
    ),
    case(
        "gRPC by service and method, and by metadata",
        VIRTUAL_SERVICE
        + """
  - match: [{uri: {exact: /echo.Echo/Stream}}]
    route: [{destination: {host: v3}}]
  - match: [{headers: {x-user: {exact: jo}}}]
    route: [{destination: {host: v2}}]
  - route: [{destination: {host: v1}}]
""",
        grpc("http://$host:82", headers={"x-user": "jo"}, arrives={"version": "v2"}),
        grpc("http://$host:82", arrives={"version": "v1"}),
        grpc("http://$host:82", stream=True, body="one\ntwo", arrives={"version": "v3"}),
    ),
]


def headers_only_of_v2(found: list[Answer]) -> None:
    for answer in found:
        report, headers = answer["echo"], answer["headers"]
        mine = report["version"] == "v2"
        assert report["headers"].get("x-to") == ("v2" if mine else None)
        assert report["headers"].get("x-more") == ("1" if mine else None)
        assert ("x-remove" in report["headers"]) is not mine
        assert headers.get("x-from") == ("v2" if mine else None)
        assert headers.get("x-also") == ("1" if mine else None)
        assert ("x-version" in headers) is not mine
    assert {answer["echo"]["version"] for answer in found} == {"v1", "v2"}


@pytest.mark.parametrize("case", at_gateway(CASES), ids=str)
def test_http_route_at_a_gateway(case: Case, ingress: Any) -> None:
    ingress.check(case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_http_route(case: Case, site: Any) -> None:
    site.check(case)
