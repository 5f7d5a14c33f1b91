"""Sidecar: what a workload sees, what becomes of the rest, and where its program listens."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import Case, case, http, tcp

pytestmark = pytest.mark.root

SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: $name, namespace: traffic}
spec:
"""
OF_THE_CLIENT = f"""{SIDECAR}
  workloadSelector: {{labels: {{app: eager}}}}
  outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}
"""
REFUSED = "(?i)reset|closed|disconnect|eof|refused"
SERVER = {"ca": "$pki/ca.pem", "sni": "server.test"}
CLIENT = {"certificate": "$pki/client.pem", "key": "$pki/client-key.pem"}
CERTIFICATE = "x-forwarded-client-cert"


def of_client(value: str) -> bool:
    return "URI=spiffe://test/client" in value


VERSION_3 = """
apiVersion: v1
kind: Service
metadata: {name: $name, namespace: traffic}
spec:
  selector: {app: b, version: v3}
  ports:
  - {name: http, port: 80, targetPort: 9080}
  - {name: tcp, port: 83, targetPort: 9083}
  - {name: http-bound, port: 86, targetPort: 9086}
  - {name: https, port: 443, targetPort: 9443}
"""

CASES = [
    case(
        "what is imported is reached, and the rest is refused",
        OF_THE_CLIENT + "  egress: [{hosts: [./$host]}]",
        http("http://v1/", client="eager", status=502, arrives=None),
        http("http://$host/", client="eager", arrives={"path": "/"}),
        tcp("tcp://v1:83", client="eager", error=REFUSED),
        tcp("tcp://$host:83", client="eager", arrives={"protocol": "TCP"}),
    ),
    case(
        "only the port of a listener is imported",
        OF_THE_CLIENT + "  egress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: [./*]}]",
        tcp("tcp://$host:83", client="eager", error=REFUSED),
        http("http://$host/", client="eager", arrives={"path": "/"}),
    ),
    case(
        "clients that call addresses of their own proxy",
        SIDECAR
        + """
  workloadSelector: {labels: {app: eager}}
  egress:
  - {port: {number: 80, protocol: HTTP, name: http}, captureMode: NONE, hosts: [./*]}
  - {port: {number: 83, protocol: TCP, name: tcp}, bind: 127.0.0.9, captureMode: NONE, hosts: [./$host]}
  - hosts: [./*, ~./v1.traffic.svc.cluster.local]
""",
        http("http://$host/", client="eager", address="127.0.0.1:80", arrives={"authority": "$host"}),
        tcp("tcp://$host:83", client="eager", address="127.0.0.9:83", arrives={"protocol": "TCP"}),
    ),
    case(
        "the program listens elsewhere than clients think",
        SIDECAR
        + """
  workloadSelector: {labels: {app: b, version: v3}}
  ingress:
  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8080"}
  - {port: {number: 9083, protocol: TCP, name: tcp}, defaultEndpoint: "0.0.0.0:8083"}
  - {port: {number: 9086, protocol: HTTP, name: bound}, captureMode: NONE, defaultEndpoint: "127.0.0.1:8080"}
  - port: {number: 9443, protocol: HTTPS, name: https}
    defaultEndpoint: 127.0.0.1:8080
    tls:
      mode: MUTUAL
      serverCertificate: $pki/server.pem
      privateKey: $pki/server-key.pem
      caCertificates: $pki/ca.pem
""",
        http("http://$host/", client="eager", arrives={"version": "v3"}),
        tcp("tcp://$host:83", client="eager", arrives={"version": "v3"}),
        http("http://$host:86/", client="eager", arrives={"version": "v3", "port": 8080}),
        http("https://$host/", client="eager", tls=SERVER | CLIENT, arrives={"headers": {CERTIFICATE: of_client}}),
        http("https://$host/", client="eager", tls=SERVER, error="(?i)certificate|alert|reset|closed|disconnect|eof"),
        service=VERSION_3,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sidecars(case: Case, site: Any) -> None:
    site.check(case)
