"""The TCP and TLS routes of a VirtualService, through sidecars."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import Case, case, http, tcp

pytestmark = pytest.mark.root

VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
"""


def by_name(name: str, version: str) -> Any:
    sni = f"{name}.server.test"
    return http("https://$host/x", tls={"ca": "$pki/ca.pem", "sni": sni}, arrives={"sni": sni, "version": version})


CASES = [
    case(
        "connections by weight",
        VIRTUAL_SERVICE
        + """
  hosts: [$host]
  tcp: [{route: [{destination: {host: v1}, weight: 80}, {destination: {host: v2}, weight: 20}]}]
""",
        tcp("tcp://$host:83", count=200, reuse=False, shares={"v1": 0.8, "v2": 0.2}),
        settle=tcp("tcp://$host:83", arrives={"version": lambda version: version != "v3"}),
    ),
    case(
        "connections to a port, and to a port of the destination",
        VIRTUAL_SERVICE
        + """
  hosts: [$host]
  tcp: [{match: [{port: 83}], route: [{destination: {host: v2, port: {number: 85}}}]}]
""",
        tcp("tcp://$host:83", count=5, reuse=False, arrives={"version": "v2", "port": 8085}),
        tcp("tcp://$host:85", arrives={"port": 8085}),
    ),
    case(
        "bytes and requests on a port that names no protocol",
        VIRTUAL_SERVICE
        + """
  hosts: [$host]
  http: [{route: [{destination: {host: v1}}]}]
  tcp: [{route: [{destination: {host: v2}}]}]
""",
        http("http://$host:85/", count=5, reuse=False, arrives={"version": "v1"}),
        tcp("tcp://$host:85", count=5, reuse=False, arrives={"version": "v2"}),
    ),
    case(
        "connections of clients with a label",
        VIRTUAL_SERVICE
        + """
  hosts: [$host]
  tcp:
  - {match: [{sourceLabels: {app: nobody}}], route: [{destination: {host: v1}}]}
  - {match: [{sourceLabels: {app: a}}], route: [{destination: {host: v2}}]}
  - {route: [{destination: {host: v3}}]}
""",
        tcp("tcp://$host:83", arrives={"version": "v2"}),
        tcp("tcp://$host:83", client="eager", arrives={"version": "v3"}),
    ),
    case(
        "TLS by its server name",
        VIRTUAL_SERVICE
        + """
  hosts: [$host, $name.server.test, $name-b.server.test]
  tls:
  - {match: [{sniHosts: [$name.server.test]}], route: [{destination: {host: v1}}]}
  - {match: [{sniHosts: [$name-b.server.test]}], route: [{destination: {host: v2}}]}
""",
        by_name("$name", "v1"),
        by_name("$name-b", "v2"),
    ),
    case(
        "routes of two for one host",
        VIRTUAL_SERVICE
        + """
  hosts: [$host]
  tcp: [{match: [{port: 83}], route: [{destination: {host: v1}}]}]
---"""
        + VIRTUAL_SERVICE.replace("$name", "$name-b")
        + """
  hosts: [$host]
  tcp: [{route: [{destination: {host: v2}}]}]
  http: [{route: [{destination: {host: v3}}]}]
""",
        tcp("tcp://$host:83", count=3, reuse=False, arrives={"version": "v1"}),
        tcp("tcp://$host:85", count=3, reuse=False, arrives={"version": "v2"}),
        http("http://$host/", count=3, arrives={"version": "v3"}),
        settle=http("http://$host/", arrives={"version": "v3"}),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_byte_routes(case: Case, site: Any) -> None:
    site.check(case)
