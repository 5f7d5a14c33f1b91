"""DestinationRules: subsets, connection pools and outliers, seen from the servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from traffic.cases import Answer, Case, case, http, http2, tcp

pytestmark = pytest.mark.root

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $name}
spec:
  host: $host
"""
OUTSIDE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: $outside_http}
  - {number: 81, name: http2, protocol: HTTP2, targetPort: $outside_http2}
  - {number: 83, name: tcp, protocol: TCP, targetPort: $outside_tcp}
  endpoints: [{address: $outside}]
"""
"""A server without a sidecar, which sees the connections of the client's proxy themselves."""
SUBSETS = """
  subsets:
  - {name: one, labels: {version: v1}}
  - {name: two, labels: {version: v2}}
  - {name: none, labels: {version: v9}}
"""


REGIONS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints:
  - {address: $b_v1, locality: region-1/zone-1}
  - {address: $b_v2, locality: region-2/zone-1}
  - {address: $b_v3, locality: region-3/zone-1}
"""
"""The first is where the client is."""


def outside(what: str, policy: str, *steps: Any, settle: Any = None) -> Case:
    """A case whose policy is for the server outside."""
    manifest = RULE.replace("$host", "$name.test") + f"  trafficPolicy:\n{policy}\n"
    return case(what, manifest, *steps, service=OUTSIDE, settle=settle)


def by_status(answer: Answer) -> Any:
    return answer["status"]


def connections(found: list[Answer]) -> int:
    return len({answer["echo"]["connection"] for answer in found})


def a_few_pass(found: list[Answer]) -> None:
    counts = Counter(map(by_status, found))
    assert 1 <= counts[200] <= 4, counts
    assert counts[200] + counts[503] == len(found), counts


def spared(version: str) -> Callable[[list[Answer]], None]:
    def check(found: list[Answer]) -> None:
        counts = Counter(answer["echo"]["version"] for answer in found)
        assert counts[version] < len(found) / 5, counts

    return check


SUBSET_CASES = [
    case(
        "subsets by label",
        RULE
        + SUBSETS
        + """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name]
  http:
  - match: [{uri: {prefix: /two}}]
    route: [{destination: {host: $name, subset: two}}]
  - match: [{uri: {prefix: /none}}]
    route: [{destination: {host: $name, subset: none}}]
  - match: [{uri: {prefix: /unknown}}]
    route: [{destination: {host: $name, subset: unknown}}]
  - route:
    - {destination: {host: $name, subset: one}, weight: 80}
    - {destination: {host: $name, subset: two}, weight: 20}
""",
        http("http://$name/two", arrives={"version": "v2"}),
        http("http://$name/none", status=503, arrives=None),
        http("http://$name/unknown", status=503, arrives=None),
        http("http://$name/", count=200, shares={"v1": 0.8, "v2": 0.2}),
    ),
    case(
        "subsets of a ServiceEntry's endpoints",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $name}
spec:
  host: $name.test
  subsets: [{name: blue, labels: {colour: blue}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name.test]
  http: [{route: [{destination: {host: $name.test, subset: blue}}]}]
""",
        http("http://$name.test/", count=10, arrives={"version": "v2"}),
        service="""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints:
  - {address: $b_v1, labels: {colour: red}}
  - {address: $b_v2, labels: {colour: blue}}
""",
    ),
    case(
        "a subset's policy goes before its host's",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $name}
spec:
  host: $name.test
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
  subsets:
  - {name: same}
  - {name: other, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name.test]
  http:
  - match: [{uri: {prefix: /other}}]
    route: [{destination: {host: $name.test, subset: other}}]
  - match: [{uri: {prefix: /same}}]
    route: [{destination: {host: $name.test, subset: same}}]
