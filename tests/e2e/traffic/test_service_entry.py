"""Where a ServiceEntry's traffic goes, by how it names its endpoints and its addresses."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import Case, case, grpc, http, http2, tcp

pytestmark = pytest.mark.root

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
"""

CASES = [
    case(
        "STATIC, to pods by their addresses",
        ENTRY
        + """
  resolution: STATIC
  location: MESH_INTERNAL
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 9000, name: tcp, protocol: TCP, targetPort: 8083}
  endpoints: [{address: $b_v1}, {address: $b_v2}]
""",
        http("http://$name.test/x", arrives={"path": "/x", "authority": "$name.test"}),
        http("http://$name.test/", count=100, shares={"v1": 0.5, "v2": 0.5}),
        tcp("tcp://$name.test:9000", arrives={"protocol": "TCP"}),
        service="",
    ),
    case(
        "STATIC, an endpoint's own port by the port's name",
        ENTRY
        + """
  resolution: STATIC
  ports: [{number: 80, name: http-x, protocol: HTTP}]
  endpoints: [{address: $outside, ports: {http-x: $outside_http}}]
  location: MESH_EXTERNAL
""",
        http("http://$name.test/x", arrives={"version": "outside", "authority": "$name.test"}),
        service="",
    ),
    case(
        "STATIC, HTTP/2 to a process outside",
        ENTRY
        + """
  resolution: STATIC
  ports: [{number: 80, name: http2, protocol: HTTP2, targetPort: $outside_http2}]
  endpoints: [{address: $outside}]
  location: MESH_EXTERNAL
""",
        http2("http://$name.test/x", arrives={"version": "outside", "protocol": "HTTP/2"}),
        http("http://$name.test/x", arrives={"version": "outside", "protocol": "HTTP/2"}),
        service="",
    ),
    case(
        "TLS, passed through by its SNI",
        ENTRY
        + """
  resolution: STATIC
  ports: [{number: 443, name: tls, protocol: TLS, targetPort: $outside_tls}]
  endpoints: [{address: $outside}]
  location: MESH_EXTERNAL
""",
        http(
            "https://$name.test/x",
            tls={"sni": "$name.test"},
            arrives={"version": "outside", "sni": "$name.test"},
        ),
        service="",
    ),
    case(
        "weights of endpoints",
        ENTRY
        + """
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v1, weight: 3}, {address: $b_v2, weight: 1}]
""",
        http("http://$name.test/", count=200, shares={"v1": 0.75, "v2": 0.25}),
        service="",
    ),
    case(
        "Unix sockets",
        ENTRY
        + """
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: "unix://$outside_unix"}]
""",
        http("http://$name.test/x", arrives={"version": "outside", "peer": "", "path": "/x"}),
        service="",
    ),
    case(
        "DNS, to an endpoint's name",
        ENTRY
        + """
  resolution: DNS
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: v2.traffic.svc.cluster.local, ports: {http: 80}}]
""",
        http("http://$name.test:8000/x", arrives={"version": "v2", "authority": "$name.test:8000"}),
        service="",
    ),
    case(
        "DNS_ROUND_ROBIN, to an endpoint's name",
        ENTRY
        + """
  resolution: DNS_ROUND_ROBIN
  ports: [{number: 8000, name: tcp, protocol: TCP}]
  endpoints: [{address: v3.traffic.svc.cluster.local, ports: {tcp: 83}}]
""",
        tcp("tcp://$name.test:8000", arrives={"version": "v3", "protocol": "TCP"}),
        service="",
    ),
    case(
        "NONE: HTTP goes where the connection went, through a route",
        ENTRY
        + """
  resolution: NONE
  ports: [{number: $outside_http, name: http, protocol: HTTP}]
""",
        http(
            "http://$name.test:$outside_http/x",
            address="$outside:$outside_http",
            arrives={"version": "outside", "headers": {"x-envoy-attempt-count": "1"}},
        ),
        service="",
    ),
    case(
        "NONE with a range: TCP goes where the connection went",
        ENTRY
        + """
  resolution: NONE
  addresses: [$outside/32]
  ports: [{number: $outside_tcp, name: tcp, protocol: TCP}]
""",
        tcp("tcp://$outside:$outside_tcp", arrives={"version": "outside", "protocol": "TCP"}),
        service="",
    ),
    case(
        "an address of one's own",
        ENTRY
        + """
  resolution: STATIC
  addresses: [172.30.77.7]
  ports: [{number: 9000, name: tcp, protocol: TCP, targetPort: 8083}]
  endpoints: [{address: $b_v1}]
""",
        tcp("tcp://172.30.77.7:9000", arrives={"version": "v1"}),
        tcp("tcp://$name.test:9000", arrives={"version": "v1"}),
        service="",
    ),
    case(
        "a range of addresses",
        ENTRY
        + """
  resolution: STATIC
  addresses: [172.30.78.0/24]
  ports: [{number: 9000, name: tcp, protocol: TCP, targetPort: 8083}]
  endpoints: [{address: $b_v2}]
""",
        tcp("tcp://172.30.78.200:9000", arrives={"version": "v2"}),
        service="",
    ),
    case(
        "a wildcard, with an address for its names",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: ["*.$name.test"]
  addresses: [172.30.79.1]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v3}]
