"""The node's gateway: NodePort and LoadBalancer services."""

from __future__ import annotations

from typing import Any

from pilotfish.xds.source import LISTENER, ProxyNode

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIP: 10.1.0.5
  selector: {app: web}
  ports:
  - {name: http, port: 80, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP, nodePort: 30053}
  - {name: dns-tcp, port: 53}
  - {name: inner, port: 9}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}]
endpoints: [{addresses: [10.0.0.20], conditions: {ready: true}}]
"""
WEB = "outbound|80||web.default.svc.cluster.local"
DNS = "outbound_udp|53||web.default.svc.cluster.local"


def test_node_ports(mesh: Any, load: Any) -> None:
    gateway = mesh.node_gateway()
    assert gateway.names("listeners") == gateway.names("clusters") == set()
    mesh.apply(SERVICE + "---" + SLICE)
    assert gateway.names("clusters") == gateway.names("endpoints") == {WEB, DNS}
    assert gateway.get("listeners", "0.0.0.0_30080") == load(f"""
        name: 0.0.0.0_30080
        address: {{socket_address: {{address: 0.0.0.0, port_value: 30080}}}}
        filter_chains:
        - filters:
          - name: envoy.filters.network.tcp_proxy
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
              stat_prefix: {WEB}
              cluster: {WEB}
        traffic_direction: INBOUND
        """)
    udp = gateway.get("listeners", "udp_0.0.0.0_30053")
    assert udp["address"]["socket_address"]["protocol"] == "UDP"
    assert udp["listener_filters"][0]["name"] == "envoy.filters.udp_listener.udp_proxy"
    assert gateway.names("listeners") == {"0.0.0.0_30080", "udp_0.0.0.0_30053"}

    gateway.told()
    mesh.apply(SLICE.replace("10.0.0.20", "10.0.0.21"))
    assert gateway.told() == {"endpoints": {WEB, DNS}}
    mesh.delete("Service", "web")
    assert gateway.names("listeners") == gateway.names("clusters") == gateway.names("endpoints") == set()


def test_a_sidecar_and_the_gateway_share_what_is_equal(mesh: Any) -> None:
    gateway, sidecar = mesh.node_gateway(), mesh.sidecar()
    mesh.apply(SERVICE + "---" + SLICE)
    for url in ("cluster.v3.Cluster", "endpoint.v3.ClusterLoadAssignment"):
        both = [p.config.resources(f"type.googleapis.com/envoy.config.{url}")[WEB] for p in (gateway, sidecar)]
        assert both[0] is both[1]


def test_a_node_port_has_one_owner(mesh: Any) -> None:
    """The oldest service has it; nothing is lost when one replaces the other in one batch."""
    gateway = mesh.node_gateway()

    def cluster() -> str:
        chain = gateway.get("listeners", "0.0.0.0_30080")["filter_chains"][0]
        return str(chain["filters"][0]["typed_config"]["cluster"])

    mesh.apply(SERVICE.replace("name: web", 'name: web, creationTimestamp: "2024-01-01T00:00:00Z"', 1))
    mesh.apply(SERVICE.replace("name: web", 'name: old, creationTimestamp: "2023-01-01T00:00:00Z"', 1))
    assert cluster() == "outbound|80||old.default.svc.cluster.local"
    mesh.delete("Service", "old")
    assert cluster() == WEB


def test_a_workload_does_not_become_the_nodes_gateway_by_saying_so(mesh: Any) -> None:
    """Where certificates are asked for, theirs is of a pod in the system's namespace."""
    mesh.apply(SERVICE + "---" + SLICE)
    label = {"LABELS": {"pilotfish.dev/gateway": "node"}}

    def connected(namespace: str) -> Any:
        node = ProxyNode(f"router-{namespace}", "router", "10.0.0.8", "gw", namespace, label, "default")
        return mesh.generator.connect(node, lambda _: None)

    theirs, ours = connected("default"), connected("kube-system")
    assert dict(theirs.resources(LISTENER)) == {}
    assert set(ours.resources(LISTENER)) == {"0.0.0.0_30080", "udp_0.0.0.0_30053"}
    theirs.close()
    ours.close()
