"""What gRPC's own xDS clients get. That gRPC takes it, tests/unit/xds/test_proxyless.py shows with gRPC itself."""

from __future__ import annotations

from typing import Any

import pytest

HOST = "echo.default.svc.cluster.local"
CLUSTER = f"outbound|80||{HOST}"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {clusterIP: 10.1.0.5, ports: [{name: grpc, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]}
"""
HEADLESS = SERVICE.replace("10.1.0.5", "None")
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, labels: {kubernetes.io/service-name: echo}}
ports: [{name: grpc, port: 8080}]
endpoints: [{addresses: [10.0.0.20], conditions: {ready: true}}]
"""


MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def entry(spec: str, name: str = "entry", namespace: str = "default") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
"""


@pytest.mark.parametrize("service", [SERVICE, HEADLESS])
def test_a_kubernetes_service(mesh: Any, load: Any, service: str) -> None:
    client = mesh.grpc()
    mesh.apply(service + "---" + SLICE)
    assert client.names("listeners") == {f"{HOST}:80", "echo.default.svc:80", "echo.default:80", "echo:80"}
    assert client.names("routes") == client.names("clusters") == client.names("endpoints") == {CLUSTER}
    assert client.get("listeners", "echo:80") == load(f"""
        name: echo:80
        api_listener:
          api_listener:
            '@type': {MANAGER}
            rds:
              config_source: {{ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3}}
              route_config_name: {CLUSTER}
            http_filters:
            - name: envoy.filters.http.fault
              typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}}
            - name: envoy.filters.http.router
              typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
        """)
    (virtual_host,) = client.get("routes", CLUSTER)["virtual_hosts"]
    assert virtual_host["domains"] == ["*"]
    assert virtual_host["routes"][0]["route"]["cluster"] == CLUSTER
    assert client.get("clusters", CLUSTER) == load(f"""
        name: {CLUSTER}
        type: EDS
        eds_cluster_config:
          eds_config: {{ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3}}
          service_name: {CLUSTER}
        """)
    assert client.get("endpoints", CLUSTER) == load(f"""
        cluster_name: {CLUSTER}
        endpoints:
        - locality: {{}}
          lb_endpoints:
          - endpoint: {{address: {{socket_address: {{address: 10.0.0.20, port_value: 8080}}}}}}
            load_balancing_weight: 1
          load_balancing_weight: 1
        """)
    client.told()
    mesh.delete("Service", "echo")
    assert not client.names("listeners") | client.names("routes") | client.names("clusters") | client.names("endpoints")
    assert client.told().keys() == {"listeners", "routes", "clusters", "endpoints"}


def test_an_endpoint_touches_endpoints_alone(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE)
    client.told()
    mesh.apply(SLICE)
    assert client.told() == {"endpoints": {CLUSTER}}
    mesh.delete("EndpointSlice", "echo-1")
    assert client.told() == {"endpoints": {CLUSTER}}


def test_a_short_name_means_the_clients_namespace(mesh: Any) -> None:
    mesh.apply(SERVICE)
    mesh.apply(SERVICE.replace("name: echo}", "name: echo, namespace: other}"))
    here, there = mesh.grpc(), mesh.grpc(namespace="other")
    assert _route(here, "echo:80") == CLUSTER
    assert _route(there, "echo:80") == "outbound|80||echo.other.svc.cluster.local"
    assert _route(here, "echo.other:80") == _route(there, "echo:80")


def test_a_hosts_own_name_goes_before_a_short_one(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE)
    mesh.apply(entry("hosts: [echo.default], resolution: STATIC, ports: [{number: 80, name: grpc, protocol: GRPC}]"))
    assert _route(client, "echo.default:80") == "outbound|80||echo.default"
    mesh.delete("ServiceEntry", "entry")
    assert _route(client, "echo.default:80") == CLUSTER


def test_a_service_entry_in_both_spellings(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(
        entry(
            "hosts: [AppMeshClient.mesh], resolution: STATIC, ports: [{number: 50000, name: grpc, protocol: GRPC}],"
            "endpoints: [{address: 10.0.0.17}, {address: 'unix:///socket'}]"
        )
    )
    assert client.names("listeners") == {"AppMeshClient.mesh:50000", "appmeshclient.mesh:50000"}
    (group,) = client.get("endpoints", "outbound|50000||AppMeshClient.mesh")["endpoints"]
    addresses = [e["endpoint"]["address"] for e in group["lb_endpoints"]]
    assert addresses == [{"socket_address": {"address": "10.0.0.17", "port_value": 50000}}], "gRPC refuses the socket"


@pytest.mark.parametrize("resolution", ["DNS", "DNS_ROUND_ROBIN"])
def test_a_name_to_look_up(mesh: Any, resolution: str) -> None:
    client = mesh.grpc()
    mesh.apply(
        entry(f"hosts: [api.test], resolution: {resolution}, ports: [{{number: 443, name: tls, protocol: TLS}}]")
    )
    cluster = client.get("clusters", "outbound|443||api.test")
    assert cluster["type"] == "LOGICAL_DNS"
    (group,) = cluster["load_assignment"]["endpoints"]
    assert group["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] == "api.test"
    assert client.names("endpoints") == set()


def test_hosts_without_a_destination_are_unknown(mesh: Any) -> None:
    client = mesh.grpc()
    ports = "ports: [{number: 80, name: grpc, protocol: GRPC}]"
    mesh.apply(entry(f"hosts: [any.test], resolution: NONE, {ports}", "any"))
    mesh.apply(
        entry(f"hosts: ['*.wild.test'], resolution: STATIC, {ports}, endpoints: [{{address: 10.0.0.1}}]", "wild")
    )
    assert client.names("listeners") == set()


def test_what_is_not_exported_is_not_there(mesh: Any) -> None:
    mesh.apply(
        entry(
            "hosts: [own.test], exportTo: ['.'], resolution: STATIC, ports: [{number: 80, name: grpc, protocol: GRPC}]",
            namespace="other",
        )
    )
    assert mesh.grpc().names("listeners") == set()
    assert mesh.grpc(namespace="other").names("listeners") == {"own.test:80"}


def _route(client: Any, listener: str) -> str:
    manager = client.get("listeners", listener)["api_listener"]["api_listener"]
    route: str = manager["rds"]["route_config_name"]
    return route


OTHER = """
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.1.0.6, ports: [{name: grpc, port: 81}]}
"""
OTHERS = "outbound|81||other.default.svc.cluster.local"


def routed(http: str, host: str = "echo") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo}}
spec: {{hosts: [{host}], http: {http}}}
"""


