"""The traffic-management tasks of Istio's documentation, with resources of our own: what each makes of Envoy.

Every sample is applied to one small shop, and shows the piece of configuration that makes the task work. Of that the
expected part must be there; what else there is, other tests hold.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import yaml

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec: {clusterIP: 10.1.0.1, selector: {app: stock}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: prices, namespace: shop}
spec: {clusterIP: 10.1.0.2, selector: {app: prices}, ports: [{name: http, port: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: feed, namespace: shop}
spec: {clusterIP: 10.1.0.3, selector: {app: feed}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: vault, namespace: shop}
spec: {clusterIP: 10.1.0.4, selector: {app: vault}, ports: [{name: https, port: 443, targetPort: 8443}]}
---
apiVersion: v1
kind: Service
metadata: {name: way-out, namespace: istio-system}
spec:
  clusterIP: 10.1.0.9
  selector: {istio: egressgateway}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tls, port: 443, targetPort: 8443}]
"""
"""Besides: the pods stock-v1 and stock-v2 in two zones, and a client in the zone of the first."""
STOCK, PRICES, FEED = (f"{name}.shop.svc.cluster.local" for name in ("stock", "prices", "feed"))
WAY_OUT = "way-out.istio-system.svc.cluster.local"


class Sample(NamedTuple):
    """`shows`: "proxy type/name" → the part of that resource that has to be there, as YAML."""

    task: str
    manifest: str
    shows: Mapping[str, str]


def pod(name: str, app: str, ip: str, zone: str, version: str = "v1") -> str:
    labels = f"{{app: {app}, version: {version}, istio-locality: east.{zone}}}"
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {labels}}}
spec: {{containers: [{{name: app, image: app}}]}}
status: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
"""


def slice_of(service: str, port: int, *addresses: str) -> str:
    endpoints = [
        {"addresses": [address], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": name}}
        for name, address in (found.split("=") for found in addresses)
    ]
    return yaml.safe_dump(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": service, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": endpoints,
        }
    )


def istio(kind: str, spec: str, name: str = "sample", namespace: str = "shop") -> str:
    """A manifest of one of Istio's kinds; `spec` is YAML."""
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": "2024-01-01T00:00:00Z"}
    document = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata}
    return "---\n" + yaml.safe_dump({**document, "spec": yaml.safe_load(spec)})


VERSIONS = istio(
    "DestinationRule",
    "{host: stock, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}",
)


def ingress(spec: str) -> str:
    return istio("Gateway", f"selector: {{istio: ingressgateway}}\nservers:\n{spec}", "door", "istio-system")


def egress(spec: str) -> str:
    return istio("Gateway", f"selector: {{istio: egressgateway}}\nservers:\n{spec}", "way-out", "istio-system")


ELSEWHERE = istio(
    "ServiceEntry",
    """
hosts: [weather.example]
ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
resolution: DNS
""",
    "weather",
)