""",
        http("http://$name.test/same", arrives={"protocol": "HTTP/2"}),
        http("http://$name.test/other", arrives={"protocol": "HTTP/1.1"}),
        service=OUTSIDE,
    ),
]

POOL_CASES = [
    outside(
        "connections and pending requests",
        "    connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}",
        http(
            "http://$name.test/",
            count=12,
            concurrency=12,
            instruct={"delay": 0.4},
            status=lambda code: code in (200, 503),
            arrives={},
            check=a_few_pass,
        ),
        settle=http("http://$name.test/"),
    ),
    outside(
        "requests of HTTP/2",
        "    connectionPool: {http: {http2MaxRequests: 2}}",
        http2(
            "http://$name.test:81/",
            count=12,
            concurrency=12,
            instruct={"delay": 0.4},
            status=lambda code: code in (200, 503),
            arrives={},
            check=a_few_pass,
        ),
        settle=http2("http://$name.test:81/"),
    ),
    outside(
        "requests of a connection",
        "    connectionPool: {http: {maxRequestsPerConnection: 1}}",
        http(
            "http://$name.test/",
            count=6,
            concurrency=1,
            by=lambda answer: answer["status"],
            shares={200: 1.0},
            check=lambda found: _is(connections(found), 6),
        ),
    ),
    outside(
        "connections are kept by default",
        "    connectionPool: {http: {maxRetries: 3}}",
        http("http://$name.test/", count=6, concurrency=1, check=lambda found: _is(connections(found), 1)),
    ),
    outside(
        "upgrade to HTTP/2",
        "    connectionPool: {http: {h2UpgradePolicy: UPGRADE}}",
        http("http://$name.test/", arrives={"protocol": "HTTP/2"}),
    ),
    outside(
        "the client's protocol",
        "    connectionPool: {http: {useClientProtocol: true}}",
        http("http://$name.test/", arrives={"protocol": "HTTP/1.1"}),
        http2("http://$name.test/", arrives={"protocol": "HTTP/2"}),
    ),
    outside(
        "a TCP connection that is idle for long",
        "    connectionPool: {tcp: {idleTimeout: 0.3s}}",
        tcp("tcp://$name.test:83", instruct={"delay": 8}, error="closed without an answer", took=(0.2, 4.0)),
        settle=tcp("tcp://$name.test:83"),
    ),
    outside(
        "the longest that a connection lasts",
        "    connectionPool: {tcp: {maxConnectionDuration: 0.3s}}",
        tcp("tcp://$name.test:83", instruct={"delay": 8}, error="closed without an answer", took=(0.2, 4.0)),
        settle=tcp("tcp://$name.test:83"),
    ),
    outside(
        "a policy of one port",
        """    connectionPool: {http: {h2UpgradePolicy: UPGRADE}}
    portLevelSettings:
    - port: {number: 80}
      connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}""",
        http("http://$name.test/", arrives={"protocol": "HTTP/1.1"}),
    ),
]

FIRST_BYTE_CASES = [
    outside(
        "the PROXY protocol, in text",
        "    proxyProtocol: {version: V1}",
        http("http://$name.test/", arrives={"proxied": {"version": 1, "source": "$a"}}),
    ),
    outside(
        "the PROXY protocol, in bytes",
        "    proxyProtocol: {version: V2}",
        tcp("tcp://$name.test:83", arrives={"proxied": {"version": 2, "source": "$a"}}),
    ),
    outside(
        "a tunnel through a proxy outside",
        "    tunnel: {protocol: CONNECT, targetHost: far.test, targetPort: 4321}",
        tcp("tcp://$name.test:83", body="a line", arrives={"tunnel": "far.test:4321", "body": "a line"}),
    ),
]

BALANCER_CASES = [
    case(
        "the one with the fewest requests, which spares a slow one",
        RULE + "  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}\n",
        http("http://$name/", count=60, concurrency=6, instruct={"delay": 0.3, "only": "v1"}, check=spared("v1")),
        settle=http("http://$name/"),
    ),
    case(
        "wherever the connection went",
        RULE.replace("$host", "$name.test") + "  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}\n",
        http("http://$name.test:$outside_http/", address="$outside:$outside_http", arrives={"version": "outside"}),
        service="""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
  resolution: STATIC
  ports: [{number: $outside_http, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v1}]
""",
    ),
    case(
        "the own zone, when it fails the region that is named, and no other",
        RULE.replace("$host", "$name.test")
        + """
  trafficPolicy:
    loadBalancer: {localityLbSetting: {failover: [{from: region-1, to: region-3}]}}
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}
""",
        http("http://$name.test/", count=20, arrives={"version": "v3"}),
        service=REGIONS,
        settle=http("http://$name.test/", count=10, instruct={"status": 500, "only": "v1"}, arrives={"version": "v3"}),
    ),
    case(
        "the own zone while it does not fail",
        RULE.replace("$host", "$name.test")
        + """
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}
""",
        http("http://$name.test/", count=20, arrives={"version": "v1"}),
        service=REGIONS,
        settle=http("http://$name.test/", count=20, arrives={"version": "v1"}),
    ),
    case(
        "zones by their shares",
        RULE.replace("$host", "$name.test")
        + """
  trafficPolicy:
    loadBalancer:
      localityLbSetting: {distribute: [{from: region-1/*, to: {"region-2/*": 80, "region-3/*": 20}}]}
""",
        http("http://$name.test/", count=200, shares={"v2": 0.8, "v3": 0.2}),
        service=REGIONS,
        settle=http("http://$name.test/", count=10, arrives={"version": lambda version: version != "v1"}),
    ),
]

OUTLIER_CASES = [
    case(
        "errors in a row",
        RULE
        + """
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}
""",
        http("http://$name/", count=60, shares={"v2": 0.5, "v3": 0.5}),
        settle=http("http://$name/", count=40, instruct={"status": 500, "only": "v1"}, arrives={}),  # until v1 is out
    ),
    case(
        "errors of a gateway in a row; others do not count",
        RULE
        + """
  trafficPolicy:
    outlierDetection:
      consecutive5xxErrors: 0
      consecutiveGatewayErrors: 3
      interval: 1s
      baseEjectionTime: 60s
      maxEjectionPercent: 100
""",
        http(
            "http://$name/",
            count=40,
            status=lambda code: code in (200, 500),
            arrives={},
            instruct={"status": 500, "only": "v2"},
        ),  # v2 stays
        http("http://$name/", count=60, shares={"v2": 0.5, "v3": 0.5}),
        settle=http("http://$name/", count=40, instruct={"status": 502, "only": "v1"}, arrives={}),  # until v1 is out
    ),
]


def _is(found: int, expected: int) -> None:
    assert found == expected


CASES = [*SUBSET_CASES, *POOL_CASES, *FIRST_BYTE_CASES, *BALANCER_CASES, *OUTLIER_CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_destination_rule(case: Case, site: Any) -> None:
    site.check(case)
