"""Who sees which host, and which of several hosts a name means."""

from __future__ import annotations

from typing import Any


def entry(name: str, namespace: str, address: str, export: str = "", created: str = "2024-01-01T00:00:00Z") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec:
  hosts: [x.test]
  addresses: [{address}]
  exportTo: [{export}]
  resolution: STATIC
  ports: [{{number: 9, name: tcp, protocol: TCP}}]
  endpoints: [{{address: {address}}}]
"""


def seen(proxy: Any) -> set[str]:
    return {name for name in proxy.names("listeners") if name.endswith("_9")}


def test_a_namespace_prefers_its_own(mesh: Any) -> None:
    a, b, c = (mesh.sidecar(namespace=n, ip=f"10.0.0.{i}") for i, n in enumerate(("a", "b", "c"), 10))
    mesh.apply(entry("x", "a", "192.0.2.1") + "---" + entry("x", "b", "192.0.2.2", created="2024-02-01T00:00:00Z"))
    assert (seen(a), seen(b), seen(c)) == ({"192.0.2.1_9"}, {"192.0.2.2_9"}, {"192.0.2.1_9"})
    mesh.delete("ServiceEntry", "x", "a")
    assert seen(a) == seen(b) == seen(c) == {"192.0.2.2_9"}


def test_export_to(mesh: Any) -> None:
    a, b, c = (mesh.sidecar(namespace=n, ip=f"10.0.0.{i}") for i, n in enumerate(("a", "b", "c"), 10))
    dns = mesh.dns()
    mesh.apply(entry("x", "a", "192.0.2.1", export='"."'))
    assert (seen(a), seen(b), seen(c)) == ({"192.0.2.1_9"}, set(), set())
    assert dns.names("names") == {"a/x.test"}
    mesh.apply(entry("x", "a", "192.0.2.1", export='".", b'))
    assert (seen(a), seen(b), seen(c)) == ({"192.0.2.1_9"}, {"192.0.2.1_9"}, set())
    assert dns.names("names") == {"a/x.test", "b/x.test"}
    mesh.apply(entry("x", "a", "192.0.2.1", export='"~"'))
    assert seen(a) == seen(b) == seen(c) == set()
    assert dns.names("names") == set()
    mesh.apply(entry("x", "a", "192.0.2.1"))
    assert seen(a) == seen(b) == seen(c) == {"192.0.2.1_9"}
    assert dns.names("names") == {"*/x.test"}


def test_names_where_namespaces_differ(mesh: Any) -> None:
    dns = mesh.dns()
    mesh.apply(entry("x", "a", "192.0.2.1") + "---" + entry("x", "b", "192.0.2.2", export='"."'))
    answers = {name: dns.get("names", name)["table"]["x.test"]["ips"] for name in dns.names("names")}
    assert answers == {"*/x.test": ["192.0.2.1"], "b/x.test": ["192.0.2.2"]}


def test_a_domain_is_in_one_virtual_host_only(mesh: Any) -> None:
    """A host's own name goes before another's short name, whoever was first."""
    proxy = mesh.sidecar()
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: web, creationTimestamp: "2020-01-01T00:00:00Z"}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}]}
""")
    assert domains(proxy)["web.default.svc.cluster.local:80"][2:] == [
        "web",
        "web.default.svc",
        "web.default",
        "10.1.0.5",
    ]
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: short, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  hosts: [Web.Default]
  resolution: STATIC
  addresses: [10.1.0.5]
  ports: [{number: 80, name: http, protocol: HTTP}]
""")
    assert domains(proxy)["Web.Default:80"] == ["Web.Default", "Web.Default."]
    assert domains(proxy)["web.default.svc.cluster.local:80"][2:] == ["web", "web.default.svc", "10.1.0.5"]
    mesh.delete("Service", "web")
    assert domains(proxy) == {"Web.Default:80": ["Web.Default", "Web.Default.", "10.1.0.5"], "allow_any": ["*"]}


def domains(proxy: Any) -> dict[str, list[str]]:
    return {host["name"]: host["domains"] for host in proxy.get("routes", "80")["virtual_hosts"]}
