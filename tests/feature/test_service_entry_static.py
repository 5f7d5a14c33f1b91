"""The walkthrough's ServiceEntry: a gRPC host with a listed endpoint, told in full.

The shapes are Istio's. `istioctl proxy-config` on a stock sidecar shows the same for the same ServiceEntry.
"""

from __future__ import annotations

from typing import Any

SERVICE_ENTRY = """
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: meshb
spec:
  endpoints:
  - address: 10.0.0.17
  hosts:
  - AppMeshClient.mesh
  location: MESH_INTERNAL
  ports:
  - name: grpc
    number: 50000
    protocol: grpc
  resolution: STATIC
status:
  addresses:
  - value: 240.240.0.63
"""

LISTENER = """
name: 0.0.0.0_50000
address:
  socket_address:
    address: 0.0.0.0
    port_value: 50000
filter_chains:
- filter_chain_match:
    transport_protocol: raw_buffer
    application_protocols:
    - http/1.1
    - h2c
  filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: outbound_0.0.0.0_50000;
      rds:
        config_source:
          ads: {}
          initial_fetch_timeout: 0s
          resource_api_version: V3
        route_config_name: '50000'
      http_filters:
      - name: envoy.filters.http.grpc_stats
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig
          emit_filter_state: true
          stats_for_all_methods: false
      - name: istio.alpn
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
          on_request_headers:
          - object_key: envoy.network.application_protocols
            format_string:
              text_format_source:
                inline_string: '%METADATA(CLUSTER:pilotfish.security:request_protocols)%'
              omit_empty_values: true
            skip_if_empty: true
      - name: envoy.filters.http.fault
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
      - name: envoy.filters.http.cors
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
      - name: envoy.filters.http.router
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
      use_remote_address: false
      upgrade_configs:
      - upgrade_type: websocket
      stream_idle_timeout: 0s
      normalize_path: true
      path_with_escaped_slashes_action: KEEP_UNCHANGED
listener_filters:
- name: envoy.filters.listener.http_inspector
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector
listener_filters_timeout: 0s
traffic_direction: OUTBOUND
continue_on_listener_filters_timeout: true
default_filter_chain:
  filter_chain_match: {}
  filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: PassthroughCluster
      cluster: PassthroughCluster
  name: PassthroughFilterChain
bind_to_port: false
"""

ROUTES = """
name: '50000'
virtual_hosts:
- name: AppMeshClient.mesh:50000
  domains:
  - AppMeshClient.mesh
  - AppMeshClient.mesh.
  - 240.240.0.63
  routes:
  - name: default
    match:
      prefix: /
    route:
      cluster: outbound|50000||AppMeshClient.mesh
      timeout: 0s
      retry_policy:
        retry_on: connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes
        num_retries: 2
        retry_host_predicate:
        - name: envoy.retry_host_predicates.previous_hosts
          typed_config:
            '@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
        host_selection_retry_max_attempts: '5'
      max_stream_duration:
        max_stream_duration: 0s
        grpc_timeout_header_max: 0s
  include_request_attempt_count: true
- name: allow_any
  domains:
  - '*'
  routes:
  - name: allow_any
    match:
      prefix: /
    route:
      cluster: PassthroughCluster
      timeout: 0s
      max_stream_duration:
        max_stream_duration: 0s
        grpc_timeout_header_max: 0s
  include_request_attempt_count: true
validate_clusters: false
max_direct_response_body_size_bytes: 1048576
ignore_port_in_host_matching: true
"""

CLUSTER = """
metadata:
  filter_metadata:
    istio: {services: [{host: AppMeshClient.mesh, name: AppMeshClient.mesh, namespace: default}]}
    pilotfish.service: {host: AppMeshClient.mesh, name: AppMeshClient.mesh, namespace: default}
name: outbound|50000||AppMeshClient.mesh
type: EDS
eds_cluster_config:
  eds_config:
    ads: {}
    initial_fetch_timeout: 0s
    resource_api_version: V3
  service_name: outbound|50000||AppMeshClient.mesh
connect_timeout: 10s
lb_policy: LEAST_REQUEST
circuit_breakers:
  thresholds:
  - max_connections: 4294967295
    max_pending_requests: 4294967295
    max_requests: 4294967295
    max_retries: 4294967295
    track_remaining: true
alt_stat_name: outbound|50000||AppMeshClient.mesh;
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config:
      http2_protocol_options: {}
"""

