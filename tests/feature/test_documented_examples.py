"""The examples of Istio's API reference, with resources of our own: what each makes of Envoy.

What the tasks of the documentation show is in test_documented_tasks; here is what only the reference does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import yaml

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.1.0.1, selector: {app: orders}, ports: [{name: http, port: 7777, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: archive, namespace: shop}
spec: {clusterIP: 10.1.0.2, selector: {app: archive}, ports: [{name: http, port: 80}, {name: mongo, port: 27017}]}
---
apiVersion: v1
kind: Service
metadata: {name: audit, namespace: back}
spec: {clusterIP: 10.1.0.3, selector: {app: audit}, ports: [{name: http, port: 8888}]}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: istio-system}
spec: {clusterIP: 10.1.0.9, selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: orders-1, namespace: shop, labels: {app: orders}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.0.1.1, phase: Running}
"""
ORDERS, ARCHIVE = (f"{name}.shop.svc.cluster.local" for name in ("orders", "archive"))
AUDIT = "audit.back.svc.cluster.local"
MANAGER = "envoy.filters.network.http_connection_manager"
TYPES = "type.googleapis.com/envoy.extensions.filters"
DOOR = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [limited.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: door, namespace: istio-system}
spec:
  hosts: [limited.example]
  gateways: [door]
  http: [{route: [{destination: {host: orders.shop.svc.cluster.local}}]}]
---
"""


class Example(NamedTuple):
    """`shows`: "proxy type/name" → the part of that resource that has to be there, as YAML; None: there is none.

    The proxies are those of the pod `orders-1` and of the ingress gateway.
    """

    what: str
    manifest: str
    shows: Mapping[str, str | None]


VIRTUAL_SERVICES = [
    Example(
        "a path that is rewritten, and the rest",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders.shop.svc.cluster.local]
  http:
  - name: old-paths
    match: [{uri: {prefix: /wares}}, {uri: {prefix: /goods}}]
    rewrite: {uri: /items}
    route: [{destination: {host: orders.shop.svc.cluster.local, subset: new}}]
  - name: rest
    route: [{destination: {host: orders.shop.svc.cluster.local, subset: old}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: shop}
spec:
  host: orders.shop.svc.cluster.local
  subsets: [{name: old, labels: {version: v1}}, {name: new, labels: {version: v2}}]
""",
        {
            "sidecar routes/7777": f"""
virtual_hosts:
- routes:
  - match: {{prefix: /wares}}
    name: old-paths
    route: {{cluster: "outbound|7777|new|{ORDERS}", prefix_rewrite: /items}}
  - match: {{prefix: /goods}}
    name: old-paths
    route: {{cluster: "outbound|7777|new|{ORDERS}", prefix_rewrite: /items}}
  - {{name: rest, route: {{cluster: "outbound|7777|old|{ORDERS}"}}}}
"""
        },
    ),
    Example(
        "headers that are matched, set, added and taken away",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders]
  http:
  - headers: {request: {set: {x-test: "true"}}}
    match: [{headers: {cookie: {regex: "^(.*?;)?(user=jo)(;.*)?$"}}, uri: {prefix: /basket}, ignoreUriCase: true}]
    route:
    - destination: {host: orders}
      headers: {response: {add: {x-seen: "1"}, remove: [x-secret]}}
""",
        {
            "sidecar routes/7777": """
