"""WorkloadEntries: workloads that are no pods, selected by ServiceEntries and by Kubernetes Services."""

from __future__ import annotations

from typing import Any

import pytest

TARGET = "outbound|80||db.test"
CLUSTER_IP = "outbound|80||db.default.svc.cluster.local"


def workload(spec: str, name: str = "vm-1", metadata: str = "", status: str = "") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: default, {metadata}}}
spec: {{{spec}}}
status: {{{status}}}
"""


def selecting(port: str = "number: 80, name: http, protocol: HTTP", resolution: str = "STATIC") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: db, namespace: default}}
spec:
  hosts: [db.test]
  location: MESH_INTERNAL
  resolution: {resolution}
  ports: [{{{port}}}]
  workloadSelector: {{labels: {{app: db}}}}
"""


def service(port: str, ip: str = "10.96.0.9") -> str:
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: db, namespace: default}}
spec: {{clusterIP: "{ip}", selector: {{app: db}}, ports: [{{{port}}}]}}
"""


def pod(ip: str, port: str = "") -> str:
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: db-1, labels: {{app: db}}}}
spec: {{containers: [{{name: db, ports: [{port}]}}]}}
status: {{podIP: {ip}, conditions: [{{type: Ready, status: "True"}}]}}
"""


def sockets(proxy: Any, name: str = TARGET) -> list[tuple[str, int]]:
    return [
        (
            e["endpoint"]["address"]["socket_address"]["address"],
            e["endpoint"]["address"]["socket_address"]["port_value"],
        )
        for group in proxy.get("endpoints", name).get("endpoints", [])
        for e in group["lb_endpoints"]
    ]