ENDPOINTS = """
cluster_name: outbound|50000||AppMeshClient.mesh
endpoints:
- locality: {}
  lb_endpoints:
  - endpoint:
      address:
        socket_address:
          address: 10.0.0.17
          port_value: 50000
    load_balancing_weight: 1
  load_balancing_weight: 1
"""

NAMES = """
table:
  AppMeshClient.mesh:
    ips:
    - 240.240.0.63
    registry: External
"""

INBOUND_LISTENER = """
name: virtualInbound
address:
  socket_address:
    address: 0.0.0.0
    port_value: 15006
filter_chains:
- filter_chain_match:
    destination_port: 15006
  filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: BlackHoleCluster
      cluster: BlackHoleCluster
  name: virtualInbound-blackhole
- filter_chain_match:
    transport_protocol: raw_buffer
    application_protocols:
    - http/1.1
    - h2c
  filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: InboundPassthroughCluster;
      route_config:
        name: InboundPassthroughCluster
        virtual_hosts:
        - name: inbound|http|0
          domains:
          - '*'
          routes:
          - match:
              prefix: /
            route:
              cluster: InboundPassthroughCluster
              timeout: 0s
              retry_policy:
                retry_on: reset-before-request
                num_retries: 2
              max_stream_duration:
                max_stream_duration: 0s
                grpc_timeout_header_max: 0s
            name: default
        validate_clusters: false
      http_filters:
      - name: envoy.filters.http.grpc_stats
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig
          emit_filter_state: true
          stats_for_all_methods: false
      - name: envoy.filters.http.fault
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
      - name: envoy.filters.http.cors
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
      - name: envoy.filters.http.router
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
      server_name: istio-envoy
      use_remote_address: false
      forward_client_cert_details: APPEND_FORWARD
      set_current_client_cert_details:
        subject: true
        dns: true
        uri: true
      upgrade_configs:
      - upgrade_type: websocket
      stream_idle_timeout: 0s
      normalize_path: true
      path_with_escaped_slashes_action: KEEP_UNCHANGED
  name: virtualInbound-catchall-http
- filter_chain_match:
    transport_protocol: raw_buffer
  filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: InboundPassthroughCluster
      cluster: InboundPassthroughCluster
  name: virtualInbound
- filter_chain_match:
    destination_port: 50000
    transport_protocol: raw_buffer
  filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: inbound_0.0.0.0_50000;
      route_config:
        name: inbound|50000||
        virtual_hosts:
        - name: inbound|http|50000
          domains:
          - '*'
          routes:
          - match:
              prefix: /
            route:
              cluster: inbound|50000||
              timeout: 0s
              max_stream_duration:
                max_stream_duration: 0s
                grpc_timeout_header_max: 0s
            name: default
        validate_clusters: false
      http_filters:
      - name: envoy.filters.http.grpc_stats
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig
          emit_filter_state: true
          stats_for_all_methods: false
      - name: envoy.filters.http.fault
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
      - name: envoy.filters.http.cors
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
      - name: envoy.filters.http.router
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
      http2_protocol_options: {}
      server_name: istio-envoy
      use_remote_address: false
      forward_client_cert_details: APPEND_FORWARD
      set_current_client_cert_details:
        subject: true
        dns: true
        uri: true
      upgrade_configs:
      - upgrade_type: websocket
      stream_idle_timeout: 0s
      normalize_path: true
      path_with_escaped_slashes_action: KEEP_UNCHANGED
  name: 0.0.0.0_50000
listener_filters:
- name: envoy.filters.listener.original_dst
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst
- name: envoy.filters.listener.tls_inspector
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
    initial_read_buffer_size: 512
  filter_disabled:
    destination_port_range:
      start: 15006
      end: 15007
- name: envoy.filters.listener.http_inspector
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector
  filter_disabled:
    or_match:
      rules:
      - destination_port_range:
          start: 15006
          end: 15007
      - destination_port_range:
          start: 50000
          end: 50001
listener_filters_timeout: 0s
traffic_direction: INBOUND
continue_on_listener_filters_timeout: true
max_connections_to_accept_per_socket_event: 1
"""