virtual_hosts:
- routes:
  - match: {prefix: /basket, case_sensitive: false, headers: [{name: cookie, string_match: {safe_regex: {}}}]}
    request_headers_to_add: [{header: {key: x-test, value: 'true'}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
    response_headers_to_add: [{header: {key: x-seen, value: '1'}}]
    response_headers_to_remove: [x-secret]
"""
        },
    ),
    Example(
        "a redirect, a direct answer, and requests of other origins",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders]
  http:
  - match: [{uri: {exact: /v1/getList}}]
    redirect: {uri: /v1/list, authority: lists.example, redirectCode: 307}
  - match: [{uri: {exact: /v1/down}}]
    directResponse: {status: 503, body: {string: "for now"}}
  - corsPolicy:
      allowOrigins: [{exact: https://shop.example}]
      allowMethods: [POST, GET]
      allowHeaders: [x-own]
      allowCredentials: false
      maxAge: 24h
    route: [{destination: {host: orders}}]
""",
        {
            "sidecar routes/7777": """
virtual_hosts:
- routes:
  - match: {path: /v1/getList}
    redirect: {path_redirect: /v1/list, host_redirect: lists.example, response_code: TEMPORARY_REDIRECT}
  - {match: {path: /v1/down}, direct_response: {status: 503, body: {inline_bytes: Zm9yIG5vdw==}}}
  - typed_per_filter_config:
      envoy.filters.http.cors:
        allow_origin_string_match: [{exact: https://shop.example}]
        allow_methods: POST,GET
        allow_headers: x-own
        max_age: '86400'
        allow_credentials: false
"""
        },
    ),
    Example(
        "a path that another team's VirtualService routes",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders]
  http:
  - {match: [{uri: {prefix: /audit}}], delegate: {name: audit, namespace: back}}
  - route: [{destination: {host: orders}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: audit, namespace: back}
spec:
  http:
  - {match: [{uri: {prefix: /audit/new}}], route: [{destination: {host: audit.back.svc.cluster.local}}]}
""",
        {
            "sidecar routes/7777": f"""
virtual_hosts:
- routes:
  - {{match: {{prefix: /audit/new}}, route: {{cluster: "outbound|8888||{AUDIT}"}}}}
  - {{route: {{cluster: "outbound|7777||{ORDERS}"}}}}
"""
        },
    ),
]

DESTINATION_RULES = [
    Example(
        "a policy of the host, and another one of a subset",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: shop}
spec:
  host: orders.shop.svc.cluster.local
  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}
  subsets: [{name: testing, labels: {version: v3}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}]
""",
        {
            f"sidecar clusters/outbound|7777||{ORDERS}": "lb_policy: LEAST_REQUEST",
            f"sidecar clusters/outbound|7777|testing|{ORDERS}": "metadata: {}",
        },
    ),
    Example(
        "a policy for each port",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: archive, namespace: shop}
spec:
  host: archive
  trafficPolicy:
    portLevelSettings:
    - {port: {number: 80}, loadBalancer: {simple: RANDOM}}
    - port: {number: 27017}
      connectionPool: {tcp: {maxConnections: 100, connectTimeout: 30ms, tcpKeepalive: {time: 7200s, interval: 75s}}}
""",
        {
            f"sidecar clusters/outbound|80||{ARCHIVE}": "lb_policy: RANDOM",
            f"sidecar clusters/outbound|27017||{ARCHIVE}": """
connect_timeout: 0.030s
circuit_breakers: {thresholds: [{max_connections: 100}]}
upstream_connection_options: {tcp_keepalive: {keepalive_time: 7200, keepalive_interval: 75}}
""",
        },
    ),
    Example(
        "sessions that stay with one endpoint, by a cookie",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: shop}
spec:
  host: orders.shop.svc.cluster.local
  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}, warmup: {duration: 60s}}}
""",
        {
            f"sidecar clusters/outbound|7777||{ORDERS}": """
lb_policy: RING_HASH
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {hash_policy: [{cookie: {name: user, ttl: 0s}}]}
"""
        },
    ),
]

SERVICE_ENTRIES = [
    Example(
        "databases outside, on machines with certificates",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: papers, namespace: shop}
spec:
  hosts: [papers.example]
  addresses: [192.168.5.0/24]
  ports: [{number: 27018, name: mongodb, protocol: MONGO}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: 10.7.2.2}, {address: 10.7.3.3}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: papers, namespace: shop}
spec:
  host: papers.example
  trafficPolicy:
    tls:
      mode: MUTUAL
      clientCertificate: $pair.pem
      privateKey: $pair-key.pem
      caCertificates: $pair.pem
""",
        {
            "sidecar listeners/0.0.0.0_27018": """
filter_chains:
- filter_chain_match: {prefix_ranges: [{address_prefix: 192.168.5.0, prefix_len: 24}]}
  filters: [{name: envoy.filters.network.mongo_proxy}, {typed_config: {cluster: outbound|27018||papers.example}}]
""",
            "sidecar clusters/outbound|27018||papers.example": """
transport_socket:
  typed_config:
    common_tls_context:
      tls_certificate_sds_secret_configs: [{sds_config: {ads: {}}}]
      combined_validation_context: {validation_context_sds_secret_config: {sds_config: {ads: {}}}}
""",
        },
    ),
    Example(
        "several hosts of one port, each at a place of its own",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: clouds, namespace: shop}
spec:
  hosts: [us.cloud.example, eu.cloud.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 443, name: https, protocol: TLS}]
""",
        {
            "sidecar listeners/0.0.0.0_443": """
filter_chains:
- filter_chain_match: {server_names: [us.cloud.example]}
  filters: [{typed_config: {cluster: outbound|443||us.cloud.example}}]
""",
            "sidecar clusters/outbound|443||eu.cloud.example": """
load_assignment:
  endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: eu.cloud.example}}}}]}]
""",
        },
    ),
    Example(
        "a name with endpoints of other names, and ports of their own",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: parts, namespace: shop}
