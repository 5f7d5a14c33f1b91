"""ServiceEntries with resolution DYNAMIC_DNS: what a client asks for below a wildcard is looked up."""

from __future__ import annotations

from typing import Any

import pytest

ENTRY = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: default}}
spec: {{hosts: ['*.{domain}'], resolution: DYNAMIC_DNS, ports: [{ports}]}}
{status}
"""
PLAIN = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: plain, namespace: default}
spec:
  hosts: [plain.test]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}]
"""
CACHE = """
name: dynamic_dns
dns_lookup_family: V4_ONLY
"""


def entry(domain: str, ports: str, name: str = "wild", address: str = "") -> str:
    status = f"status: {{addresses: [{{value: {address}, host: '*.{domain}'}}]}}" if address else ""
    return ENTRY.format(name=name, domain=domain, ports=ports, status=status)


def http_filters(listener: dict[str, Any]) -> dict[str, Any]:
    [manager] = [c["filters"][0]["typed_config"] for c in listener["filter_chains"]]
    return {f["name"].rpartition(".")[2]: f["typed_config"] for f in manager["http_filters"]}


def test_http(mesh: Any, load: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(entry("Wild.test", "{number: 80, name: http, protocol: HTTP}"))
    cluster = proxy.get("clusters", "outbound|80||*.Wild.test")
    assert cluster["lb_policy"] == "CLUSTER_PROVIDED"
    assert cluster["cluster_type"] == {
        "name": "envoy.clusters.dynamic_forward_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            "dns_cache_config": {"name": "dynamic_dns", "dns_lookup_family": "V4_ONLY"},
            "allow_insecure_cluster_options": True,
        },
    }
    assert proxy.names("endpoints") == set()
    filters = http_filters(proxy.get("listeners", "0.0.0.0_80"))
    assert list(filters)[-2:] == ["dynamic_forward_proxy", "router"]
    assert filters["dynamic_forward_proxy"]["dns_cache_config"] == load(CACHE)
    hosts = {h["name"]: h["domains"] for h in proxy.get("routes", "80")["virtual_hosts"]}
    assert hosts["*.Wild.test:80"] == ["*.Wild.test"]


def test_a_wildcard_for_all_services_of_a_namespace(mesh: Any) -> None:
    """Its short form would be the name of everything, of which Envoy takes one."""
    proxy = mesh.sidecar()
    mesh.apply(entry("default.svc.cluster.local", "{number: 80, name: http, protocol: HTTP}"))
    [host] = [h for h in proxy.get("routes", "80")["virtual_hosts"] if h["name"] == "*.default.svc.cluster.local:80"]
    assert host["domains"] == ["*.default.svc.cluster.local", "*.default.svc", "*.default"]


def test_a_port_that_others_share(mesh: Any) -> None:
    """Whoever is older: the listener looks names up while one of its hosts needs it (Istio: only if that made it)."""
    proxy = mesh.sidecar()
    mesh.apply(PLAIN)
    assert "dynamic_forward_proxy" not in http_filters(proxy.get("listeners", "0.0.0.0_80"))
    mesh.apply(entry("wild.test", "{number: 80, name: http, protocol: HTTP}"))
    assert "dynamic_forward_proxy" in http_filters(proxy.get("listeners", "0.0.0.0_80"))
    mesh.delete("ServiceEntry", "wild")
    assert "dynamic_forward_proxy" not in http_filters(proxy.get("listeners", "0.0.0.0_80"))


def test_http2_and_grpc(mesh: Any) -> None:
    proxy = mesh.sidecar()
    ports = "{number: 80, name: grpc, protocol: GRPC}, {number: 81, name: h2, protocol: HTTP2}"
    mesh.apply(entry("wild.test", ports))
    for port in (80, 81):
        [options] = proxy.get("clusters", f"outbound|{port}||*.wild.test")["typed_extension_protocol_options"].values()
        assert "http2_protocol_options" in options["explicit_http_config"]


def test_tls(mesh: Any, load: Any) -> None:
    """By the server name; at the address that was allocated, or at any."""
    proxy = mesh.looking_up()
    port = "{number: 443, name: tls, protocol: TLS, targetPort: 8443}"
    mesh.apply(entry("wild.test", port, address="240.240.0.9") + entry("other.test", port, "other"))
    for name, host in (("240.240.0.9_443", "*.wild.test"), ("0.0.0.0_443", "*.other.test")):
        listener = proxy.get("listeners", name)
        [chain] = listener["filter_chains"]
        assert chain["filter_chain_match"] == {"server_names": [host]}
        lookup, tcp = chain["filters"]
        assert lookup["name"] == "envoy.filters.network.sni_dynamic_forward_proxy"
        assert lookup["typed_config"]["dns_cache_config"] == load(CACHE)
        assert lookup["typed_config"]["port_value"] == 8443
        assert tcp["typed_config"]["cluster"] == f"outbound|443||{host}"
        assert listener["default_filter_chain"]["name"] == "PassthroughFilterChain"


def test_its_names_have_the_address_that_was_allocated(mesh: Any) -> None:
    dns = mesh.dns()
    mesh.apply(entry("wild.test", "{number: 80, name: http, protocol: HTTP}", address="240.240.0.9"))
    assert dns.get("names", "*/*.wild.test")["table"]["*.wild.test"]["ips"] == ["240.240.0.9"]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("mode: SIMPLE", {"auto_sni": True, "auto_san_validation": True}),
        ("mode: SIMPLE, sni: x.test, subjectAltNames: [x.test]", {"auto_san_validation": True}),
        ("mode: SIMPLE, insecureSkipVerify: true", {"auto_sni": True}),
    ],
)
def test_a_server_that_a_request_names_must_show_that_name(mesh: Any, tls: str, expected: dict[str, bool]) -> None:
    client = mesh.sidecar()
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec:
  hosts: ["*.wild.test"]
  resolution: DYNAMIC_DNS
  location: MESH_EXTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
""")
    mesh.apply(f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: wild}}
spec: {{host: "*.wild.test", trafficPolicy: {{tls: {{{tls}}}}}}}
""")
    (options,) = client.get("clusters", "outbound|80||*.wild.test")["typed_extension_protocol_options"].values()
    assert options["upstream_http_protocol_options"] == expected