SIDECARS = [
    Sample(
        "request routing: everybody to one version, one user to another",
        VERSIONS
        + istio(
            "VirtualService",
            """
hosts: [stock]
http:
- match: [{headers: {end-user: {exact: jo}}}]
  route: [{destination: {host: stock, subset: v2}}]
- route: [{destination: {host: stock, subset: v1}}]
""",
        ),
        {
            "client routes/9080": f"""
virtual_hosts:
- domains: [stock]
  routes:
  - match: {{prefix: /, headers: [{{name: end-user, string_match: {{exact: jo}}}}]}}
    route: {{cluster: "outbound|9080|v2|{STOCK}"}}
  - match: {{prefix: /}}
    route: {{cluster: "outbound|9080|v1|{STOCK}"}}
""",
            f"client endpoints/outbound|9080|v2|{STOCK}": """
endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.1.2, port_value: 9080}}}}]}]
""",
        },
    ),
    Sample(
        "fault injection: a delay for one user, an abort for the others",
        istio(
            "VirtualService",
            """
hosts: [prices]
http:
- match: [{headers: {end-user: {exact: jo}}}]
  fault: {delay: {percentage: {value: 100}, fixedDelay: 7s}}
  route: [{destination: {host: prices}}]
- fault: {abort: {percentage: {value: 25}, httpStatus: 500}}
  route: [{destination: {host: prices}}]
""",
        ),
        {
            "client routes/8000": """
virtual_hosts:
- routes:
  - typed_per_filter_config:
      envoy.filters.http.fault: {delay: {fixed_delay: 7s, percentage: {numerator: 1000000, denominator: MILLION}}}
  - typed_per_filter_config:
      envoy.filters.http.fault: {abort: {http_status: 500, percentage: {numerator: 250000, denominator: MILLION}}}
"""
        },
    ),
    Sample(
        "traffic shifting: shares of requests",
        VERSIONS
        + istio(
            "VirtualService",
            """
hosts: [stock]
http:
- route:
  - {destination: {host: stock, subset: v1}, weight: 70}
  - {destination: {host: stock, subset: v2}, weight: 30}
""",
        ),
        {
            "client routes/9080": f"""
virtual_hosts:
- routes:
  - route:
      weighted_clusters:
        clusters:
        - {{name: "outbound|9080|v1|{STOCK}", weight: 70}}
        - {{name: "outbound|9080|v2|{STOCK}", weight: 30}}
"""
        },
    ),
    Sample(
        "TCP traffic shifting: shares of connections",
        istio(
            "VirtualService",
            """
hosts: [feed]
tcp:
- match: [{port: 9000}]
  route:
  - {destination: {host: feed, port: {number: 9000}}, weight: 80}
  - {destination: {host: prices, port: {number: 8000}}, weight: 20}
""",
        ),
        {
            "client listeners/10.1.0.3_9000": f"""
filter_chains:
- filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config:
      weighted_clusters:
        clusters:
        - {{name: "outbound|9000||{FEED}", weight: 80}}
        - {{name: "outbound|8000||{PRICES}", weight: 20}}
"""
        },
    ),
    Sample(
        "request timeouts",
        istio("VirtualService", "{hosts: [prices], http: [{route: [{destination: {host: prices}}], timeout: 0.5s}]}"),
        {"client routes/8000": "virtual_hosts: [{routes: [{route: {timeout: 0.500s}}]}]"},
    ),
    Sample(
        "retries",
        istio(
            "VirtualService",
            """
hosts: [prices]
http:
- route: [{destination: {host: prices}}]
  retries: {attempts: 3, perTryTimeout: 2s, retryOn: "connect-failure,refused-stream,503"}
""",
        ),
        {
            "client routes/8000": """
virtual_hosts:
- routes:
  - route:
      retry_policy:
        num_retries: 3
        per_try_timeout: 2s
        retry_on: connect-failure,refused-stream,retriable-status-codes
        retriable_status_codes: [503]
"""
        },
    ),
    Sample(
        "circuit breaking",
        istio(
            "DestinationRule",
            """
host: prices
trafficPolicy:
  connectionPool:
    tcp: {maxConnections: 1}
    http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}
  outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}
""",
        ),
        {
            f"client clusters/outbound|8000||{PRICES}": """
circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}
outlier_detection: {consecutive_5xx: 1, interval: 1s, base_ejection_time: 180s, max_ejection_percent: 100}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    common_http_protocol_options: {max_requests_per_connection: 1}
"""
        },
    ),
    Sample(
        "mirroring",
        VERSIONS
        + istio(
            "VirtualService",
            """
hosts: [stock]
http:
- route: [{destination: {host: stock, subset: v1}}]
  mirror: {host: stock, subset: v2}
  mirrorPercentage: {value: 50}
""",
        ),
        {
            "client routes/9080": f"""
virtual_hosts:
- routes:
  - route:
      cluster: "outbound|9080|v1|{STOCK}"
      request_mirror_policies:
      - cluster: "outbound|9080|v2|{STOCK}"
        runtime_fraction: {{default_value: {{numerator: 500000, denominator: MILLION}}}}
"""
        },
    ),
    Sample(
        "locality: the own zone first, and the other when that fails",
        istio(
            "DestinationRule",
            """
host: stock
trafficPolicy:
  loadBalancer: {localityLbSetting: {enabled: true}}
  outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 1m}
""",
        ),
        {
            f"client endpoints/outbound|9080||{STOCK}": """
endpoints:
- {locality: {zone: a}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.1.1}}}}]}
- {locality: {zone: b}, priority: 1, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.1.2}}}}]}
"""
        },
    ),
    Sample(
        "locality: shares of zones",
        istio(
            "DestinationRule",
            """
host: stock
trafficPolicy:
  loadBalancer: {localityLbSetting: {distribute: [{from: east/a/*, to: {"east/a/*": 70, "east/b/*": 30}}]}}
""",
        ),
        {
            f"client endpoints/outbound|9080||{STOCK}": """
endpoints:
- {locality: {zone: a}, load_balancing_weight: 70}
- {locality: {zone: b}, load_balancing_weight: 30}
""",
            f"client clusters/outbound|9080||{STOCK}": "common_lb_config: {locality_weighted_lb_config: {}}",
        },
    ),
    Sample(
        "egress control: external hosts by HTTP and TLS, with a timeout",
        ELSEWHERE
        + istio(
            "VirtualService",
            "{hosts: [weather.example], http: [{timeout: 3s, route: [{destination: {host: weather.example}}]}]}",
        ),
        {
            "client routes/80": """
virtual_hosts:
- domains: [weather.example]
  routes: [{route: {cluster: outbound|80||weather.example, timeout: 3s}}]
""",
            "client clusters/outbound|443||weather.example": """
cluster_type: {name: envoy.clusters.dns}
load_assignment:
  endpoints:
  - lb_endpoints: [{endpoint: {address: {socket_address: {address: weather.example, port_value: 443}}}}]
""",
        },
    ),
    Sample(
        "egress TLS origination: plain requests leave encrypted",
        istio(
            "ServiceEntry",
            """
hosts: [weather.example]
ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
resolution: DNS
""",
            "weather",
        )
        + istio(
            "DestinationRule",
            """
host: weather.example
trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}
""",
        ),
        {
            "client clusters/outbound|80||weather.example": """
load_assignment:
  endpoints:
  - lb_endpoints: [{endpoint: {address: {socket_address: {address: weather.example, port_value: 443}}}}]
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    common_tls_context: {validation_context: {trusted_ca: {filename: /etc/ssl/certs/ca-certificates.crt}}}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    upstream_http_protocol_options: {auto_sni: true, auto_san_validation: true}
"""
        },
    ),
    Sample(
        "wildcard hosts outside: to wherever the client meant",
        istio(
            "ServiceEntry",
            "{hosts: ['*.weather.example'], resolution: NONE, ports: [{number: 443, name: https, protocol: HTTPS}]}",
        ),
        {
            "client listeners/0.0.0.0_443": """
filter_chains:
- filter_chain_match: {server_names: ['*.weather.example']}
  filters: [{typed_config: {cluster: 'outbound|443||*.weather.example'}}]
""",
            "client clusters/outbound|443||*.weather.example": "type: ORIGINAL_DST",
        },
    ),
    Sample(
        "wildcard hosts outside: all of them at one server",
        istio(
            "ServiceEntry",
            """
hosts: ['*.weather.example']
resolution: DNS
ports: [{number: 443, name: https, protocol: HTTPS}]
endpoints: [{address: www.weather.example}]
""",
        ),
        {
            "client listeners/0.0.0.0_443": """
filter_chains:
- filter_chain_match: {server_names: ['*.weather.example']}
  filters: [{typed_config: {cluster: 'outbound|443||*.weather.example'}}]
""",
            "client clusters/outbound|443||*.weather.example": """
load_assignment:
  endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: www.weather.example}}}}]}]
""",
        },
    ),
    Sample(
        "a proxy outside: connections to a host go through its tunnel",
        istio(
            "ServiceEntry",
            """
hosts: [proxy.example]
addresses: [10.8.1.1]
ports: [{number: 3128, name: tcp, protocol: TCP}]
resolution: STATIC
location: MESH_EXTERNAL
endpoints: [{address: 10.8.1.1}]
""",
            "proxy",
        )
        + ELSEWHERE
        + istio(
            "DestinationRule",
            """
host: proxy.example
subsets:
- name: weather
  trafficPolicy: {tunnel: {protocol: CONNECT, targetHost: weather.example, targetPort: 443}}
""",
        )
        + istio(
            "VirtualService",
            """
hosts: [weather.example]
tls:
- match: [{port: 443, sniHosts: [weather.example]}]
  route: [{destination: {host: proxy.example, subset: weather, port: {number: 3128}}}]
""",
        ),
        {
            "client listeners/0.0.0.0_443": """
filter_chains:
- filter_chain_match: {server_names: [weather.example]}
  filters:
  - typed_config:
      cluster: outbound|3128|weather|proxy.example
      tunneling_config: {hostname: 'weather.example:443'}
""",
            "client clusters/outbound|3128|weather|proxy.example": "type: EDS",
        },
    ),
    Sample(
        "a database outside, by its address",
        istio(
            "ServiceEntry",
            """
hosts: [ledger.example]
addresses: [10.8.0.0/24]
ports: [{number: 3306, name: mysql, protocol: MySQL}]
resolution: STATIC
location: MESH_EXTERNAL
endpoints: [{address: 10.8.0.7}]
""",
        ),
        {
            "client listeners/0.0.0.0_3306": """
filter_chains:
- filter_chain_match: {prefix_ranges: [{address_prefix: 10.8.0.0, prefix_len: 24}]}
  filters: [{typed_config: {cluster: outbound|3306||ledger.example}}]
""",
        },
    ),
]