INBOUND_CLUSTER = """
metadata:
  filter_metadata:
    istio: {services: [{host: AppMeshClient.mesh, name: AppMeshClient.mesh, namespace: default}]}
    pilotfish.service: {host: AppMeshClient.mesh, name: AppMeshClient.mesh, namespace: default}
name: inbound|50000||
type: ORIGINAL_DST
connect_timeout: 10s
lb_policy: CLUSTER_PROVIDED
circuit_breakers:
  thresholds:
  - max_connections: 4294967295
    max_pending_requests: 4294967295
    max_requests: 4294967295
    max_retries: 4294967295
    track_remaining: true
cleanup_interval: 9223372035s
upstream_bind_config:
  source_address:
    address: 127.0.0.6
    port_value: 0
alt_stat_name: inbound|50000||;
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config:
      http2_protocol_options: {}
"""

VIRTUAL_OUTBOUND = """
name: virtualOutbound
address:
  socket_address:
    address: 0.0.0.0
    port_value: 15001
filter_chains:
- filter_chain_match:
    destination_port: 15001
  filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: BlackHoleCluster
      cluster: BlackHoleCluster
  name: virtualOutbound-blackhole
- filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: PassthroughCluster
      cluster: PassthroughCluster
  name: virtualOutbound-catchall-tcp
use_original_dst: true
traffic_direction: OUTBOUND
max_connections_to_accept_per_socket_event: 1
"""

ALWAYS = {"BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster"}
HOST = "outbound|50000||AppMeshClient.mesh"


def test_who_calls_the_host(mesh: Any, load: Any) -> None:
    proxy = mesh.looking_up()
    assert proxy.names("listeners") == {"virtualOutbound", "virtualInbound"}
    assert proxy.get("listeners", "virtualOutbound") == load(VIRTUAL_OUTBOUND)
    assert proxy.names("clusters") == ALWAYS

    mesh.apply(SERVICE_ENTRY)
    assert proxy.told() == {
        "listeners": {"0.0.0.0_50000"},
        "routes": {"50000"},
        "clusters": {HOST},
        "endpoints": {HOST},
    }
    assert proxy.get("listeners", "0.0.0.0_50000") == load(LISTENER)
    assert proxy.get("routes", "50000") == load(ROUTES)
    assert proxy.get("clusters", HOST) == load(CLUSTER)
    assert proxy.get("endpoints", HOST) == load(ENDPOINTS)

    mesh.apply(SERVICE_ENTRY.replace("10.0.0.17", "10.0.0.18"))
    assert proxy.told() == {"endpoints": {HOST}}
    assert proxy.get("endpoints", HOST) == load(ENDPOINTS.replace("10.0.0.17", "10.0.0.18"))

    mesh.delete("ServiceEntry", "meshb")
    assert proxy.names("listeners") == {"virtualOutbound", "virtualInbound"}
    assert proxy.names("routes") == set()
    assert proxy.names("clusters") == ALWAYS
    assert proxy.names("endpoints") == set()


def test_who_is_the_host(mesh: Any, load: Any) -> None:
    """A ServiceEntry that lists a pod's address says how the pod speaks on that port."""
    proxy = mesh.sidecar(name="meshb", ip="10.0.0.17", app="meshb")
    before = proxy.get("listeners", "virtualInbound")
    mesh.apply(SERVICE_ENTRY)
    listener = proxy.get("listeners", "virtualInbound")
    secured = [c for c in listener["filter_chains"] if c["filter_chain_match"].get("transport_protocol") == "tls"]
    listener["filter_chains"] = [chain for chain in listener["filter_chains"] if chain not in secured]
    assert listener == load(INBOUND_LISTENER)
    assert [c["name"] for c in secured] == ["virtualInbound-catchall-http", *["virtualInbound"] * 2, "0.0.0.0_50000"]
    assert proxy.get("clusters", "inbound|50000||") == load(INBOUND_CLUSTER)

    mesh.delete("ServiceEntry", "meshb")
    assert proxy.get("listeners", "virtualInbound") == before
    assert proxy.names("clusters") == ALWAYS


def test_who_answers_for_its_name(mesh: Any, load: Any) -> None:
    dns = mesh.dns()
    mesh.apply(SERVICE_ENTRY)
    assert dns.told() == {"names": {"*/AppMeshClient.mesh"}}
    assert dns.get("names", "*/AppMeshClient.mesh") == load(NAMES)
    mesh.delete("ServiceEntry", "meshb")
    assert dns.told() == {"names": {"*/AppMeshClient.mesh"}}
    assert dns.names("names") == set()
