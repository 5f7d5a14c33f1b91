from __future__ import annotations

from typing import Any

import pytest


def rule(spec: str, namespace: str = "shop") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: rule, namespace: {namespace}}}
spec: {spec}
"""


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec:
  hosts: [db.example.com]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, labels: {zone: a}}]
"""


def subset(host: str, labels: str) -> str:
    return rule(f"{{host: {host}, subsets: [{{name: some, labels: {labels}}}]}}")


@pytest.mark.parametrize(
    ("host", "labels", "selects"),
    [
        ("web", "{version: v1}", True),
        ("web", "{version: v2}", False),
        ("web", "{app: web, version: v1}", True),
        ("web", "{}", True),
        ("db.example.com", "{zone: a}", True),
        ("db.example.com", "{version: v1}", False),
    ],
)
def test_subsets_have_endpoints(analyse: Any, shop: str, host: str, labels: str, selects: bool) -> None:
    found = analyse(shop, ENTRY, subset(host, labels), code="IST0173")
    assert (found == []) is selects
    if found:
        assert (found[0].arguments, found[0].path) == (("some",), ("spec", "subsets", 0, "name"))


def test_a_deployment_without_pods_yet_counts(analyse: Any) -> None:
    manifests = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web, version: v1}}, spec: {containers: [{name: a, image: x}]}}
"""
    assert analyse(manifests, subset("web", "{version: v1}"), code="IST0173") == []
    assert len(analyse(manifests, subset("web", "{version: v2}"), code="IST0173")) == 1


def test_pods_are_placed_by_their_node(analyse: Any, shop: str) -> None:
    node = """
apiVersion: v1
kind: Node
metadata: {name: n, labels: {topology.kubernetes.io/zone: z1}}
"""
    wanted = subset("web", "{topology.kubernetes.io/zone: z1}")
    assert len(analyse(shop, node, wanted, code="IST0173")) == 1
    assert (
        analyse(shop.replace("spec: {containers", "spec: {nodeName: n, containers"), node, wanted, code="IST0173") == []
    )


def test_a_host_that_nobody_has(analyse: Any, shop: str) -> None:
    [found] = analyse(shop, rule("{host: nobody}"), code="IST0174")
    assert (found.arguments, found.path) == (("nobody",), ("spec", "host"))
    assert analyse(shop, rule("{host: web}"), code="IST0174") == []
    assert analyse(shop, rule("{host: web.shop.svc.cluster.local}", "other"), code="IST0174") == []


def test_tls_that_trusts_anyone(analyse: Any, shop: str) -> None:
    [found] = analyse(shop, rule("{host: web, trafficPolicy: {tls: {mode: SIMPLE}}}"), code="IST0128")
    assert found.arguments == ("rule", "shop", "SIMPLE", "web")
    ports = "{portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}"
    [found] = analyse(shop, rule(f"{{host: web, trafficPolicy: {ports}}}"), code="IST0129")
    assert found.arguments == ("rule", "shop", "SIMPLE", "web", "80")
    for tls in ("{mode: SIMPLE, caCertificates: /ca.pem}", "{mode: DISABLE}", "{mode: ISTIO_MUTUAL}"):
        assert analyse(shop, rule(f"{{host: web, trafficPolicy: {{tls: {tls}}}}}"), code="IST0128") == []