def ruled(spec: str, host: str = "echo") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host}}}
spec: {{host: {host}, {spec}}}
"""


def routes_of(client: Any, name: str = CLUSTER) -> Any:
    (virtual_host,) = client.get("routes", name)["virtual_hosts"]
    return virtual_host["routes"]


def test_where_a_virtual_service_sends_calls(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE + "---" + OTHER)
    client.told()
    mesh.apply(
        routed("""[
          {match: [{uri: {exact: /echo.Echo/Say}, headers: {x-user: {exact: me}, x-any: {}}}],
           route: [{destination: {host: other}}]},
          {match: [{uri: {prefix: /echo.Echo/}, headers: {x-user: {prefix: m}, x-id: {regex: '[0-9]+'}}}],
           route: [{destination: {host: other}, weight: 30}, {destination: {host: echo}, weight: 70}]},
          {timeout: 3s, retries: {attempts: 4, retryOn: unavailable, perTryTimeout: 1s, backoff: 20ms},
           rewrite: {authority: far.test}, mirror: {host: other}, route: [{destination: {host: echo}}]}]""")
    )
    assert client.told() == {"routes": {CLUSTER}}
    one, shared, rest = routes_of(client)
    assert one["match"] == {
        "path": "/echo.Echo/Say",
        "headers": [{"name": "x-any", "present_match": True}, {"name": "x-user", "exact_match": "me"}],
    }
    assert one["route"]["cluster"] == OTHERS
    assert shared["match"]["headers"] == [
        {"name": "x-id", "safe_regex_match": {"regex": "[0-9]+"}},
        {"name": "x-user", "prefix_match": "m"},
    ]
    weights = {to["name"]: to["weight"] for to in shared["route"]["weighted_clusters"]["clusters"]}
    assert weights == {OTHERS: 30, CLUSTER: 70}
    assert rest["route"]["max_stream_duration"] == {"max_stream_duration": "3s"}
    assert "timeout" not in rest["route"]
    policy = rest["route"]["retry_policy"]
    assert (policy["retry_on"], policy["num_retries"]) == ("unavailable", 4)
    assert policy["retry_back_off"] == {"base_interval": "0.020s"}
    assert "retry_host_predicate" not in policy
    assert OTHERS in client.names("clusters")
    mesh.delete("VirtualService", "echo")
    assert [route["route"]["cluster"] for route in routes_of(client)] == [CLUSTER]


def test_a_header_that_must_not_be_so_may_be_absent(mesh: Any) -> None:
    """gRPC finds no condition met by a header that is not there: two routes say it."""
    client = mesh.grpc()
    mesh.apply(SERVICE)
    unwanted = "withoutHeaders: {x-user: {exact: me}, x-old: {}}"
    mesh.apply(routed(f"[{{match: [{{{unwanted}}}], route: [{{destination: {{host: echo}}}}]}}]"))
    old = {"name": "x-old", "present_match": True, "invert_match": True}
    assert [route["match"]["headers"] for route in routes_of(client)] == [
        [old, {"name": "x-user", "present_match": True, "invert_match": True}],
        [old, {"name": "x-user", "exact_match": "me", "invert_match": True}],
    ]


def test_faults_are_all_that_routes_say_of_filters(mesh: Any, load: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE)
    listener = client.get("listeners", "echo:80")["api_listener"]["api_listener"]
    assert [each["name"].rpartition(".")[2] for each in listener["http_filters"]] == ["fault", "router"]
    mesh.apply(
        routed("""[{
          fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}},
                  delay: {fixedDelay: 1s, percentage: {value: 10}}},
          corsPolicy: {allowOrigins: [{exact: "https://x.test"}]},
          retries: {attempts: 0},
          route: [{destination: {host: echo}}]}]""")
    )
    (route,) = routes_of(client)
    assert route["typed_per_filter_config"] == load("""
        envoy.filters.http.fault:
          '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
          abort: {grpc_status: 14, percentage: {numerator: 1000000, denominator: MILLION}}
          delay: {fixed_delay: 1s, percentage: {numerator: 100000, denominator: MILLION}}
        """)
    assert "retry_policy" not in route["route"], "gRPC refuses one of no retries"


def test_subsets_are_clusters_with_endpoints_of_their_own(mesh: Any) -> None:
    client = mesh.grpc()
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: echo-1, labels: {version: v1}}
spec: {containers: [{name: c, image: i}]}
status: {podIP: 10.0.0.20}
"""
    known = SLICE.replace(
        "conditions: {ready: true}", "conditions: {ready: true}, targetRef: {kind: Pod, name: echo-1}"
    )
    mesh.apply(pod + "---" + SERVICE + "---" + known)
    mesh.apply(ruled("subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]"))
    mesh.apply(routed("[{route: [{destination: {host: echo, subset: v1}}]}]"))
    (route,) = routes_of(client)
    v1, v2 = (CLUSTER.replace("||", f"|{subset}|") for subset in ("v1", "v2"))
    assert route["route"]["cluster"] == v1
    assert client.names("clusters") == client.names("endpoints") == {CLUSTER, v1, v2}
    assert len(client.get("endpoints", v1)["endpoints"]) == 1
    assert "endpoints" not in client.get("endpoints", v2)


