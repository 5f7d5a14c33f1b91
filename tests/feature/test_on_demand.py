"""A sidecar with DNS capture: what it has before its workload asks for anything, and what a lookup adds."""

from __future__ import annotations

from typing import Any

from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.xds.source import CLUSTER

TWO_HOSTS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders.mesh]
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 5432, name: tcp, protocol: TCP}
  endpoints: [{address: 10.0.0.5}]
status: {addresses: [{value: 240.240.0.1}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: users}
spec:
  hosts: [users.mesh]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.6}]
status: {addresses: [{value: 240.240.0.2}]}
"""
ALWAYS = {"BlackHoleCluster", "InboundPassthroughCluster", "PassthroughCluster"}


def look_up(mesh: Any, host: str) -> None:
    mesh.dns().config.asked(NAME_TABLE_TYPE, [demand_name(Demand("10.0.0.9", host))], (), ())


def on_demand(mesh: Any) -> Any:
    return mesh.sidecar(metadata={"DNS_CAPTURE": "true"})


def test_before_any_lookup_a_proxy_has_the_ports_of_http_and_no_host(mesh: Any, load: Any) -> None:
    mesh.apply(TWO_HOSTS)
    proxy = on_demand(mesh)
    assert proxy.names("clusters") == ALWAYS
    assert proxy.names("endpoints") == set()
    assert proxy.names("listeners") == {"virtualInbound", "virtualOutbound", "0.0.0.0_80"}
    assert proxy.get("routes", "80") == load("""
        name: "80"
        validate_clusters: false
        ignore_port_in_host_matching: true
        max_direct_response_body_size_bytes: 1048576
        request_headers_to_remove: [x-pilotfish-destination]
        virtual_hosts:
        - name: allow_any
          domains: ["*"]
          include_request_attempt_count: true
          routes:
          - name: allow_any
            match:
              prefix: /
              filter_state: [{key: pilotfish.networks, string_match: {contains: " 240.240.0.0/16 "}}]
            route:
              cluster_header: x-pilotfish-destination
              timeout: 0s
              max_stream_duration: {max_stream_duration: 0s, grpc_timeout_header_max: 0s}
            typed_per_filter_config:
              envoy.filters.http.on_demand:
                "@type": type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.PerRouteConfig
                odcds:
                  source: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
                  timeout: 5s
          - name: allow_any
            match: {prefix: /}
            route:
              cluster: PassthroughCluster
              timeout: 0s
              max_stream_duration: {max_stream_duration: 0s, grpc_timeout_header_max: 0s}
    """)


def test_a_lookup_adds_the_hosts_own_resources_as_everybody_else_has_them(mesh: Any) -> None:
    mesh.apply(TWO_HOSTS)
    proxy, eager = on_demand(mesh), mesh.looking_up("eager", ip="10.0.0.10")
    look_up(mesh, "orders.mesh")
    assert proxy.told() == {
        "clusters": {"outbound|80||orders.mesh", "outbound|5432||orders.mesh"},
        "endpoints": {"outbound|80||orders.mesh", "outbound|5432||orders.mesh"},
        "listeners": {"240.240.0.1_5432"},
        "routes": {"80"},
    }
    for what, name in (("clusters", "outbound|80||orders.mesh"), ("listeners", "240.240.0.1_5432")):
        assert proxy.get(what, name) == eager.get(what, name)
    hosts = [host["name"] for host in proxy.get("routes", "80")["virtual_hosts"]]
    assert hosts == ["orders.mesh:80", "allow_any"]
    own = next(h for h in eager.get("routes", "80")["virtual_hosts"] if h["name"] == "orders.mesh:80")
    assert proxy.get("routes", "80")["virtual_hosts"][0] == own


def test_a_change_of_a_host_reaches_those_who_asked_for_it_alone(mesh: Any) -> None:
    mesh.apply(TWO_HOSTS)
    proxy = on_demand(mesh)
    look_up(mesh, "users.mesh")
    proxy.told()
    mesh.apply(TWO_HOSTS.replace("10.0.0.5", "10.0.0.55"))
    assert proxy.told() == {}
    mesh.apply(TWO_HOSTS.replace("10.0.0.5", "10.0.0.55").replace("10.0.0.6", "10.0.0.66"))
    assert proxy.told() == {"endpoints": {"outbound|80||users.mesh"}}
    mesh.delete("ServiceEntry", "users")
    assert proxy.names("clusters") == ALWAYS


def test_hosts_that_share_a_listener_come_together(mesh: Any) -> None:
    """The oldest has a contested listener for everybody, so who asked for the younger needs the oldest's cluster."""
    first, second = TWO_HOSTS.split("---")
    older = first.replace("{name: orders}", "{name: orders, creationTimestamp: '2024-01-01T00:00:00Z'}")
    younger = second.replace("number: 80, name: http, protocol: HTTP", "number: 5432, name: tcp, protocol: TCP")
    younger = younger.replace("{name: users}", "{name: users, creationTimestamp: '2024-01-02T00:00:00Z'}")
    mesh.apply(older + "---" + younger.replace("240.240.0.2", "240.240.0.1"))
    proxy = on_demand(mesh)
    look_up(mesh, "users.mesh")
    listener = proxy.get("listeners", "240.240.0.1_5432")
    assert listener["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] == "outbound|5432||orders.mesh"
    assert {"outbound|5432||orders.mesh", "outbound|5432||users.mesh"} <= proxy.names("clusters")


def test_a_pod_of_a_headless_service_asks_for_the_service(mesh: Any) -> None:
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: tcp, port: 5432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.7], hostname: db-0}]
ports: [{name: tcp, port: 5432}]
""")
    proxy = on_demand(mesh)
    look_up(mesh, "db-0.db.default.svc.cluster.local")
    assert proxy.names("clusters") == ALWAYS | {"outbound|5432||db.default.svc.cluster.local"}
    assert "10.0.0.7_5432" in proxy.names("listeners")


def test_connections_into_the_mesh_without_a_lookup_ask_for_their_cluster(mesh: Any, load: Any) -> None:
    mesh.configure("accessLogFile: /dev/stdout")
    proxy, eager = on_demand(mesh), mesh.sidecar("eager", ip="10.0.0.10")
    own_port, asked_for, rest = proxy.get("listeners", "virtualOutbound")["filter_chains"]
    log = rest["filters"][0]["typed_config"]["access_log"]
    assert [own_port, rest] == eager.get("listeners", "virtualOutbound")["filter_chains"]
    expected = load("""
        name: virtualOutbound-on-demand
        filter_chain_match: {prefix_ranges: [{address_prefix: 240.240.0.0, prefix_len: 16}]}
        filters:
        - name: envoy.filters.network.set_filter_state
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config
            on_new_connection:
            - object_key: envoy.tcp_proxy.cluster
              format_string:
                text_format_source:
                  inline_string: >-
                    outbound|%DOWNSTREAM_LOCAL_PORT%|%START_TIME(%Y%m%d)%|%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%
        - name: envoy.filters.network.tcp_proxy
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
            stat_prefix: PassthroughCluster
            cluster: PassthroughCluster
            on_demand:
              odcds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
              timeout: 5s
    """)
    expected["filters"][1]["typed_config"]["access_log"] = log
    assert asked_for == expected


def test_the_cluster_of_an_address_leads_to_the_hosts_endpoints_or_to_the_address(mesh: Any) -> None:
    mesh.apply(TWO_HOSTS)
    proxy = on_demand(mesh)
    owned, unowned = "outbound|5432|20240131|240.240.0.1", "outbound|5433|20240131|240.240.0.1"
    proxy.config.asked(CLUSTER, [], (), [owned, unowned])
    mesh.apply(TWO_HOSTS.replace("10.0.0.5", "10.0.0.55"))  # and Envoy takes all of it
    assert proxy.names("clusters") == ALWAYS | {
        owned,
        unowned,
        "outbound|80||orders.mesh",
        "outbound|5432||orders.mesh",
    }
    assert proxy.get("clusters", owned)["eds_cluster_config"]["service_name"] == "outbound|5432||orders.mesh"
    assert proxy.get("clusters", unowned)["type"] == "ORIGINAL_DST"
    assert "240.240.0.1_5432" in proxy.names("listeners")


def test_no_connection_idles_longer_than_what_it_used_is_kept(mesh: Any) -> None:
    mesh.apply(TWO_HOSTS)
    brief = mesh.sidecar("brief", metadata={"DNS_CAPTURE": "true", "PILOTFISH_IDLE_TIMEOUT": "90s"})
    usual, eager = on_demand(mesh), mesh.sidecar("eager", ip="10.0.0.10")

    def manager(proxy: Any) -> Any:
        chain = proxy.get("listeners", "0.0.0.0_80")["filter_chains"][0]
        return next(f["typed_config"] for f in chain["filters"] if f["name"].endswith("http_connection_manager"))

    assert manager(brief)["common_http_protocol_options"] == {"idle_timeout": "90s"}
    for proxy in (usual, eager):
        assert "common_http_protocol_options" not in manager(proxy), "Envoy's hour"
    named = brief.get("listeners", "virtualOutbound")["filter_chains"][1]["filters"][0]["typed_config"]
    (value,) = named["on_new_connection"]
    assert "|%START_TIME(%Y%m%d%H%M)%|" in value["format_string"]["text_format_source"]["inline_string"]


def test_requests_into_the_mesh_without_a_lookup_ask_for_their_cluster(mesh: Any, load: Any) -> None:
    mesh.apply(TWO_HOSTS)
    proxy, eager = on_demand(mesh), mesh.sidecar("eager", ip="10.0.0.10")
    noted, http = proxy.get("listeners", "0.0.0.0_80")["filter_chains"][0]["filters"]
    assert noted == load("""
        name: envoy.filters.network.set_filter_state
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config
          on_new_connection:
          - object_key: pilotfish.networks
            factory_key: envoy.string
            format_string:
              text_format_source: {inline_string: " %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(16)% "}
    """)
    manager = http["typed_config"]
    assert manager.pop("early_header_mutation_extensions") == load("""
        - name: envoy.http.early_header_mutation.header_mutation
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
            mutations:
            - append:
                header:
                  key: x-pilotfish-destination
                  value: >-
                    outbound|%DOWNSTREAM_LOCAL_PORT%|%START_TIME(%Y%m%d)%|%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%
                append_action: OVERWRITE_IF_EXISTS_OR_ADD
    """)
    assert manager["http_filters"].pop(0) == load("""
        name: envoy.filters.http.on_demand
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand}
    """)
    assert [http] == eager.get("listeners", "0.0.0.0_80")["filter_chains"][0]["filters"]


def test_a_request_to_an_address_gets_the_host_that_has_it(mesh: Any) -> None:
    mesh.apply(TWO_HOSTS)
    proxy = on_demand(mesh)
    owned, unowned = "outbound|80|20240131|240.240.0.2", "outbound|81|20240131|240.240.0.2"
    proxy.config.asked(CLUSTER, [], (), [owned, unowned])
    mesh.apply(TWO_HOSTS.replace("10.0.0.5", "10.0.0.55"))  # and Envoy takes all of it
    assert proxy.names("clusters") == ALWAYS | {owned, unowned, "outbound|80||users.mesh"}
    assert proxy.get("clusters", owned)["eds_cluster_config"]["service_name"] == "outbound|80||users.mesh"
    assert proxy.get("clusters", unowned)["type"] == "ORIGINAL_DST"
    assert [host["name"] for host in proxy.get("routes", "80")["virtual_hosts"]] == ["users.mesh:80", "allow_any"]


def test_the_first_request_to_an_address_goes_where_no_route_says_anything_in_particular(mesh: Any) -> None:
    mesh.apply(TWO_HOSTS)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: users}
spec:
  hosts: [users.mesh]
  http:
  - {match: [{headers: {new: {exact: "yes"}}}], route: [{destination: {host: users.mesh}}]}
  - route: [{destination: {host: orders.mesh}}]
""")
    proxy = on_demand(mesh)
    asked = "outbound|80|20240131|240.240.0.2"
    proxy.config.asked(CLUSTER, [], (), [asked])
    mesh.apply(TWO_HOSTS.replace("10.0.0.5", "10.0.0.55"))
    assert proxy.get("clusters", asked)["eds_cluster_config"]["service_name"] == "outbound|80||orders.mesh"
    mesh.delete("VirtualService", "users")
    assert proxy.get("clusters", asked)["eds_cluster_config"]["service_name"] == "outbound|80||users.mesh"