def test_a_service_entry_selects_entries_and_pods(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(selecting() + workload("address: 192.0.2.5, labels: {app: db}") + pod("10.0.0.30"))
    assert sockets(proxy) == [("10.0.0.30", 80), ("192.0.2.5", 80)]
    proxy.told()
    mesh.delete("WorkloadEntry", "vm-1")
    assert sockets(proxy) == [("10.0.0.30", 80)]
    assert proxy.told() == {"endpoints": {TARGET}}, "a workload costs its hosts' endpoints and nothing else"


@pytest.mark.parametrize(
    ("port", "ports", "expected"),
    [
        ("number: 80, name: http", "", 80),
        ("number: 80, name: http, targetPort: 8080", "", 8080),
        ("number: 80, name: http, targetPort: 8080", "ports: {http: 9090}", 9090),
        ("number: 80, name: http, targetPort: 8080", "ports: {other: 9090}", 8080),
    ],
)
def test_ports_of_an_entry_go_before_the_target_port(mesh: Any, port: str, ports: str, expected: int) -> None:
    proxy = mesh.sidecar()
    mesh.apply(selecting(port) + workload(f"address: 192.0.2.5, labels: {{app: db}}, {ports}"))
    assert sockets(proxy) == [("192.0.2.5", expected)]


def test_named_ports_of_a_selected_pod(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(selecting() + pod("10.0.0.30", "{name: http, containerPort: 9090}"))
    assert sockets(proxy) == [("10.0.0.30", 9090)]


def test_weight_locality_and_labels(mesh: Any, load: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(
        selecting()
        + workload("address: 192.0.2.5, labels: {app: db}, weight: 5, locality: eu/a/1")
        + workload("address: 192.0.2.6, labels: {app: db}", "vm-2", "labels: {istio-locality: eu.b}")
        + workload("address: 192.0.2.7, labels: {app: db}", "vm-3", "labels: {app: other}")
    )
    found = proxy.get("endpoints", TARGET)["endpoints"]
    for endpoint in (endpoint for locality in found for endpoint in locality["lb_endpoints"]):
        del endpoint["metadata"]  # what it is called in metrics
    assert found == load("""
        - locality: {region: eu, zone: a, sub_zone: '1'}
          lb_endpoints:
          - {endpoint: {address: {socket_address: {address: 192.0.2.5, port_value: 80}}}, load_balancing_weight: 5}
          load_balancing_weight: 5
        - locality: {region: eu, zone: b}
          lb_endpoints:
          - {endpoint: {address: {socket_address: {address: 192.0.2.6, port_value: 80}}}, load_balancing_weight: 1}
          load_balancing_weight: 1
        """), "and the object's own labels go before those of its spec"


def test_health_decides_whether_it_gets_traffic(mesh: Any) -> None:
    proxy = mesh.sidecar()
    checked = 'annotations: {proxy.istio.io/health-checks-enabled: "true"}'
    entry = "address: 192.0.2.5, labels: {app: db}"
    mesh.apply(selecting() + workload(entry, metadata=checked))
    assert sockets(proxy) == [], "not before a check succeeded"
    mesh.apply(workload(entry, metadata=checked, status='conditions: [{type: Healthy, status: "True"}]'))
    assert sockets(proxy) == [("192.0.2.5", 80)]
    mesh.apply(workload(entry, metadata=checked, status='conditions: [{type: Healthy, status: "False"}]'))
    assert sockets(proxy) == []
    mesh.apply(workload(entry, status='conditions: [{type: Healthy, status: "False"}]'))
    assert sockets(proxy) == [("192.0.2.5", 80)], "nobody checks it, so the condition is old"


@pytest.mark.parametrize(
    ("port", "ports", "expected"),
    [
        ("name: http, port: 80", "", [("192.0.2.5", 80)]),
        ("name: http, port: 80, targetPort: 8080", "", [("192.0.2.5", 8080)]),
        ("name: http, port: 80, targetPort: 8080", "ports: {http: 9090}", [("192.0.2.5", 9090)]),
        ("name: http, port: 80, targetPort: web", "ports: {web: 9090}", [("192.0.2.5", 9090)]),
        ("name: http, port: 80, targetPort: web", "ports: {http: 9090}", []),
    ],
)
def test_a_kubernetes_service_selects_entries(mesh: Any, port: str, ports: str, expected: list[Any]) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service(port) + workload(f"address: 192.0.2.5, labels: {{app: db}}, {ports}"))
    assert sockets(proxy, CLUSTER_IP) == expected


def test_a_kubernetes_service_has_pods_from_its_slices_alone(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("name: http, port: 80") + pod("10.0.0.30") + workload("address: 192.0.2.5, labels: {app: db}"))
    assert sockets(proxy, CLUSTER_IP) == [("192.0.2.5", 80)]


def test_names_are_for_hosts_whose_endpoints_are_looked_up(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(selecting() + service("name: http, port: 80") + workload("address: vm.test, labels: {app: db}"))
    assert sockets(proxy) == sockets(proxy, CLUSTER_IP) == []
    mesh.apply(selecting(resolution="DNS"))
    cluster = proxy.get("clusters", TARGET)
    assert cluster["cluster_type"]["name"] == "envoy.clusters.dns"
    found = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert found == {"socket_address": {"address": "vm.test", "port_value": 80}}


def test_a_socket_is_for_static_service_entries(mesh: Any) -> None:
    """Istio keeps it from these, and gives it to hosts whose endpoints are looked up, which Envoy refuses."""
    proxy = mesh.sidecar()
    mesh.apply(selecting() + service("name: http, port: 80") + workload("address: 'unix:///s', labels: {app: db}"))
    assert sockets(proxy, CLUSTER_IP) == []
    [group] = proxy.get("endpoints", TARGET)["endpoints"]
    assert group["lb_endpoints"][0]["endpoint"]["address"] == {"pipe": {"path": "/s"}}
    mesh.apply(selecting(resolution="DNS"))
    assert TARGET not in proxy.names("clusters")


def test_without_an_address_nothing_reaches_it(mesh: Any) -> None:
    """Its network has no gateway that we know of (as in Istio where a network has none)."""
    proxy = mesh.sidecar()
    mesh.apply(selecting() + workload("network: elsewhere, labels: {app: db}"))
    assert sockets(proxy) == []
    mesh.apply(workload("network: elsewhere, address: 192.0.2.5, labels: {app: db}"))
    assert sockets(proxy) == [("192.0.2.5", 80)]


def test_inbound_of_a_joined_workload(mesh: Any) -> None:
    """Its proxy finds its entry by the name in its metadata: labels and ports come from there."""
    proxy = mesh.sidecar("vm-1", ip="192.0.2.5", metadata={"WORKLOAD_ENTRY": "vm-1"})
    mesh.apply(service("name: http, port: 80, targetPort: web"))
    assert not any(name.startswith("inbound|") for name in proxy.names("clusters"))
    mesh.apply(workload("address: 192.0.2.5, labels: {app: db}, ports: {web: 9090}"))
    assert "inbound|9090||" in proxy.names("clusters")
    mesh.delete("Service", "db")
    assert "inbound|9090||" not in proxy.names("clusters")
    mesh.apply(selecting("number: 80, name: web"))
    assert "inbound|9090||" in proxy.names("clusters"), "also of a ServiceEntry that selects it"


def test_a_pod_and_an_entry_of_one_name_are_two(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(selecting() + workload("address: 192.0.2.5, labels: {app: db}", "db-1") + pod("10.0.0.30"))
    assert sockets(proxy) == [("10.0.0.30", 80), ("192.0.2.5", 80)]


def test_a_workload_behind_its_proxy(mesh: Any) -> None:
    """A process of the host: what comes for the proxy's address goes on to where it listens."""
    metadata = {"WORKLOAD_ENTRY": "vm-1", "PILOTFISH_WORKLOAD_ADDRESS": "169.254.1.1"}
    proxy = mesh.sidecar("vm-1", ip="192.0.2.5", metadata=metadata)
    mesh.apply(selecting() + workload("address: 192.0.2.5, labels: {app: db}, ports: {http: 9090}"))
    cluster = proxy.get("clusters", "inbound|9090||")
    assert "upstream_bind_config" not in cluster
    found = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert found == {"socket_address": {"address": "169.254.1.1", "port_value": 9090}}
