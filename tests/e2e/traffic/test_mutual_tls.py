"""Mutual TLS between sidecars: with whom it is spoken, who they say they are, and who is not believed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pilotfish.home import Home
from pilotfish.node import proxy
from pilotfish.node.certificates import WorkloadCertificate
from pilotfish.node.sandbox import PodFolder
from pilotfish.pki.authority import Authority
from pilotfish.pki.files import Files
from pilotfish.pki.identity import Identity
from traffic.cases import GATEWAY, Case, case, grpc, http, http2, substituted, tcp
from traffic.site import Workload

pytestmark = pytest.mark.root

ACCOUNT = "spiffe://cluster.local/ns/traffic/sa/default"
PEER = {
    "headers": {"x-forwarded-client-cert": re.compile(rf"^By={ACCOUNT};Hash=[0-9a-f]{{64}};Subject=.*;URI={ACCOUNT}$")}
}
NOBODY = {"headers": {"x-forwarded-client-cert": None}}
"""What a workload is told of a client that came without TLS."""

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $name}
spec: {host: $host, trafficPolicy: {tls: {mode: MODE}}}
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
"""
OTHERS = "ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/traffic/sa/somebody-else']"
NOT_BELIEVED = re.compile("remote connection failure")

CASES = [
    case(
        "requests bring the identity of their client",
        "",
        http("http://$name/", arrives=PEER),
        http2("http://$name:81/", arrives=PEER),
        grpc("http://$name:82", arrives=PEER),
        http("http://$name:85/", arrives={"protocol": "HTTP/1.1", **PEER}),
        http2("http://$name:85/", arrives={"protocol": "HTTP/2", **PEER}),
    ),
    case(
        "nobody can say that he is another",
        "",
        http(
            "http://$name/", headers={"x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/a/sa/b"}, arrives=PEER
        ),
        http(
            "http://$host/",
            client="naked",
            headers={"x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/a/sa/b"},
            arrives=NOBODY,
        ),
    ),
    case(
        "without a sidecar, by whatever protocol",
        "",
        http("http://$host/", client="naked", arrives=NOBODY),
        http2("http://$host:81/", client="naked", arrives=NOBODY),
        grpc("http://$host:82", client="naked", arrives=NOBODY),
        tcp("tcp://$host:83", client="naked", arrives={"protocol": "TCP"}),
        http("http://$host:85/", client="naked", arrives={"protocol": "HTTP/1.1", **NOBODY}),
        http(
            "https://$host/",
            client="naked",
            tls={"ca": "$pki/ca.pem", "sni": "server.test"},
            arrives={"sni": "server.test"},
        ),
        tcp(
            "tcp://$host:84",
            client="naked",
            listen_first=True,
            answers={"greeting": re.compile("^hello")},
            took=(0.9, 5),
        ),
    ),
    case(
        "a headless Service, and the address of a pod alone",
        "",
        http("http://$name:8080/", arrives=PEER),
        tcp("tcp://$name:8083", arrives={"protocol": "TCP", "body": "ping"}),
        http("http://$b_v1:8080/", arrives={"version": "v1", **NOBODY}),
        service="""
apiVersion: v1
kind: Service
metadata: {name: $name, namespace: traffic}
spec:
  clusterIP: None
  selector: {app: b}
  ports: [{name: http, port: 8080}, {name: tcp, port: 8083}]
""",
    ),
    case("a rule switches it off", RULE.replace("MODE", "DISABLE"), http("http://$name/", arrives=NOBODY)),
    case(
        "a rule asks for it",
        RULE.replace("MODE", "ISTIO_MUTUAL"),
        http("http://$name/", arrives=PEER),
        tcp("tcp://$name:83", arrives={"protocol": "TCP", "body": "ping"}),
        tcp("tcp://$name:85", arrives={"protocol": "TCP"}),
        tcp("tcp://$name:84", listen_first=True, took=(0, 0.9), answers={"greeting": re.compile("^hello")}),
        http("https://$name/", tls={"ca": "$pki/ca.pem", "sni": "server.test"}, arrives={"sni": "server.test"}),
    ),
    case(
        "a server of another name is not believed, nor is one of bytes",
        RULE.replace("MODE", OTHERS),
        http("http://$name/", status=503, answers={"body": NOT_BELIEVED}, arrives=None),
        tcp("tcp://$name:83", error="closed|reset"),
    ),
    case(
        "an endpoint with an account, and one without",
        ENTRY + "  endpoints: [{address: $b_v1, serviceAccount: default}, {address: $b_v2}]\n",
        http(
            "http://$name.test/",
            count=60,
            shares={("v1", True): 0.5, ("v2", False): 0.5},
            by=lambda answer: (answer["echo"]["version"], "x-forwarded-client-cert" in answer["echo"]["headers"]),
        ),
        service="",
    ),
    case(
        "an endpoint that is not who it is said to be",
        ENTRY + "  endpoints: [{address: $b_v1, serviceAccount: somebody-else}]\n",
        http("http://$name.test/", status=503, answers={"body": NOT_BELIEVED}, arrives=None),
        service="",
    ),
    case(
        "an entry that names who answers",
        ENTRY
        + "  endpoints: [{address: $b_v1, serviceAccount: somebody-else}]\n"
        + f"  subjectAltNames: ['{ACCOUNT}']\n",
        http("http://$name.test/", arrives={"version": "v1", **PEER}),
        service="",
    ),
    case(
        "a WorkloadEntry with an account",
        ENTRY
        + """
  workloadSelector: {labels: {case: $name}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: $name}
spec: {address: $b_v2, serviceAccount: default, labels: {case: $name}}
""",
        http("http://$name.test/", arrives={"version": "v2", **PEER}),
        service="",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_mutual_tls(case: Case, site: Any) -> None:
    site.check(case)


def test_a_gateway_speaks_it_with_workloads(site: Any, ingress: Any) -> None:
    of_gateway = re.compile("URI=spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account$")
    route = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec: {hosts: [$host], gateways: [$name], http: [{route: [{destination: {host: $host, port: {number: 85}}}]}]}
"""
    with site.applied(route + GATEWAY) as names:
        arrives = {"headers": {"x-forwarded-client-cert": of_gateway}}
        step = http("http://$host/", client="outside", address="$ingress:80", arrives=arrives)
        site.settle(substituted(step, {**ingress.names, **names}), "the gateway's identity")


def test_the_mesh_can_do_without(site: Any) -> None:
    with site.applied("") as names:
        with site.configured("enableAutoMtls: false"):
            site.settle(substituted(http("http://$name/", arrives=NOBODY), names), "no mutual TLS")
        site.settle(substituted(http("http://$name/", arrives=PEER), names), "mutual TLS")


def test_another_trust_domain(site: Any) -> None:
    """Of pods that were made before, the identities are still believed while theirs is an alias."""
    domains = "trustDomain: mesh.test\ntrustDomainAliases: [cluster.local]"
    with site.applied("") as names, site.configured(domains), site.running(Workload("moved")):
        arrives = {"headers": {"x-forwarded-client-cert": re.compile("URI=spiffe://mesh.test/ns/traffic/sa/default$")}}
        site.settle(substituted(http("http://$name/", client="moved", arrives=arrives), names), "its own trust domain")


def certificate_of(home: Home) -> WorkloadCertificate:
    """Another certificate of the workloads' account, as the node gets them."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(ACCOUNT)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    chain = Authority.at(Files(home.pki)).sign_workload(request, Identity.parse(ACCOUNT))
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return WorkloadCertificate(chain, private)


def test_a_renewed_certificate_is_shown_without_a_restart(site: Any) -> None:
    """By the client; the server's is taken up in the same way, from the same files."""
    home = Home(site.mesh.home)
    pod = site.mesh.get("pod", "a", "-n", "traffic")
    certificate = certificate_of(home)
    fingerprint = x509.load_pem_x509_certificates(certificate.chain)[0].fingerprint(hashes.SHA256()).hex()
    every_time_anew = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $name}
spec: {host: $host, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}
"""
    with site.applied(every_time_anew) as names:
        site.settle(substituted(http("http://$name/", arrives=PEER), names), "mutual TLS")
        proxy.write_certificate(PodFolder(home.pods / pod["metadata"]["uid"]), certificate)
        shown = {"headers": {"x-forwarded-client-cert": re.compile(f"Hash={fingerprint}")}}
        site.settle(substituted(http("http://$name/", arrives=shown), names), "the new certificate")
