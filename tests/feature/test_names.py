"""Name tables of Kubernetes services."""

from __future__ import annotations

from typing import Any


def test_cluster_ip(mesh: Any, load: Any) -> None:
    dns = mesh.dns()
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, clusterIPs: [10.1.0.5, "fd00::5"], ports: [{port: 80}]}
""")
    assert dns.get("names", "*/web.default.svc.cluster.local") == load("""
        table:
          web.default.svc.cluster.local:
            {ips: [10.1.0.5], registry: Kubernetes, shortname: web, namespace: default}
        """)


def test_headless(mesh: Any) -> None:
    dns = mesh.dns()
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{name: tcp, port: 80}]}
""")
    assert dns.names("names") == set()
    mesh.apply("""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
ports: [{name: tcp, port: 80}]
endpoints:
- {addresses: [10.0.0.20], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.0.0.21], hostname: db-1, conditions: {ready: true}}
- {addresses: [10.0.0.22], hostname: db-2, conditions: {ready: false}}
""")
    answers = {name: dns.get("names", name)["table"][name[2:]]["ips"] for name in dns.names("names")}
    host = "db.default.svc.cluster.local"
    assert answers == {
        f"*/{host}": ["10.0.0.20", "10.0.0.21"],
        f"*/db-0.{host}": ["10.0.0.20"],
        f"*/db-1.{host}": ["10.0.0.21"],
    }
    assert dns.get("names", f"*/db-0.{host}")["table"][f"db-0.{host}"]["shortname"] == "db-0.db"
    mesh.delete("EndpointSlice", "db-1")
    assert dns.names("names") == set()


def test_a_service_entry_of_the_other_family_is_known_all_the_same(mesh: Any) -> None:
    """The family that it lacks is NOERROR without an answer, and not NXDOMAIN from somewhere else."""
    dns = mesh.dns()
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: six}
spec: {hosts: [six.test], addresses: ["2001:db8::7"], ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: both}
spec:
  hosts: [both.test]
  addresses: ["2001:db8::8", 192.0.2.8, 198.51.100.0/24]
  ports: [{number: 80, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: range}
spec: {hosts: [range.test], addresses: [198.51.100.0/24], ports: [{number: 80, name: http, protocol: HTTP}]}
""")
    ips = {name: dns.get("names", name)["table"][name[2:]]["ips"] for name in dns.names("names")}
    assert ips == {"*/six.test": ["2001:db8::7"], "*/both.test": ["192.0.2.8"]}