spec:
  hosts: [parts.example]
  location: MESH_EXTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  endpoints:
  - {address: us.parts.example, ports: {http: 8080}}
  - {address: in.parts.example, ports: {http: 9080}, weight: 3}
""",
        {
            "sidecar clusters/outbound|80||parts.example": """
load_assignment:
  endpoints:
  - lb_endpoints:
    - {endpoint: {address: {socket_address: {address: in.parts.example, port_value: 9080}}}, load_balancing_weight: 3}
    - {endpoint: {address: {socket_address: {address: us.parts.example, port_value: 8080}}}}
"""
        },
    ),
    Example(
        "a program behind a Unix socket",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: local, namespace: shop}
spec:
  hosts: [local.example]
  location: MESH_EXTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: "unix:///var/run/local.sock"}]
""",
        {
            "sidecar endpoints/outbound|80||local.example": """
endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: /var/run/local.sock}}}}]}]
"""
        },
    ),
    Example(
        "machines that stand for a service, by their labels",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: details, namespace: shop}
spec:
  hosts: [details.shop.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: details}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine-1, namespace: shop}
spec: {serviceAccount: details, address: 10.9.2.2, labels: {app: details, instance-id: vm1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine-2, namespace: shop}
spec: {serviceAccount: details, address: 10.9.2.3, labels: {app: details}, ports: {http: 9090}, weight: 2}
""",
        {
            "sidecar endpoints/outbound|80||details.shop.svc.cluster.local": """
endpoints:
- lb_endpoints:
  - {endpoint: {address: {socket_address: {address: 10.9.2.2, port_value: 8080}}}}
  - {endpoint: {address: {socket_address: {address: 10.9.2.3, port_value: 9090}}}, load_balancing_weight: 2}
"""
        },
    ),
]

SIDECARS = [
    Example(
        "a namespace that sees itself and one other",
        """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ["./orders.shop.svc.cluster.local", "back/*"]}]}
""",
        {
            f"sidecar clusters/outbound|8888||{AUDIT}": "type: EDS",
            f"sidecar clusters/outbound|80||{ARCHIVE}": None,
        },
    ),
    Example(
        "a port that the program serves elsewhere, and one way out at a port of its own",
        """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: orders, namespace: shop}
spec:
  workloadSelector: {labels: {app: orders}}
  ingress:
  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "unix:///var/run/orders.sock"}
  egress:
  - {port: {number: 8888, protocol: HTTP, name: egress}, hosts: ["back/*"]}
  - {hosts: ["istio-system/*"]}
""",
        {
            "sidecar clusters/inbound|9080||": """
load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: /var/run/orders.sock}}}}]}]}
""",
            "sidecar routes/8888": "virtual_hosts: [{domains: [audit.back.svc.cluster.local]}]",
            f"sidecar clusters/outbound|7777||{ORDERS}": None,
        },
    ),
    Example(
        "only what is known may be reached",
        """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: orders, namespace: shop}
spec:
  workloadSelector: {labels: {app: orders}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
""",
        {
            "sidecar listeners/virtualOutbound": """
filter_chains:
- {filter_chain_match: {destination_port: 15001}}
- filters: [{typed_config: {cluster: BlackHoleCluster}}]
""",
            "sidecar routes/7777": "virtual_hosts: [{name: block_all}]",
        },
    ),
]

ENVOY_FILTERS = [
    Example(
        "a filter of a protocol before bytes go on, and an idle time for all HTTP",
        DOOR
        + f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: own-protocol, namespace: istio-system}}
spec:
  configPatches:
  - applyTo: NETWORK_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {{portNumber: 27017, filterChain: {{filter: {{name: envoy.filters.network.tcp_proxy}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: own.mongo
        typed_config: {{"@type": {TYPES}.network.mongo_proxy.v3.MongoProxy, stat_prefix: own}}
  - applyTo: NETWORK_FILTER
    match: {{listener: {{filterChain: {{filter: {{name: {MANAGER}}}}}}}}}
    patch:
      operation: MERGE
      value:
        name: {MANAGER}
        typed_config:
          "@type": {TYPES}.network.http_connection_manager.v3.HttpConnectionManager
          common_http_protocol_options: {{idle_timeout: 30s}}
""",
        {
            "sidecar listeners/10.1.0.2_27017": """
filter_chains: [{filters: [{name: own.mongo}, {name: envoy.filters.network.tcp_proxy}]}]
""",
            "sidecar listeners/virtualInbound": """
filter_chains:
- filter_chain_match: {destination_port: 8080}
  filters: [{typed_config: {common_http_protocol_options: {idle_timeout: 30s}}}]
""",
            "gateway listeners/0.0.0.0_8080": """
filter_chains: [{filters: [{typed_config: {common_http_protocol_options: {idle_timeout: 30s}}}]}]
""",
        },
    ),
    Example(
        "a script in front of one workload, and the cluster that it calls",
        f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: orders-script, namespace: shop}}
