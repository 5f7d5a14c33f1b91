"""What a VirtualService does to requests besides sending them on: injected faults, CORS, mirrors; and delegates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from traffic.bounds import plausible
from traffic.cases import Case, at_gateway, case, grpc, http, substituted
from traffic.site import wait_until

pytestmark = pytest.mark.root

VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  http:
"""
SETTLED = http("http://$host/settled", headers={"x-settled": "1"}, arrives={"headers": {"x-by": "rule"}})
"""Passes by every rule here, and shows that they are in force."""
SETTLING = """
  - match: [{headers: {x-settled: {}}}]
    headers: {request: {set: {x-by: rule}}}
    route: [{destination: {host: $name}}]
"""


def ruled(what: str, rule: str, *steps: Any) -> Case:
    return case(
        what, f"{VIRTUAL_SERVICE}{SETTLING}{rule}    route: [{{destination: {{host: v1}}}}]\n", *steps, settle=SETTLED
    )


ORIGIN = "https://page.test"
PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "PUT"}
ELSEWHERE = {"origin": "https://else.test", "access-control-request-method": "PUT"}
CORS = """
  - corsPolicy:
      allowOrigins: [{exact: "https://page.test"}]
      allowMethods: [GET, PUT]
      allowHeaders: [x-a]
      exposeHeaders: [x-b]
      maxAge: 90s
      allowCredentials: true
"""

CASES = [
    ruled(
        "a share of the requests is aborted",
        "  - fault: {abort: {httpStatus: 418, percentage: {value: 30}}}\n",
        http(
            "http://$host/",
            count=300,
            status=lambda status: status in (200, 418),
            arrives={},
            shares={418: 0.3, 200: 0.7},
            by=lambda answer: answer["status"],
        ),
    ),
    ruled(
        "every request is aborted",
        "  - fault: {abort: {httpStatus: 503, percentage: {value: 100}}}\n",
        http("http://$host/", status=503, arrives=None),
    ),
    ruled(
        "a share of the requests is delayed",
        "  - fault: {delay: {fixedDelay: 0.4s, percentage: {value: 50}}}\n",
        http(
            "http://$host/",
            count=120,
            concurrency=20,
            shares={True: 0.5, False: 0.5},
            by=lambda answer: answer["took"] >= 0.4,
        ),
    ),
    ruled(
        "delayed by the older field, and aborted",
        "  - fault: {delay: {fixedDelay: 0.3s, percent: 100}, abort: {httpStatus: 500, percentage: {value: 100}}}\n",
        http("http://$host/", status=500, arrives=None, took=(0.3, 3.0)),
    ),
    ruled(
        "gRPC is aborted",
        "  - fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}\n",
        grpc("http://$host:82", status=8, arrives=None),
    ),
    ruled(
        "a preflight request is answered",
        CORS,
        http(
            "http://$host/",
            method="OPTIONS",
            headers=PREFLIGHT,
            arrives=None,
            answers={
                "headers": {
                    "access-control-allow-origin": ORIGIN,
                    "access-control-allow-methods": "GET,PUT",
                    "access-control-allow-headers": "x-a",
                    "access-control-max-age": "90",
                    "access-control-allow-credentials": "true",
                }
            },
        ),
        http(
            "http://$host/",
            headers={"origin": ORIGIN},
            arrives={"headers": {"origin": ORIGIN}},
            answers={"headers": {"access-control-allow-origin": ORIGIN, "access-control-expose-headers": "x-b"}},
        ),
        http(
            "http://$host/",
            method="OPTIONS",
            headers=ELSEWHERE,
            arrives={"method": "OPTIONS"},
            answers={"headers": {"access-control-allow-origin": None}},
        ),
    ),
    ruled(
        "a preflight request of another origin is not sent on",
        f"{CORS}      unmatchedPreflights: IGNORE\n",
        http(
            "http://$host/",
            method="OPTIONS",
            headers=ELSEWHERE,
            arrives=None,
            answers={"headers": {"access-control-allow-origin": None}},
        ),
    ),
]

DELEGATED = case(
    "the routes of a delegate",
    """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name-shop, namespace: naked}
spec:
  http:
  - match: [{uri: {exact: /shop/cart}}]
    route: [{destination: {host: v2.traffic.svc.cluster.local}}]
  - match: [{uri: {prefix: /else}}]
    directResponse: {status: 418}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  http:
  - match: [{uri: {prefix: /shop}}]
    rewrite: {uri: /rewritten}
    delegate: {name: $name-shop, namespace: naked}
  - match: [{uri: {prefix: /lost}}]
    delegate: {name: $name-nobody}
  - route: [{destination: {host: v1}}]
""",
    http("http://$host/shop/cart", arrives={"version": "v2", "path": "/rewritten"}),
    http("http://$host/shop/other", arrives={"version": "v1"}),
    http("http://$host/else", arrives={"version": "v1"}),
    http("http://$host/lost", arrives={"version": "v1"}),
)


@pytest.mark.parametrize("case", [*CASES, DELEGATED], ids=str)
def test_besides_sending_on(case: Case, site: Any) -> None:
    site.check(case)


@pytest.mark.parametrize("case", at_gateway([CASES[1], CASES[5], DELEGATED]), ids=str)
def test_besides_sending_on_at_a_gateway(case: Case, ingress: Any) -> None:
    ingress.check(case)


def test_copies_of_requests_go_to_mirrors(site: Any) -> None:
    manifest = f"""{VIRTUAL_SERVICE}{SETTLING}
  - match: [{{uri: {{prefix: /whole}}}}]
    mirror: {{host: v2}}
    route: [{{destination: {{host: v1}}}}]
  - mirrors:
    - {{destination: {{host: v2}}, percentage: {{value: 40}}}}
    - {{destination: {{host: v3}}}}
    route: [{{destination: {{host: v1}}}}]
"""
    count = 200
    with site.applied(manifest) as names:

        def copies(version: str, path: str) -> list[dict[str, Any]]:
            recall = http(f"http://{version}{path}", instruct={"recall": True}, headers={"x-by": "recall"})
            return list(json.loads(site.send(substituted(recall, names))[0]["body"]))

        site.settle(substituted(SETTLED, names), "mirrors")
        whole, shared = f"/whole/{names['name']}", f"/shared/{names['name']}"
        site.hold(substituted(http(f"http://$host{whole}", body="so", method="PUT", arrives={"version": "v1"}), names))
        site.hold(substituted(http(f"http://$host{shared}", count=count, arrives={"version": "v1"}), names))
        wait_until(lambda: len(copies("v2", whole)) == 1, "the copy of the only request")
        (copy,) = copies("v2", whole)
        assert (copy["method"], copy["body"]) == ("PUT", "so")
        assert copy["authority"] == names["host"]
        wait_until(lambda: len(copies("v3", shared)) == count, "a copy of every request")
        low, high = plausible(count, 0.4)
        assert low <= len(copies("v2", shared)) <= high
