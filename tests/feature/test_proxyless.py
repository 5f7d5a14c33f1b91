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