spec:
  workloadSelector: {{labels: {{app: orders}}}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener:
        portNumber: 8080
        filterChain: {{filter: {{name: {MANAGER}, subFilter: {{name: envoy.filters.http.router}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.lua
        typed_config:
          "@type": {TYPES}.http.lua.v3.Lua
          defaultSourceCode:
            inlineString: |
              function envoy_on_request(handle)
                local head = {{[":method"] = "GET", [":path"] = "/", [":authority"] = "judge.example"}}
                handle:httpCall("judge", head, "", 5000)
              end
  - applyTo: CLUSTER
    match: {{context: SIDECAR_OUTBOUND}}
    patch:
      operation: ADD
      value:
        name: judge
        type: STRICT_DNS
        connect_timeout: 0.5s
        lb_policy: ROUND_ROBIN
        load_assignment:
          cluster_name: judge
          endpoints:
          - lb_endpoints:
            - endpoint: {{address: {{socket_address: {{protocol: TCP, address: judge.example, port_value: 8888}}}}}}
""",
        {
            "sidecar listeners/virtualInbound": """
filter_chains:
- filter_chain_match: {destination_port: 8080}
  filters: [{typed_config: {http_filters: [{name: envoy.filters.http.lua}, {name: envoy.filters.http.router}]}}]
""",
            "sidecar clusters/judge": "{type: STRICT_DNS, connect_timeout: 0.500s}",
        },
    ),
    Example(
        "who decides about requests comes before others, and what counts them after",
        f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: classes, namespace: shop}}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND, listener: {{portNumber: 8080}}}}
    patch:
      operation: ADD
      filterClass: STATS
      value: {{name: counts, typed_config: {{"@type": {TYPES}.http.buffer.v3.Buffer, max_request_bytes: 4}}}}
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND, listener: {{portNumber: 8080}}}}
    patch:
      operation: ADD
      filterClass: AUTHZ
      value:
        name: decides-1
        typed_config:
          "@type": {TYPES}.http.ext_authz.v3.ExtAuthz
          grpc_service: {{envoy_grpc: {{cluster_name: "outbound|8888||{AUDIT}"}}}}
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND, listener: {{portNumber: 8080}}}}
    patch:
      operation: ADD
      filterClass: AUTHN
      value: {{name: asks, typed_config: {{"@type": {TYPES}.http.buffer.v3.Buffer, max_request_bytes: 5}}}}
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND, listener: {{portNumber: 8080}}}}
    patch:
      operation: ADD
      filterClass: AUTHZ
      value: {{name: decides-2, typed_config: {{"@type": {TYPES}.http.buffer.v3.Buffer, max_request_bytes: 6}}}}
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND, listener: {{portNumber: 8080}}}}
    patch:
      operation: ADD
      value: {{name: anywhere, typed_config: {{"@type": {TYPES}.http.buffer.v3.Buffer, max_request_bytes: 7}}}}
""",
        {
            "sidecar listeners/virtualInbound": """
filter_chains:
- filter_chain_match: {destination_port: 8080}
  filters:
  - typed_config:
      http_filters:
      - name: envoy.filters.http.grpc_stats
      - name: asks
      - name: decides-1
      - name: decides-2
      - name: envoy.filters.http.fault
      - name: counts
      - name: anywhere
      - name: envoy.filters.http.router
"""
        },
    ),
    Example(
        "limits of requests for one domain of a gateway",
        DOOR
        + f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: limits, namespace: istio-system}}
spec:
  workloadSelector: {{labels: {{istio: ingressgateway}}}}
  configPatches:
  - applyTo: VIRTUAL_HOST
    match: {{context: GATEWAY, routeConfiguration: {{vhost: {{domainName: limited.example}}}}}}
    patch:
      operation: MERGE
      value:
        rate_limits:
        - actions: [{{request_headers: {{header_name: authorization, descriptor_key: jwt}}}}]
  - applyTo: HTTP_FILTER
    match: {{context: GATEWAY, listener: {{filterChain: {{filter: {{name: {MANAGER}}}}}}}}}
    patch:
      operation: INSERT_FIRST
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: {TYPES}.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: limits
            token_bucket: {{max_tokens: 10, tokens_per_fill: 10, fill_interval: 60s}}
            filter_enabled: {{runtime_key: "on", default_value: {{numerator: 100, denominator: HUNDRED}}}}
""",
        {
            "gateway routes/http.8080": """
virtual_hosts:
- domains: [limited.example]
  rate_limits: [{actions: [{request_headers: {header_name: authorization}}]}]
""",
            "gateway listeners/0.0.0.0_8080": """
filter_chains: [{filters: [{typed_config: {http_filters: [{name: envoy.filters.http.local_ratelimit}]}}]}]
""",
        },
    ),
    Example(
        "an extension that the control plane configures by itself",
        f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: extension, namespace: shop}}
spec:
  configPatches:
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value: {{name: own, typed_config: {{"@type": {TYPES}.http.buffer.v3.Buffer, max_request_bytes: 5}}}}
  - applyTo: HTTP_FILTER
    match:
      listener: {{filterChain: {{filter: {{name: {MANAGER}, subFilter: {{name: envoy.filters.http.router}}}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: own
        config_discovery:
          config_source: {{ads: {{}}, resource_api_version: V3}}
          type_urls: [{TYPES}.http.buffer.v3.Buffer]
""",
        {
            "sidecar extensions/own": "typed_config: {max_request_bytes: 5}",
            "sidecar listeners/virtualInbound": """
filter_chains:
- filter_chain_match: {destination_port: 8080}
  filters: [{typed_config: {http_filters: [{name: own, config_discovery: {}}, {name: envoy.filters.http.router}]}}]
""",
        },
    ),
    Example(
        "who the client was, before TLS is looked at",
        f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: header, namespace: shop}}
spec:
  configPatches:
  - applyTo: LISTENER_FILTER
    match:
      context: SIDECAR_INBOUND
      listener: {{portNumber: 15006, listenerFilter: envoy.filters.listener.http_inspector}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.listener.proxy_protocol
        typed_config: {{"@type": {TYPES}.listener.proxy_protocol.v3.ProxyProtocol}}
""",
        {
            "sidecar listeners/virtualInbound": """
listener_filters: [{name: envoy.filters.listener.proxy_protocol}, {name: envoy.filters.listener.http_inspector}]
"""
        },
    ),
]

GATEWAYS = [
    Example(
        "hosts for one namespace alone, at one address of the gateway",
        """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["shop/*.shop.example", "back/back.example"]
    bind: 127.0.0.1
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop.example, back.example]
  gateways: [istio-system/door]
  http: [{route: [{destination: {host: orders}}]}]
""",
        {
            "gateway listeners/127.0.0.1_8080": "address: {socket_address: {address: 127.0.0.1}}",
            "gateway routes/http.8080.127.0.0.1": f"""
virtual_hosts: [{{domains: [web.shop.example], routes: [{{route: {{cluster: "outbound|7777||{ORDERS}"}}}}]}}]
""",
        },
    ),
    Example(
        "TLS that goes on to whatever cluster its server name says",
        """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: between, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ["*.local"], tls: {mode: AUTO_PASSTHROUGH}}]
