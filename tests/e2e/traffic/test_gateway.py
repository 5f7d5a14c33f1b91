"""Traffic from outside through the ingress gateway: the client is a process on the host, the servers have sidecars."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from traffic import pki
from traffic.cases import Case, Step, case, grpc, http, http2, substituted, tcp, websocket
from traffic.site import wait_until

pytestmark = pytest.mark.root

OUTSIDE: dict[str, Any] = {"client": "outside", "address": "$ingress:80"}
OVER_TLS: dict[str, Any] = {"client": "outside", "address": "$ingress:443"}
TRUSTING = {"ca": "$pki/ca.pem"}
SHOWING = {"certificate": "$pki/client.pem", "key": "$pki/client-key.pem"}

HTTP = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: $name}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*.$name.test"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [web.$name.test]
  gateways: [$name]
  http: [{route: [{destination: {host: $host, port: {number: 80}}}]}]
"""
CREDENTIAL = """
apiVersion: v1
kind: Secret
metadata: {name: $name, namespace: istio-system}
data: {tls.crt: $server_certificate, tls.key: $server_key, ca.crt: $ca_certificate}
"""
HTTPS = (
    CREDENTIAL
    + """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: $name}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [$name.server.test]
    tls: {mode: MODE, credentialName: $name}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name.server.test]
  gateways: [$name]
  http: [{route: [{destination: {host: $host, port: {number: 80}}}]}]
"""
)
HTTPS_TO_NAKED = (
    HTTPS.replace("{host: $host, port: {number: 80}}", "{host: $name.naked.test}")
    + """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.naked.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $naked}]
"""
)
"""To a server without a sidecar, which sees the headers as the gateway sends them."""

PASSTHROUGH = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: $name}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    hosts: [$name.server.test]
    tls: {mode: PASSTHROUGH}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name.server.test]
  gateways: [$name]
  tls:
  - match: [{port: 443, sniHosts: [$name.server.test]}]
    route: [{destination: {host: $host, port: {number: 443}}}]
"""


TCP = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: $name}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 9000, name: tcp, protocol: TCP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name.test]
  gateways: [$name]
  tcp:
  - match: [{port: 9000}]
    route: [{destination: {host: $host, port: {number: 83}}}]
"""


def https(url: str = "https://$name.server.test/x", tls: dict[str, Any] | None = None, **rest: Any) -> Step:
    return http(url, tls={**TRUSTING, **(tls or {})}, **OVER_TLS, **rest)


