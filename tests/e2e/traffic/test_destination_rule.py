"""DestinationRules: subsets, load balancers, pools, outliers and TLS, seen from the servers."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import Case, case, http

pytestmark = pytest.mark.root

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $name}
spec:
  host: $host
"""
SUBSETS = """
  subsets:
  - {name: one, labels: {version: v1}}
  - {name: two, labels: {version: v2}}
  - {name: none, labels: {version: v9}}
"""


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
]


@pytest.mark.parametrize("case", SUBSET_CASES, ids=str)
def test_destination_rule(case: Case, site: Any) -> None:
    site.check(case)