TO_STOCK = "route: [{destination: {host: stock, port: {number: 9080}}}]"

GATEWAYS = [
    Sample(
        "ingress: some paths of a host",
        ingress("- {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example]}")
        + istio(
            "VirtualService",
            f"""
hosts: [shop.example]
gateways: [istio-system/door]
http: [{{match: [{{uri: {{prefix: /status}}}}, {{uri: {{exact: /stock}}}}], {TO_STOCK}}}]
""",
        ),
        {
            "ingress listeners/0.0.0.0_80": "filter_chains: [{filters: [{typed_config: {rds: {}}}]}]",
            "ingress routes/http.80": f"""
virtual_hosts:
- domains: [shop.example]
  routes:
  - {{match: {{prefix: /status}}, route: {{cluster: "outbound|9080||{STOCK}"}}}}
  - {{match: {{path: /stock}}, route: {{cluster: "outbound|9080||{STOCK}"}}}}
""",
        },
    ),
    Sample(
        "secure ingress: two hosts with certificates of their own, one of which asks clients for theirs",
        ingress(
            """
- port: {number: 443, name: https-shop, protocol: HTTPS}
  hosts: [shop.example]
  tls: {mode: SIMPLE, credentialName: shop-pair}
- port: {number: 443, name: https-staff, protocol: HTTPS}
  hosts: [staff.example]
  tls: {mode: MUTUAL, credentialName: staff-pair}
"""
        )
        + istio("VirtualService", f"{{hosts: ['*'], gateways: [istio-system/door], http: [{{{TO_STOCK}}}]}}"),
        {
            "ingress listeners/0.0.0.0_443": """
filter_chains:
- filter_chain_match: {server_names: [shop.example]}
  transport_socket:
    typed_config:
      common_tls_context: {tls_certificate_sds_secret_configs: [{name: kubernetes://shop-pair}]}
- filter_chain_match: {server_names: [staff.example]}
  transport_socket:
    typed_config:
      require_client_certificate: true
      common_tls_context:
        tls_certificate_sds_secret_configs: [{name: kubernetes://staff-pair}]
        combined_validation_context: {validation_context_sds_secret_config: {name: kubernetes://staff-pair-cacert}}
listener_filters: [{name: envoy.filters.listener.tls_inspector}]
""",
            "ingress secrets/kubernetes://shop-pair": "tls_certificate: {certificate_chain: {}, private_key: {}}",
            "ingress secrets/kubernetes://staff-pair-cacert": "validation_context: {trusted_ca: {}}",
            "ingress routes/https.443.https-shop.door.istio-system": """
virtual_hosts: [{domains: [shop.example]}]
""",
        },
    ),
    Sample(
        "plain requests are sent to https",
        ingress("- {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example], tls: {httpsRedirect: true}}"),
        {"ingress routes/http.80": "virtual_hosts: [{domains: [a.example], require_tls: ALL}]"},
    ),
    Sample(
        "ingress without TLS termination: connections pass by their server name",
        ingress("- {port: {number: 443, name: tls, protocol: TLS}, hosts: [vault.example], tls: {mode: PASSTHROUGH}}")
        + istio(
            "VirtualService",
            """
hosts: [vault.example]
gateways: [istio-system/door]
tls:
- match: [{port: 443, sniHosts: [vault.example]}]
  route: [{destination: {host: vault, port: {number: 443}}}]
""",
        ),
        {
            "ingress listeners/0.0.0.0_443": """
filter_chains:
- filter_chain_match: {server_names: [vault.example]}
  filters: [{typed_config: {cluster: outbound|443||vault.shop.svc.cluster.local}}]
listener_filters: [{name: envoy.filters.listener.tls_inspector}]
"""
        },
    ),
    Sample(
        "TCP at the ingress, in shares",
        ingress("- {port: {number: 31400, name: tcp, protocol: TCP}, hosts: ['*']}")
        + istio(
            "VirtualService",
            """
hosts: ['*']
gateways: [istio-system/door]
tcp:
- match: [{port: 31400}]
  route:
  - {destination: {host: feed, port: {number: 9000}}, weight: 80}
  - {destination: {host: prices, port: {number: 8000}}, weight: 20}
""",
        ),
        {
            "ingress listeners/0.0.0.0_31400": f"""
filter_chains:
- filters:
  - typed_config:
      weighted_clusters:
        clusters:
        - {{name: "outbound|9000||{FEED}", weight: 80}}
        - {{name: "outbound|8000||{PRICES}", weight: 20}}
"""
        },
    ),
    Sample(
        "egress gateway for HTTP: sidecars go to the gateway, which goes to the host",
        ELSEWHERE
        + egress("- {port: {number: 80, name: http, protocol: HTTP}, hosts: [weather.example]}")
        + istio("DestinationRule", f"{{host: {WAY_OUT}, subsets: [{{name: weather}}]}}")
        + istio(
            "VirtualService",
            f"""
hosts: [weather.example]
gateways: [mesh, istio-system/way-out]
http:
- match: [{{gateways: [mesh], port: 80}}]
  route: [{{destination: {{host: {WAY_OUT}, subset: weather, port: {{number: 80}}}}}}]
- match: [{{gateways: [istio-system/way-out], port: 80}}]
  route: [{{destination: {{host: weather.example, port: {{number: 80}}}}}}]
""",
        ),
        {
            "client routes/80": f"""
virtual_hosts:
- domains: [weather.example]
  routes: [{{route: {{cluster: "outbound|80|weather|{WAY_OUT}"}}}}]
""",
            "egress routes/http.8080": """
virtual_hosts:
- domains: [weather.example]
  routes: [{route: {cluster: outbound|80||weather.example}}]
""",
        },
    ),
    Sample(
        "egress gateway for HTTPS: connections pass by their server name",
        ELSEWHERE
        + egress(
            "- {port: {number: 443, name: tls, protocol: TLS}, hosts: [weather.example], tls: {mode: PASSTHROUGH}}"
        )
        + istio(
            "VirtualService",
            f"""
hosts: [weather.example]
gateways: [mesh, istio-system/way-out]
tls:
- match: [{{gateways: [mesh], port: 443, sniHosts: [weather.example]}}]
  route: [{{destination: {{host: {WAY_OUT}, port: {{number: 443}}}}}}]
- match: [{{gateways: [istio-system/way-out], port: 443, sniHosts: [weather.example]}}]
  route: [{{destination: {{host: weather.example, port: {{number: 443}}}}}}]
""",
        ),
        {
            "client listeners/0.0.0.0_443": f"""
filter_chains:
- filter_chain_match: {{server_names: [weather.example]}}
  filters: [{{typed_config: {{cluster: "outbound|443||{WAY_OUT}"}}}}]
""",
            "egress listeners/0.0.0.0_8443": """
filter_chains:
- filter_chain_match: {server_names: [weather.example]}
  filters: [{typed_config: {cluster: outbound|443||weather.example}}]
""",
        },
    ),
    Sample(
        "egress gateway for bytes: connections to an address go through the gateway",
        istio(
            "ServiceEntry",
            """
hosts: [ledger.example]
addresses: [10.8.0.7]
ports: [{number: 3306, name: tcp, protocol: TCP}]
resolution: STATIC
location: MESH_EXTERNAL
endpoints: [{address: 10.8.0.7}]
""",
        )
        + egress("- {port: {number: 80, name: tcp, protocol: TCP}, hosts: [ledger.example]}")
        + istio(
            "VirtualService",
            f"""
hosts: [ledger.example]
gateways: [mesh, istio-system/way-out]
tcp:
- match: [{{gateways: [mesh], destinationSubnets: [10.8.0.7/32], port: 3306}}]
  route: [{{destination: {{host: {WAY_OUT}, port: {{number: 80}}}}}}]
- match: [{{gateways: [istio-system/way-out], port: 80}}]
  route: [{{destination: {{host: ledger.example, port: {{number: 3306}}}}}}]
""",
        ),
        {
            "client listeners/10.8.0.7_3306": f"""
filter_chains: [{{filters: [{{typed_config: {{cluster: "outbound|80||{WAY_OUT}"}}}}]}}]
""",
            "egress listeners/0.0.0.0_8080": """
filter_chains: [{filters: [{typed_config: {cluster: outbound|3306||ledger.example}}]}]
""",
        },
    ),
    Sample(
        "TLS from outside that the workload's own sidecar ends",
        ingress("- {port: {number: 443, name: tls, protocol: TLS}, hosts: [vault.example], tls: {mode: PASSTHROUGH}}")
        + istio(
            "VirtualService",
            """
hosts: [vault.example]
gateways: [istio-system/door]
tls:
- match: [{port: 443, sniHosts: [vault.example]}]
  route: [{destination: {host: vault, port: {number: 443}}}]
""",
        )
        + istio(
            "Sidecar",
            """
workloadSelector: {labels: {app: client}}
ingress:
- port: {number: 8443, protocol: HTTPS, name: https}
  defaultEndpoint: 127.0.0.1:8080
  tls: {mode: SIMPLE, serverCertificate: $pair.pem, privateKey: $pair-key.pem}
""",
        ),
        {
            "client listeners/virtualInbound": """
filter_chains:
- filter_chain_match: {destination_port: 8443}
  transport_socket: {typed_config: {common_tls_context: {tls_certificate_sds_secret_configs: [{}]}}}
""",
            "client clusters/inbound|8443||": """
load_assignment:
  endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}}]}]
""",
        },
    ),
    Sample(
        "egress gateway with TLS origination: plain up to the gateway, encrypted from there",
        ELSEWHERE
        + egress("- {port: {number: 80, name: http, protocol: HTTP}, hosts: [weather.example]}")
        + istio(
            "VirtualService",
            f"""
hosts: [weather.example]
gateways: [mesh, istio-system/way-out]
http:
- match: [{{gateways: [mesh], port: 80}}]
  route: [{{destination: {{host: {WAY_OUT}, port: {{number: 80}}}}}}]
- match: [{{gateways: [istio-system/way-out], port: 80}}]
  route: [{{destination: {{host: weather.example, port: {{number: 443}}}}}}]
""",
        )
        + istio(
            "DestinationRule",
            """
host: weather.example
trafficPolicy:
  loadBalancer: {simple: ROUND_ROBIN}
  portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE, caCertificates: system, sni: weather.example}}]
""",
        ),
        {
            "egress routes/http.8080": "virtual_hosts: [{routes: [{route: {cluster: outbound|443||weather.example}}]}]",
            "egress clusters/outbound|443||weather.example": """
transport_socket: {name: envoy.transport_sockets.tls, typed_config: {sni: weather.example}}
""",
        },
    ),
]