""",
        {
            "gateway listeners/0.0.0.0_15443": f"""
filter_chains:
- filter_chain_match: {{server_names: ["outbound_.7777_._.{ORDERS}"]}}
  filters: [{{typed_config: {{cluster: "outbound_.7777_._.{ORDERS}"}}}}]
"""
        },
    ),
]

EXAMPLES = [*VIRTUAL_SERVICES, *DESTINATION_RULES, *SERVICE_ENTRIES, *SIDECARS, *ENVOY_FILTERS, *GATEWAYS]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.what)
def test_an_example(mesh: Any, missing: Any, make_certificate: Any, tmp_path: Any, example: Example) -> None:
    certificate, key = make_certificate("papers.example")
    (tmp_path / "pair.pem").write_bytes(certificate)
    (tmp_path / "pair-key.pem").write_bytes(key)
    mesh.apply(SHOP)
    mesh.apply(example.manifest.replace("$pair", str(tmp_path / "pair")))
    proxies = {
        "sidecar": mesh.sidecar("orders-1", namespace="shop", ip="10.0.1.1", app="orders"),
        "gateway": mesh.gateway("edge"),
    }
    for where, expected in example.shows.items():
        proxy, _, resource = where.partition(" ")
        kind, _, name = resource.partition("/")
        names = proxies[proxy].names(kind)
        assert (name in names) is (expected is not None), f"{where}: there are {sorted(names)}"
        if expected is not None:
            found = proxies[proxy].get(kind, name)
            lacking = "\n".join(missing(yaml.safe_load(expected), found, name))
            assert not lacking, f"{example.what}: {where} lacks\n{lacking}\nit is\n{found}"