def test_what_destination_rules_say_of_balancing(mesh: Any, load: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE)
    mesh.apply(ruled("trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {}}}}"))
    cluster = client.get("clusters", CLUSTER)
    assert cluster["lb_policy"] == "RING_HASH"
    assert cluster["ring_hash_lb_config"] == {"minimum_ring_size": "1024"}
    (route,) = routes_of(client)
    assert route["route"]["hash_policy"] == [{"header": {"header_name": "x-user"}}]
    mesh.apply(
        ruled("trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8}}}}")
    )
    assert client.get("clusters", CLUSTER)["ring_hash_lb_config"] == {"minimum_ring_size": "8"}
    assert routes_of(client)[0]["route"]["hash_policy"] == [{"filter_state": {"key": "io.grpc.channel_id"}}]
    mesh.apply(ruled("trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}"))
    (localities,) = client.get("clusters", CLUSTER)["load_balancing_policy"]["policies"]
    within = localities["typed_extension_config"]["typed_config"]["endpoint_picking_policy"]["policies"]
    names = [each["typed_extension_config"]["name"].rpartition(".")[2] for each in within]
    assert names == ["least_request", "round_robin"]
    assert "hash_policy" not in routes_of(client)[0]["route"]
    mesh.apply(ruled("trafficPolicy: {loadBalancer: {simple: RANDOM}}"))
    assert "load_balancing_policy" not in client.get("clusters", CLUSTER)


