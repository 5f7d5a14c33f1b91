"""Which endpoint gets a request, and the TLS before it, as DestinationRules say."""

from __future__ import annotations

import base64
import collections
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from traffic.cases import Answer, Case, Step, case, http, substituted, tcp

pytestmark = pytest.mark.root

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $name}
spec:
  host: $host
  trafficPolicy:
"""
OUTSIDE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: $outside_http}]
  endpoints: [{address: $outside}]
"""
OUTSIDE_TLS = OUTSIDE.replace("$outside_http", "$outside_tls")
OF_OUTSIDE = "---" + RULE.replace("$host", "$name.test")
HALVES = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$host]
  http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: $host}}]}, {route: [{destination: {host: $host}}]}]
"""
V2_FIRST = """
    loadBalancer: {localityLbSetting: {failoverPriority: ["version=v2"]}}
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}
"""


def versions(found: list[Answer]) -> collections.Counter[str]:
    return collections.Counter(answer["echo"]["version"] for answer in found)


def one(found: list[Answer]) -> None:
    assert len(versions(found)) == 1, versions(found)


def hashed(what: str, balancer: str, *steps: Step) -> Case:
    """The rule has no effect that one request shows: it is in force once the first step's requests are all for one."""
    manifest = f"{RULE}    loadBalancer: {{consistentHash: {{{balancer}}}}}"
    return case(what, manifest, *steps, settle=steps[0])


def none_of(version: str) -> Any:
    def check(found: list[Answer]) -> None:
        assert version not in versions(found), versions(found)

    return check