@pytest.fixture
def proxies(mesh: Any, make_certificate: Any) -> Any:
    """Which configuration a word at the beginning of `shows` means."""
    mesh.apply(SHOP)
    for manifest in (
        pod("stock-1", "stock", "10.0.1.1", "a"),
        pod("stock-2", "stock", "10.0.1.2", "b", "v2"),
        pod("client", "client", "10.0.1.9", "a"),
        slice_of("stock", 9080, "stock-1=10.0.1.1", "stock-2=10.0.1.2"),
        secret("shop-pair", make_certificate("shop.example")),
        secret("staff-pair", make_certificate("staff.example")),
    ):
        mesh.apply(manifest)
    return {
        "client": mesh.sidecar("client", namespace="shop", ip="10.0.1.9", app="client"),
        "ingress": mesh.gateway("door"),
        "egress": mesh.gateway("way-out", labels="istio: egressgateway"),
    }


def secret(name: str, pair: tuple[bytes, bytes]) -> str:
    certificate, key = (base64.b64encode(text).decode() for text in pair)
    data = {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}
    metadata = {"name": name, "namespace": "istio-system"}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


@pytest.mark.parametrize("sample", [*SIDECARS, *GATEWAYS], ids=lambda sample: sample.task)
def test_a_task(mesh: Any, proxies: Any, missing: Any, make_certificate: Any, tmp_path: Any, sample: Sample) -> None:
    certificate, key = make_certificate("vault.example")
    (tmp_path / "pair.pem").write_bytes(certificate)
    (tmp_path / "pair-key.pem").write_bytes(key)
    mesh.apply(sample.manifest.replace("$pair", str(tmp_path / "pair")))
    for where, expected in sample.shows.items():
        proxy, _, resource = where.partition(" ")
        kind, _, name = resource.partition("/")
        assert name in proxies[proxy].names(kind), f"{where}: there are {sorted(proxies[proxy].names(kind))}"
        found = proxies[proxy].get(kind, name)
        lacking = "\n".join(missing(yaml.safe_load(expected), found, name))
        assert not lacking, f"{sample.task}: {where} lacks\n{lacking}\nit is\n{json.dumps(found, indent=1)}"


def test_what_is_missing_is_found(missing: Any) -> None:
    assert missing({"a": [1, {"b": 2}]}, {"a": [0, 1, {"b": 2, "c": 3}], "d": 4}, "x") == []
    assert missing({"a": [2, 1]}, {"a": [1, 2]}, "x") == ["x.a[1]: 1 is not there, or not in this place"]
    assert missing({"a": {"b": 1}}, {"a": {"b": 2}}, "x") == ["x.a.b: 2, not 1"]
    assert missing({"a": {}}, {}, "x") == ["x.a: not there"]