def test_calls_to_weighted_destinations_are_hashed_as_each_says(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE + "---" + OTHER)
    mesh.apply(ruled("trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-other}}}", "other"))
    mesh.apply(routed("[{route: [{destination: {host: echo}, weight: 1}, {destination: {host: other}, weight: 1}]}]"))
    assert routes_of(client)[0]["route"]["hash_policy"] == [{"header": {"header_name": "x-other"}}]


def test_limits_and_outliers(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE)
    mesh.apply(
        ruled("""trafficPolicy: {
          connectionPool: {http: {http2MaxRequests: 7}, tcp: {maxConnections: 1}},
          outlierDetection: {consecutive5xxErrors: 3, interval: 5s, baseEjectionTime: 60s, maxEjectionPercent: 50}}""")
    )
    cluster = client.get("clusters", CLUSTER)
    assert cluster["circuit_breakers"] == {"thresholds": [{"max_requests": 7}]}
    assert cluster["outlier_detection"] == {
        "interval": "5s",
        "base_ejection_time": "60s",
        "max_ejection_percent": 50,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 100,
        "failure_percentage_threshold": 99,
        "failure_percentage_minimum_hosts": 1,
        "failure_percentage_request_volume": 3,
    }
    mesh.apply(ruled("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0}}"))
    assert client.get("clusters", CLUSTER)["outlier_detection"]["enforcing_failure_percentage"] == 0


def test_an_alias_with_routes_of_its_own(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE)
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: called}
spec: {type: ExternalName, externalName: echo.default.svc.cluster.local}
""")
    assert _route(client, "called:80") == CLUSTER
    mesh.apply(
        routed(
            """[{fault: {abort: {grpcStatus: ABORTED, percentage: {value: 100}}},
                 route: [{destination: {host: called}}]}]""",
            "called",
        )
    )
    own = "outbound|80||called.default.svc.cluster.local"
    assert _route(client, "called:80") == _route(client, "called.default.svc.cluster.local:80") == own
    assert _route(client, "echo:80") == CLUSTER
    (route,) = routes_of(client, own)
    assert route["route"]["cluster"] == CLUSTER


def test_a_sidecar_says_what_clients_see(mesh: Any) -> None:
    client = mesh.grpc()
    mesh.apply(SERVICE + "---" + OTHER)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: [./other.default.svc.cluster.local]}]}
""")
    assert "echo:80" not in client.names("listeners")
    assert "other:81" in client.names("listeners")