TLS_OPTIONS = [
    case(
        "TLS of version 1.3 or later",
        HTTPS.replace("MODE", "SIMPLE, minProtocolVersion: TLSV1_3"),
        https(tls={"versions": ["TLSv1_2", "TLSv1_3"]}),
        https(tls={"versions": ["TLSv1_2", "TLSv1_2"]}, error="(?i)protocol.version"),
    ),
    case(
        "TLS of version 1.2 at most, and a cipher that is on the list",
        HTTPS.replace("MODE", "SIMPLE, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]"),
        https(tls={"versions": ["TLSv1_2", "TLSv1_3"]}),
        https(tls={"versions": ["TLSv1_3", "TLSv1_3"]}, error="(?i)protocol.version"),
        https(tls={"ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"}),
        https(tls={"ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}, error="(?i)handshake.failure"),
    ),
    case(
        "a client whose certificate was revoked is refused",
        HTTPS.replace("MODE", "MUTUAL").replace("$ca_certificate}", "$ca_certificate, ca.crl: $revoked_client}"),
        https(tls=SHOWING, error="."),
        settle=https(error="(?i)certificate.required"),
    ),
    case(
        "a client is not refused for what others' certificates are",
        HTTPS.replace("MODE", "MUTUAL").replace("$ca_certificate}", "$ca_certificate, ca.crl: $revoked_none}"),
        https(tls=SHOWING),
    ),
    case(
        "one certificate, by its hash",
        HTTPS.replace("MODE", "MUTUAL, verifyCertificateHash: [$client_hash]"),
        https(tls=SHOWING),
    ),
    case(
        "another one than is shown, by its hash",
        HTTPS.replace("MODE", "MUTUAL, verifyCertificateHash: [$server_hash]"),
        https(tls=SHOWING, error="."),
        settle=https(error="(?i)certificate.required"),
    ),
    case(
        "one key, by its hash",
        HTTPS.replace("MODE", "MUTUAL, verifyCertificateSpki: [$client_spki]"),
        https(tls=SHOWING),
    ),
    case(
        "another one than is shown, by its key's hash",
        HTTPS.replace("MODE", "MUTUAL, verifyCertificateSpki: [$server_spki]"),
        https(tls=SHOWING, error="."),
        settle=https(error="(?i)certificate.required"),
    ),
]

CASES = [
    *TLS_OPTIONS,
    case(
        "a request from outside reaches the service, and says where it came from",
        HTTP,
        http(
            "http://web.$name.test/some/path?a=1",
            method="POST",
            body="the body",
            **OUTSIDE,
            answers={"headers": {"server": "istio-envoy"}},
            arrives={
                "method": "POST",
                "path": "/some/path",
                "query": "a=1",
                "body": "the body",
                "authority": "web.$name.test",
                "headers": {
                    "x-forwarded-for": re.compile(r"^10\.\d+\.\d+\.\d+$"),
                    "x-forwarded-proto": "http",
                },
            },
        ),
        http("http://other.$name.test/", **OUTSIDE, status=404, arrives=None),
        http("http://$name.test/", **OUTSIDE, status=404, arrives=None),
        http(
            "http://web.$name.test/",
            headers={"x-forwarded-for": "1.2.3.4"},
            **OUTSIDE,
            arrives={"headers": {"x-forwarded-for": re.compile(r"^1\.2\.3\.4,10\.")}},
        ),
    ),
    case(
        "a host with a port in it is the same host",
        HTTP,
        http("http://web.$name.test/", headers={"host": "web.$name.test:8080"}, **OUTSIDE),
    ),
    case(
        "WebSocket",
        HTTP,
        http("http://web.$name.test/", **OUTSIDE),
        websocket(
            "ws://web.$name.test/chat",
            body="one\ntwo",
            **OUTSIDE,
            answers={"messages": lambda found: len(found) == 2},
        ),
    ),
    case(
        "HTTP/2 from outside",
        HTTP.replace("number: 80}}}", "number: 81}}}"),
        http2("http://web.$name.test/x", **OUTSIDE, arrives={"protocol": "HTTP/2", "path": "/x"}),
    ),
    case(
        "gRPC from outside",
        HTTP.replace("number: 80}}}", "number: 82}}}"),
        grpc("http://web.$name.test", body="a message", **OUTSIDE, arrives={"protocol": "gRPC", "body": "a message"}),
        grpc(
            "http://web.$name.test",
            stream=True,
            body="one\ntwo",
            **OUTSIDE,
            answers={"messages": lambda found: [report["body"] for report in found] == ["one", "two"]},
        ),
    ),
    case(
        "plain requests are sent to https",
        HTTP.replace('hosts: ["*.$name.test"]', 'hosts: ["*.$name.test"]\n    tls: {httpsRedirect: true}'),
        http(
            "http://web.$name.test/x?y",
            **OUTSIDE,
            status=301,
            arrives=None,
            answers={"headers": {"location": "https://web.$name.test/x?y"}},
        ),
        http("http://other.$name.test/", **OUTSIDE, status=301, arrives=None),
    ),
    case(
        "TLS ends at the gateway",
        HTTPS.replace("MODE", "SIMPLE"),
        https(arrives={"path": "/x", "sni": None, "headers": {"x-forwarded-proto": "https"}}),
        http(
            "https://$name.server.test/x",
            tls={"ca": "$pki/other-ca.pem"},
            **OVER_TLS,
            error="CERTIFICATE_VERIFY_FAILED",
        ),
        http("https://nobody.server.test/x", tls=TRUSTING, **OVER_TLS, error="."),
    ),
    case(
        "HTTP/2 over TLS",
        HTTPS.replace("MODE", "SIMPLE"),
        http2("https://$name.server.test/x", tls=TRUSTING, **OVER_TLS, answers={"protocol": "HTTP/2"}),
    ),
    case(
        "clients have to show a certificate that the Secret's authority signed",
        HTTPS_TO_NAKED.replace("MODE", "MUTUAL"),
        https(
            tls=SHOWING,
            arrives={"headers": {"x-forwarded-client-cert": re.compile("URI=spiffe://test/client")}},
        ),
        https(error="."),
    ),
    case(
        "clients may show a certificate",
        HTTPS_TO_NAKED.replace("MODE", "OPTIONAL_MUTUAL"),
        https(arrives={"headers": {"x-forwarded-client-cert": None}}),
        https(tls=SHOWING, arrives={"headers": {"x-forwarded-client-cert": re.compile("URI=spiffe://test/client")}}),
    ),
    case(
        "clients are told apart by a name in their certificate",
        HTTPS.replace("MODE", "MUTUAL, subjectAltNames: ['spiffe://test/other']"),
        https(tls=SHOWING, error="."),
    ),
    case(
        "TLS passes through to the server that its name says",
        PASSTHROUGH,
        https(
            tls=SHOWING,
            arrives={"sni": "$name.server.test", "certificate": {"URI": ["spiffe://test/client"]}},
        ),
    ),
    case(
        "TCP",
        TCP,
        tcp("tcp://$ingress_pod:9000", body="a line", client="outside", arrives={"protocol": "TCP", "body": "a line"}),
    ),
]


@pytest.fixture(scope="module")
def outside(ingress: Any) -> Any:
    """The site with the ingress gateway, and the traffic certificates as Secrets hold them."""
    ingress.names |= encoded(Path(ingress.names["pki"]))
    return ingress


def encoded(folder: Path) -> dict[str, str]:
    """A server's certificate and key, its authority and what that revoked, as a Secret's data; and hashes."""
    files = {
        "server_certificate": "server.pem",
        "server_key": "server-key.pem",
        "ca_certificate": "ca.pem",
        "revoked_client": "revoked-client.pem",
        "revoked_none": "revoked-none.pem",
    }
    found = {name: base64.b64encode((folder / file).read_bytes()).decode() for name, file in files.items()}
    for name in ("client", "server"):
        found[f"{name}_hash"], found[f"{name}_spki"] = pki.hashes_of(folder / f"{name}.pem")
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ingress(case: Case, outside: Any) -> None:
    outside.check(case)


def unserved(mesh: Any, gateway: str) -> str:
    """What a Gateway's condition says of what is not served; "" where there is none."""
    conditions = mesh.get("gateway", gateway, "-n", "traffic").get("status", {}).get("conditions", [])
    return next((c["message"] for c in conditions if c["type"] == "pilotfish.dev/Served"), "")


def test_a_renewed_certificate_is_shown_without_a_restart(outside: Any, tmp_path: Path) -> None:
    pki.write(tmp_path)
    renewed = encoded(tmp_path)
    with outside.applied(HTTPS.replace("MODE", "SIMPLE")) as names:
        before, after = https(), https(tls={"ca": str(tmp_path / "ca.pem")})
        outside.settle(substituted(before, names), "the first certificate")
        data = {"tls.crt": renewed["server_certificate"], "tls.key": renewed["server_key"]}
        patch = json.dumps({"data": data})
        outside.mesh.kubectl("patch", "secret", names["name"], "-n", "istio-system", "--type=merge", "-p", patch)
        outside.settle(substituted(after, names), "the renewed certificate")
        refused = https(error="CERTIFICATE_VERIFY_FAILED")
        outside.hold(substituted(refused, names))


def test_a_server_without_its_secret_holds_nobody_else_up(outside: Any) -> None:
    """Its own connections end at once; another of the same port serves, and it does too when the Secret comes."""
    lacking = HTTPS.replace("MODE", "SIMPLE").partition("---")[2]
    with outside.applied(HTTPS.replace("MODE", "SIMPLE")) as names:
        outside.settle(substituted(https(), names), "the server that has its Secret")
        with outside.applied(lacking) as others:
            ended = substituted(https(error="(?i)eof|reset|closed|connect"), others)
            outside.settle(ended, "the server that lacks its Secret")
            outside.hold(substituted(https(), names))
            reason = f"servers[0]: there is no Secret {others['name']} (namespace istio-system)"
            wait_until(lambda: unserved(outside.mesh, others["name"]) == reason, "the Gateway says what it lacks")
            secret = substituted(CREDENTIAL, others)
            outside.mesh.apply(secret)
            try:
                outside.settle(substituted(https(), others), "the Secret has come")
                wait_until(lambda: not unserved(outside.mesh, others["name"]), "the Gateway lacks nothing")
            finally:
                outside.mesh.kubectl("delete", "-f", "-", stdin=secret)


EGRESS_GATEWAY = """
apiVersion: v1
kind: Namespace
metadata: {name: egress}
---
apiVersion: v1
kind: Service
metadata: {name: egress, namespace: egress}
spec:
  selector: {istio: egress}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: egress, namespace: egress}
spec:
  selector: {matchLabels: {istio: egress}}
  template:
    metadata:
      annotations: {inject.istio.io/templates: gateway}
      labels: {istio: egress, sidecar.istio.io/inject: "true"}
    spec:
      containers: [{name: istio-proxy, image: auto}]
"""
OUT = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: $name}
spec:
  selector: {istio: egress}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [$name.outside.test]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name.outside.test]
  gateways: [mesh, $name]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: egress.egress.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [$name], port: 80}]
    route: [{destination: {host: $name.outside.test, port: {number: 80}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.outside.test]
  resolution: STATIC
  location: MESH_EXTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: $outside_http}]
  endpoints: [{address: $outside}]
"""


@pytest.fixture(scope="module")
def egress(site: Any) -> Iterator[Any]:
    """The site with an egress gateway of the user's own."""
    mesh = site.mesh
    try:
        mesh.apply(EGRESS_GATEWAY)
        mesh.kubectl("rollout", "status", "deployment/egress", "-n", "egress", "--timeout=60s")
        (pod,) = mesh.get("pods", "-n", "egress", "-l", "istio=egress")["items"]
        site.names["egress_pod"] = pod["status"]["podIP"]
        yield site
    finally:
        mesh.kubectl("delete", "namespace", "egress", "--ignore-not-found")


@pytest.mark.parametrize("client", ["a", "eager"])
def test_what_leaves_the_mesh_goes_through_the_egress_gateway(egress: Any, client: str) -> None:
    through = http(
        "http://$name.outside.test/x", client=client,
        arrives={"path": "/x", "authority": "$name.outside.test", "peer": "$egress_pod"},
    )  # fmt: skip
    egress.check(case("egress", OUT, through, service=""))
