"""Each condition of a VirtualService's HTTP match: which requests it holds for, and which not."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import Case, Step, at_gateway, case, http, http2

pytestmark = pytest.mark.root


def matched(what: str, match: str, yes: list[Step], no: list[Step]) -> Case:
    """What matches goes to v2, and everything else to v1."""
    manifest = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: $name}}
spec:
  hosts: [$host]
  http:
  - match: [{match}]
    route: [{{destination: {{host: v2}}}}]
  - route: [{{destination: {{host: v1}}}}]
"""
    return case(what, manifest, *(_goes(step, "v2") for step in yes), *(_goes(step, "v1") for step in no))


def _goes(step: Step, version: str) -> Step:
    assert step.arrives is not None
    return Step(step.job, step.client, step.answers, {**step.arrives, "version": version})


URL = "http://$host"
CASES = [
    matched(
        "uri, exact",
        "{uri: {exact: /a}}",
        [http(f"{URL}/a"), http(f"{URL}/a?q=1")],
        [http(f"{URL}/a/b"), http(f"{URL}/A")],
    ),
    matched("uri, prefix", "{uri: {prefix: /a}}", [http(f"{URL}/a"), http(f"{URL}/ab/c")], [http(f"{URL}/b/a")]),
    matched(
        "uri, regex",
        "{uri: {regex: '/[a-z]+/[0-9]{2}'}}",
        [http(f"{URL}/abc/12"), http(f"{URL}/abc/12?q=1")],
        [http(f"{URL}/abc/123"), http(f"{URL}/x/abc/12")],
    ),
    matched(
        "uri, ignoring case",
        "{uri: {prefix: /aB}, ignoreUriCase: true}",
        [http(f"{URL}/Ab/c"), http(f"{URL}/AB")],
        [http(f"{URL}/c")],
    ),
    matched("scheme", "{scheme: {exact: http}}", [http(f"{URL}/")], []),
    matched("scheme, prefix", "{scheme: {prefix: htt}}", [http(f"{URL}/")], []),
    matched("scheme, regex", "{scheme: {regex: 'https|wss'}}", [], [http(f"{URL}/")]),
    matched(
        "method, prefix",
        "{method: {prefix: P}}",
        [http(f"{URL}/", method="PUT"), http(f"{URL}/", method="PATCH")],
        [http(f"{URL}/")],
    ),
    matched(
        "without a header that begins so",
        "{withoutHeaders: {x-user: {prefix: jo}}}",
        [http(f"{URL}/", headers={"x-user": "al"}), http(f"{URL}/")],
        [http(f"{URL}/", headers={"x-user": "joe"})],
    ),
    matched(
        "without a header of this form",
        "{withoutHeaders: {x-user: {regex: '[0-9]+'}}}",
        [http(f"{URL}/", headers={"x-user": "a1"}), http(f"{URL}/")],
        [http(f"{URL}/", headers={"x-user": "12"})],
    ),
    matched("scheme, another", "{scheme: {exact: https}}", [], [http(f"{URL}/")]),
    matched(
        "method",
        "{method: {regex: 'PUT|POST'}}",
        [http(f"{URL}/", method="PUT"), http(f"{URL}/", method="POST")],
        [http(f"{URL}/"), http(f"{URL}/", method="PATCH")],
    ),
    matched(
        "authority",
        "{authority: {exact: $name.traffic}}",
        [http("http://$name.traffic/")],
        [http(f"{URL}/"), http("http://$host/")],
    ),
    matched(
        "authority, regex",
        "{authority: {regex: '.*[.]traffic'}}",
        [http("http://$name.traffic/")],
        [http(f"{URL}/")],
    ),
    matched(
        "authority, prefix",
        "{authority: {prefix: $name.traffic}}",
        [http("http://$host/"), http("http://$name.traffic:80/")],
        [http("http://$name/")],
    ),
    matched(
        "header, exact",
        "{headers: {x-user: {exact: jo}}}",
        [http(f"{URL}/", headers={"X-User": "jo"})],
        [http(f"{URL}/", headers={"x-user": "joe"}), http(f"{URL}/", headers={"x-user": "Jo"}), http(f"{URL}/")],
    ),
    matched(
        "header, prefix",
        "{headers: {x-user: {prefix: jo}}}",
        [http(f"{URL}/", headers={"x-user": "joe"})],
        [http(f"{URL}/", headers={"x-user": "xjo"}), http(f"{URL}/")],
    ),
    matched(
        "header, regex",
        "{headers: {cookie: {regex: '.*user=jason.*'}}}",
        [http(f"{URL}/", headers={"cookie": "a=b; user=jason; c=d"})],
        [http(f"{URL}/", headers={"cookie": "a=b"})],
    ),
    matched(
        "header, present",
        "{headers: {x-user: {}}}",
        [http(f"{URL}/", headers={"x-user": "anyone"})],
        [http(f"{URL}/")],
    ),
    matched(
        "without a header of this value",
        "{withoutHeaders: {x-user: {exact: jo}}}",
        [http(f"{URL}/", headers={"x-user": "joe"}), http(f"{URL}/")],
        [http(f"{URL}/", headers={"x-user": "jo"})],
    ),
    matched(
        "without a header at all",
        "{withoutHeaders: {x-user: {}}}",
        [http(f"{URL}/")],
        [http(f"{URL}/", headers={"x-user": "jo"})],
    ),
    matched("port", "{port: 81}", [http(f"{URL}:81/"), http2(f"{URL}:81/")], [http(f"{URL}/")]),
    matched(
        "query parameter, exact",
        "{queryParams: {q: {exact: '1'}}}",
        [http(f"{URL}/?q=1"), http(f"{URL}/?a=b&q=1")],
        [http(f"{URL}/?q=12"), http(f"{URL}/")],
    ),
    matched(
        "query parameter, regex",
        "{queryParams: {q: {regex: '[0-9]+'}}}",
        [http(f"{URL}/?q=12")],
        [http(f"{URL}/?q=a"), http(f"{URL}/")],
    ),
    matched(
        "query parameter, prefix",
        "{queryParams: {q: {prefix: ab}}}",
        [http(f"{URL}/?q=abc")],
        [http(f"{URL}/?q=cab")],
    ),
    matched(
        "all conditions of a match together",
        "{uri: {prefix: /a}, headers: {x-user: {exact: jo}}, method: {exact: GET}}",
        [http(f"{URL}/a", headers={"x-user": "jo"})],
        [
            http(f"{URL}/a"),
            http(f"{URL}/b", headers={"x-user": "jo"}),
            http(f"{URL}/a", headers={"x-user": "jo"}, method="PUT"),
        ],
    ),
    matched(
        "one of several matches",
        "{uri: {prefix: /a}}, {uri: {prefix: /b}}",
        [http(f"{URL}/a"), http(f"{URL}/b")],
        [http(f"{URL}/c")],
    ),
    case(
        "no rule matches",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  http:
  - match: [{uri: {prefix: /a}}]
    name: only-a
    route: [{destination: {host: v2}}]
""",
        http(f"{URL}/a", arrives={"version": "v2"}),
        http(f"{URL}/b", status=404, arrives=None),
    ),
    case(
        "the first rule that matches",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  http:
  - match: [{uri: {prefix: /a/b}}]
    route: [{destination: {host: v3}}]
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: v2}}]
  - match: [{uri: {exact: /a/b/c}}]
    route: [{destination: {host: v1}}]
""",
        http(f"{URL}/a/b/c", arrives={"version": "v3"}),
        http(f"{URL}/a/c", arrives={"version": "v2"}),
    ),
]