CASES = [
    hashed(
        "a header's value is always for one endpoint",
        "httpHeaderName: x-user",
        http("http://$host/", headers={"x-user": "jo"}, count=15, reuse=False, check=one),
        http("http://$host/", headers={"x-user": "al"}, count=15, reuse=False, check=one),
    ),
    case(
        "a query parameter, by Maglev, over the routes of a VirtualService",
        RULE
        + "    loadBalancer: {consistentHash: {httpQueryParameterName: user, maglev: {tableSize: 65537}}}"
        + HALVES,
        http("http://$host/a?user=jo", count=15, reuse=False, check=one),
        http("http://$host/b?user=jo", count=15, reuse=False, check=one),
        settle=http("http://$host/b?user=jo", count=15, reuse=False, check=one),
    ),
    case(
        "a cookie that the proxy makes",
        RULE + "    loadBalancer: {consistentHash: {httpCookie: {name: user, path: /x, ttl: 60s}}}",
        http("http://$host/", answers={"headers": {"set-cookie": re.compile('^user="?[0-9a-f]+"?;.*Path=/x')}}),
        http("http://$host/", headers={"cookie": "user=jo"}, count=15, check=one),
        http("http://$host/", headers={"cookie": "user=jo"}, answers={"headers": {"set-cookie": None}}),
    ),
    hashed(
        "all connections of one client are for one endpoint",
        "useSourceIp: true",
        tcp("tcp://$host:83", count=15, check=one),
        http("http://$host/", count=15, reuse=False, check=one),
    ),
    case(
        "in turn",
        RULE + "    loadBalancer: {simple: ROUND_ROBIN}",
        http("http://$host/", count=60, shares={"v1": 1 / 3, "v2": 1 / 3, "v3": 1 / 3}),
    ),
    case(
        "at random",
        RULE + "    loadBalancer: {simple: RANDOM}",
        http("http://$host/", count=120, shares={"v1": 1 / 3, "v2": 1 / 3, "v3": 1 / 3}),
    ),
    case(
        "TLS that the sidecar begins, with a server name of its own",
        OUTSIDE_TLS + OF_OUTSIDE + "    tls: {mode: SIMPLE, caCertificates: $pki/ca.pem, sni: server.test}",
        http("http://$name.test/", arrives={"version": "outside", "sni": "server.test", "certificate": {}}),
        service="",
    ),
    case(
        "TLS on both sides",
        OUTSIDE_TLS
        + OF_OUTSIDE
        + """
    tls:
      mode: MUTUAL
      caCertificates: $pki/ca.pem
      clientCertificate: $pki/client.pem
      privateKey: $pki/client-key.pem
      sni: server.test
""",
        http("http://$name.test/", arrives={"version": "outside", "certificate": lambda shown: bool(shown)}),
        service="",
    ),
    case(
        "a server that nobody vouches for is not believed",
        OUTSIDE_TLS + OF_OUTSIDE + "    tls: {mode: SIMPLE, caCertificates: $pki/other-ca.pem, sni: server.test}",
        http("http://$name.test/", status=503, arrives=None),
        service="",
    ),
    case(
        "a server of another name is not believed",
        OUTSIDE_TLS
        + OF_OUTSIDE
        + "    tls: {mode: SIMPLE, caCertificates: $pki/ca.pem, sni: server.test, subjectAltNames: [foreign.test]}",
        http("http://$name.test/", status=503, arrives=None),
        service="",
    ),
    case(
        "a server that is not checked",
        OUTSIDE_TLS + OF_OUTSIDE + "    tls: {mode: SIMPLE, insecureSkipVerify: true}",
        http("http://$name.test/", arrives={"version": "outside", "sni": "$name.test"}),
        service="",
    ),
    case(
        "answers that count as failures",
        RULE
        + """
    outlierDetection:
      consecutive5xxErrors: 1
      baseEjectionTime: 60s
      maxEjectionPercent: 100
      outlierDetectionHttpErrorCodes: [418]
""",
        http("http://$host/", count=40, check=none_of("v1")),
        settle=http("http://$host/", count=20, instruct={"status": 418, "only": "v1"}),  # until v1 is out
    ),
    case(
        "endpoints with a label first",
        RULE + V2_FIRST,
        http("http://$host/", count=20, arrives={"version": "v2"}),
        settle=http("http://$host/", count=20, arrives={"version": "v2"}),
    ),
    case(
        "the others when those with the label have failed",
        RULE + V2_FIRST,
        http("http://$host/", count=60, shares={"v1": 0.5, "v3": 0.5}),
        settle=http("http://$host/", count=20, instruct={"status": 500, "only": "v2"}),  # until v2 is out
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_endpoints(case: Case, site: Any) -> None:
    site.check(case)


def base64_of(folder: Path, name: str) -> str:
    return base64.b64encode((folder / name).read_bytes()).decode()


def test_certificates_of_a_secret_are_shown_and_believed(site: Any) -> None:
    pki = Path(site.names["pki"])
    data = {"tls.crt": "client.pem", "tls.key": "client-key.pem", "ca.crt": "ca.pem"}
    credential = f"""
---
apiVersion: v1
kind: Secret
metadata: {{name: $name, namespace: traffic}}
data: { ({key: base64_of(pki, file) for key, file in data.items()}) }
"""
    tls = "    tls: {mode: MUTUAL, credentialName: $name, sni: server.test}\n"
    selected = "  workloadSelector: {matchLabels: {app: a}}\n"
    shown = http("http://$name.test/", arrives={"version": "outside", "certificate": lambda shown: bool(shown)})
    site.check(case("a Secret", OUTSIDE_TLS + OF_OUTSIDE + tls + selected + credential, shown, service=""))


def test_files_are_taken_up_when_they_change(site: Any) -> None:
    pki = Path(site.names["pki"])
    folder = pki / "changing"
    folder.mkdir()
    shutil.copy(pki / "other-ca.pem", folder / "ca.pem")
    tls = "    tls: {mode: SIMPLE, caCertificates: $pki/changing/ca.pem, sni: server.test}"
    with site.applied(OUTSIDE_TLS + OF_OUTSIDE + tls, "") as names:
        site.settle(substituted(http("http://$name.test/", status=503, arrives=None), names), "another authority")
        shutil.copy(pki / "ca.pem", folder / "new")
        (folder / "new").rename(folder / "ca.pem")
        site.settle(substituted(http("http://$name.test/", arrives={"sni": "server.test"}), names), "the server's own")
