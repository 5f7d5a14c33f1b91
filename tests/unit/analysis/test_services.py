from __future__ import annotations

from typing import Any

import pytest


def service(ports: str, name: str = "web", more: str = "", namespace: str = "shop") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: web}}, ports: [{ports}]{more}}}
"""


def deployment(
    pod: str = "containers: [{name: app, image: x}]", labels: str = "sidecar.istio.io/inject: 'true'"
) -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template: {{metadata: {{labels: {{app: web, {labels}}}}}, spec: {{{pod}}}}}
"""


@pytest.mark.parametrize(
    ("port", "told"),
    [
        ("{name: http, port: 80}", True),
        ("{name: grpc-web, port: 80}", True),
        ("{name: web, port: 80, appProtocol: http}", True),
        ("{name: web, port: 80, protocol: UDP}", True),
        ("{name: web, port: 3306}", True),
        ("{name: web, port: 80}", False),
        ("{port: 80}", False),
    ],
)
def test_names_of_ports(analyse: Any, port: str, told: bool) -> None:
    found = analyse(service(port), code="IST0118")
    assert (found == []) is told
    if found:
        assert found[0].arguments[1:] == ("80", "80")
        assert found[0].path == ("spec", "ports", 0, "port")
    assert analyse(service(port, namespace="kube-system"), code="IST0118") == []


def test_ports_of_external_names(analyse: Any) -> None:
    external = ", type: ExternalName, externalName: a.b"
    [found] = analyse(service("{name: tcp, port: 80}", more=external))
    assert found.code == "IST0150"
    assert analyse(service("{name: http, port: 80}", more=external)) == []


def test_services_of_a_deployment_that_disagree(analyse: Any) -> None:
    one = service("{name: http, port: 80, targetPort: 8080}", "one")
    udp = service("{name: dns, port: 80, protocol: UDP, targetPort: 8080}", "two")
    [found] = analyse(one, udp, deployment(), code="IST0116")
    assert found.arguments == ("web", "80", "shop/one, shop/two")
    other = service("{name: http, port: 81, targetPort: 8080}", "two")
    [found] = analyse(one, other, deployment(), code="IST0137")
    assert found.arguments == ("web", "shop/one, shop/two", "8080", "80, 81")
    assert analyse(one, other, deployment(labels="sidecar.istio.io/inject: 'false'"), code="IST0137") == []


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        ("securityContext: {runAsUser: 1337}, containers: [{name: app, image: x}]", True),
        ("containers: [{name: app, image: x, securityContext: {runAsUser: 1337}}]", True),
        ("containers: [{name: istio-proxy, image: x, securityContext: {runAsUser: 1337}}]", False),
        ("containers: [{name: app, image: x}]", False),
    ],
)
def test_applications_that_run_as_the_proxy(analyse: Any, pod: str, found: bool) -> None:
    assert bool(analyse(deployment(pod), code="IST0144")) is found


def entry(name: str, port: str, more: str = "", host: str = "db.example.com") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec: {{hosts: [{host}], resolution: DNS, ports: [{port}]{more}}}
"""


def test_tcp_ports_need_addresses(analyse: Any) -> None:
    tcp = "{number: 5432, name: tcp, protocol: TCP}"
    [found] = analyse(entry("db", tcp), code="IST0134")
    assert found.path == ("spec", "ports", 0, "name")
    mesh = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true', ISTIO_META_DNS_AUTO_ALLOCATE: 'true'}}"}
"""
    assert analyse(entry("db", tcp), mesh, code="IST0134") == []
    assert analyse(entry("db", tcp, ", addresses: [10.1.1.1]"), code="IST0134") == []
    assert analyse(entry("db", "{number: 80, name: http, protocol: HTTP}"), code="IST0134") == []
    allocated = entry("db", tcp) + "status: {addresses: [{value: 240.240.0.1}]}\n"
    assert analyse(allocated, code="IST0134") == []


def test_entries_that_disagree_about_a_port(analyse: Any) -> None:
    http, tls = "{number: 443, name: a, protocol: HTTP}", "{number: 443, name: a, protocol: tls}"
    found = analyse(entry("one", http), entry("two", tls), code="IST0177")
    assert [f.arguments for f in found] == [("shop/one, shop/two", "db.example.com", "443", "HTTP, TLS")] * 2
    assert analyse(entry("one", http), entry("two", http), code="IST0177") == []
    assert analyse(entry("one", http), entry("two", tls, host="other.com"), code="IST0177") == []
    scoped = entry("two", tls, ", exportTo: [other]"), entry("three", http, ", exportTo: [third]")
    assert analyse(*scoped, code="IST0177") == []