""",
        http("http://some.$name.test/x", arrives={"version": "v3", "authority": "some.$name.test"}),
        http("http://other.$name.test/x", arrives={"version": "v3", "authority": "other.$name.test"}),
        service="",
    ),
    case(
        "several hosts",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [one.$name.test, two.$name.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v1}]
""",
        http("http://one.$name.test/", arrives={"authority": "one.$name.test"}),
        http("http://two.$name.test/", arrives={"authority": "two.$name.test"}),
        service="",
    ),
    case(
        "two entries for one host have the endpoints of both",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name-1}
spec:
  hosts: [$name.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name-2}
spec:
  hosts: [$name.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v2}]
""",
        http("http://$name.test/", count=100, shares={"v1": 0.5, "v2": 0.5}),
        settle=http("http://$name.test/", arrives={"version": "v2"}),
        service="",
    ),
    case(
        "the pods of a workloadSelector",
        ENTRY
        + """
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  workloadSelector: {labels: {app: b, version: v2}}
""",
        http("http://$name.test/", count=10, arrives={"version": "v2"}),
        service="",
    ),
    case(
        "the WorkloadEntries of a workloadSelector, beside pods",
        """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: $name}
spec:
  address: $outside
  labels: {app: $name}
  ports: {http: $outside_http}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: $name-heavy}
spec:
  address: $b_v1
  labels: {app: $name}
  weight: 4
---
"""
        + ENTRY
        + """
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  workloadSelector: {labels: {app: $name}}
""",
        http("http://$name.test/", count=200, shares={"outside": 0.2, "v1": 0.8}),
        service="",
    ),
    case(
        "what is not exported is not there",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name-hidden, namespace: naked}
spec:
  hosts: [hidden.$name.test]
  exportTo: ["."]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name-shown, namespace: naked}
spec:
  hosts: [shown.$name.test]
  exportTo: [traffic]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v1}]
""",
        http("http://shown.$name.test/"),
        http("http://hidden.$name.test/", error="Name or service not known"),
        service="",
    ),
    *(
        case(
            f"protocol {protocol}",
            ENTRY
            + f"""
  resolution: STATIC
  ports: [{{number: 9000, name: one, protocol: {protocol}, targetPort: {port}}}]
  endpoints: [{{address: $b_v1}}]
""",
            step,
            service="",
        )
        for protocol, port, step in (
            ("GRPC", 8082, grpc("http://$name.test:9000", arrives={"protocol": "gRPC"})),
            ("GRPC-Web", 8081, http2("http://$name.test:9000/x", arrives={"protocol": "HTTP/2"})),
            ("HTTPS", 8443, http("https://$name.test:9000/", tls={"sni": "$name.test"}, arrives={"sni": "$name.test"})),
            ("MONGO", 8083, tcp("tcp://$name.test:9000", arrives={"protocol": "TCP"})),
            ('""', 8085, http("http://$name.test:9000/x", arrives={"headers": {"x-envoy-attempt-count": "1"}})),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_service_entries(case: Case, site: Any) -> None:
    site.check(case)
