from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files

INGRESS = """
apiVersion: v1
kind: Pod
metadata: {name: ingress-1, namespace: edge, labels: {istio: ingressgateway, app: front}}
spec: {containers: [{name: istio-proxy, image: istio/proxyv2:1}]}
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: edge}
spec: {selector: {istio: ingressgateway}, ports: [{name: http2, port: 80, targetPort: 8080}]}
"""


def gateway(servers: str, name: str = "front", selector: str = "{istio: ingressgateway}") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {selector}, servers: [{servers}]}}
"""


def server(port: int = 80, hosts: str = '["*.example.com"]', more: str = "") -> str:
    protocol = "HTTPS" if more else "HTTP"
    return f"{{port: {{number: {port}, name: p, protocol: {protocol}}}, hosts: {hosts}{more}}}"


@pytest.mark.parametrize(("port", "reached"), [(80, True), (8080, True), (81, False)])
def test_ports_that_a_service_leads_to(analyse: Any, port: int, reached: bool) -> None:
    found = analyse(INGRESS, gateway(server(port)), code="IST0162")
    assert (found == []) is reached
    if found:
        assert (found[0].arguments, found[0].path) == (("81", "istio=ingressgateway"), ("spec", "selector", "istio"))


def test_a_selector_of_nobody(analyse: Any) -> None:
    [found] = analyse(INGRESS, gateway(server(), selector="{istio: nobody}"), code="IST0101")
    assert found.arguments == ("selector", "istio=nobody")


def test_secrets(analyse: Any, tmp_path: Path) -> None:
    pair = Authority.at(Files(tmp_path)).issue_server("web", SubjectNames.of(dns=["web.example.com"]))
    tls = server(80, more=", tls: {mode: SIMPLE, credentialName: cert}")

    def secret(certificate: bytes) -> str:
        data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(pair.key).decode()}
        return f"{{apiVersion: v1, kind: Secret, metadata: {{name: cert, namespace: edge}}, data: {data}}}"

    [found] = analyse(INGRESS, gateway(tls), code="IST0101")
    assert found.arguments == ("credentialName", "cert")
    assert found.path == ("spec", "servers", 0, "tls", "credentialName")
    assert analyse(INGRESS, gateway(tls), secret(pair.certificate)) == []
    [found] = analyse(INGRESS, gateway(tls), secret(b"nothing"), code="IST0161")
    assert found.arguments == ("front", "edge")


@pytest.mark.parametrize(
    ("other", "conflict"),
    [
        (gateway(server(), "other"), True),
        (gateway(server(hosts='["api.example.com"]'), "other"), False),
        (gateway(server(81), "other"), False),
        (gateway(server(), "other", "{app: front}"), True),
        (gateway(server(), "other", "{app: back}"), False),
    ],
)
def test_gateways_with_the_same_hosts(analyse: Any, other: str, conflict: bool) -> None:
    found = analyse(INGRESS, gateway(server()), other, code="IST0145")
    assert bool(found) is conflict
    if found:
        assert found[0].arguments == ("shop/other", "istio=ingressgateway", "80", "*.example.com")


def test_gateways_with_the_same_certificate(analyse: Any) -> None:
    tls = server(80, more=", tls: {mode: SIMPLE, credentialName: cert}")
    found = analyse(INGRESS, gateway(tls), gateway(tls, "other"), code="IST0138")
    assert [one.arguments for one in found] == [("shop/front, shop/other",), ("shop/other, shop/front",)]
    assert analyse(INGRESS, gateway(tls), gateway(server(), "other"), code="IST0138") == []