SIDECAR_CASES = [
    matched(
        "labels of the source",
        "{sourceLabels: {app: eager}}",
        [http(f"{URL}/", client="eager")],
        [http(f"{URL}/")],
    ),
    matched("namespace of the source", "{sourceNamespace: traffic}", [http(f"{URL}/")], []),
    matched("another namespace of the source", "{sourceNamespace: elsewhere}", [], [http(f"{URL}/")]),
    matched("gateways, the mesh", "{gateways: [mesh]}", [http(f"{URL}/")], []),
    matched("gateways, another", "{gateways: [some-gateway]}", [], [http(f"{URL}/")]),
]


@pytest.mark.parametrize("case", at_gateway(CASES), ids=str)
def test_http_match_at_a_gateway(case: Case, ingress: Any) -> None:
    ingress.check(case)


@pytest.mark.parametrize("case", [*CASES, *SIDECAR_CASES], ids=str)
def test_http_match(case: Case, site: Any) -> None:
    site.check(case)


HOSTS = [
    case(
        "the most specific host wins",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name-wide}
spec:
  hosts: ["*.$name.test"]
  http: [{route: [{destination: {host: v1}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name-one}
spec:
  hosts: [one.$name.test]
  http: [{route: [{destination: {host: v2}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [one.$name.test, two.$name.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v3}]
""",
        http("http://one.$name.test/", arrives={"version": "v2"}),
        http("http://two.$name.test/", arrives={"version": "v1"}),
        service="",
    ),
    case(
        "a host in full, and by its short name from another namespace's view",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  http: [{route: [{destination: {host: v2.traffic.svc.cluster.local}}]}]
""",
        http("http://$host/", arrives={"version": "v2"}),
        http("http://$host/", arrives={"version": "v2"}),
    ),
    case(
        "what is not exported changes nothing",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name, namespace: naked}
spec:
  hosts: [$host]
  exportTo: ["."]
  http: [{route: [{destination: {host: v2.traffic.svc.cluster.local}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name-shown, namespace: naked}
spec:
  hosts: [$host]
  exportTo: [traffic]
  http:
  - match: [{uri: {prefix: /shown}}]
    route: [{destination: {host: v3.traffic.svc.cluster.local}}]
  - route: [{destination: {host: v1.traffic.svc.cluster.local}}]
""",
        http("http://$host/shown", arrives={"version": "v3"}),
        http("http://$host/", arrives={"version": "v1"}),
    ),
    case(
        "what is for a gateway alone changes nothing",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  gateways: [some-gateway]
  http: [{route: [{destination: {host: v2}}]}]
""",
        http("http://$host/", count=60, shares={"v1": 1 / 3, "v2": 1 / 3, "v3": 1 / 3}),
    ),
]


@pytest.mark.parametrize("case", HOSTS, ids=str)
def test_hosts(case: Case, site: Any) -> None:
    site.check(case)
