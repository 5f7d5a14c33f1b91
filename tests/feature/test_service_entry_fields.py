"""ServiceEntries field by field: protocols, families of addresses, target ports, several hosts, and who is merged."""

from __future__ import annotations

from typing import Any

import pytest


def entry(spec: str, name: str = "ext", namespace: str = "default", metadata: str = "") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2024-01-01T00:00:00Z", {metadata}}}
spec: {{{spec}}}
"""


def at(address: str, protocol: str, port: int = 9000) -> str:
    named = f", protocol: {protocol}" if protocol else ""
    return (
        f"hosts: [x.test], addresses: [{address}], resolution: STATIC, endpoints: [{{address: 10.0.0.1}}],"
        f"ports: [{{number: {port}, name: p{named}}}]"
    )


def sockets(assignment: dict[str, Any]) -> list[tuple[str, int]]:
    return [
        (
            e["endpoint"]["address"]["socket_address"]["address"],
            e["endpoint"]["address"]["socket_address"]["port_value"],
        )
        for group in assignment.get("endpoints", [])
        for e in group["lb_endpoints"]
    ]


def network_filters(listener: dict[str, Any]) -> list[list[str]]:
    chains = [*listener.get("filter_chains", []), *filter(None, [listener.get("default_filter_chain")])]
    return [[f["name"].removeprefix("envoy.filters.network.") for f in chain["filters"]] for chain in chains]


@pytest.mark.parametrize("protocol", ["HTTP", "HTTP2", "GRPC", "GRPC-Web", "http"])
def test_http_of_every_kind_is_on_the_port_of_all_addresses(mesh: Any, protocol: str) -> None:
    proxy = mesh.sidecar()
    mesh.apply(entry(at("192.0.2.1", protocol)))
    assert network_filters(proxy.get("listeners", "0.0.0.0_9000"))[0] == ["http_connection_manager"]
    assert "192.0.2.1_9000" not in proxy.names("listeners")
    options = proxy.get("clusters", "outbound|9000||x.test").get("typed_extension_protocol_options", {})
    explicit = [option["explicit_http_config"] for option in options.values()]
    assert bool(explicit) is (protocol in ("HTTP2", "GRPC", "GRPC-Web"))
    [host] = [h for h in proxy.get("routes", "9000")["virtual_hosts"] if h["name"] == "x.test:9000"]
    assert host["domains"] == ["x.test", "x.test.", "192.0.2.1"]


@pytest.mark.parametrize("protocol", ["TCP", "MySQL", "REDIS", "TLS", "HTTPS"])
def test_bytes_are_passed_on(mesh: Any, protocol: str) -> None:
    """MySQL and Redis are not parsed unless istiod is told to, and their servers may speak first."""
    proxy = mesh.sidecar()
    mesh.apply(entry(at("192.0.2.1", protocol)))
    listener = proxy.get("listeners", "192.0.2.1_9000")
    assert network_filters(listener) == [["tcp_proxy"]]
    assert "listener_filters" not in listener


def test_mongo_is_counted_by_its_protocol(mesh: Any) -> None:
    proxy, server = mesh.sidecar(), mesh.sidecar("server", ip="10.0.0.1")
    mesh.apply(entry(at("192.0.2.1", "MONGO")))
    listener = proxy.get("listeners", "192.0.2.1_9000")
    assert network_filters(listener) == [["mongo_proxy", "tcp_proxy"]]
    assert listener["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] == "outbound|9000||x.test"
    inbound = [c for c in server.get("listeners", "virtualInbound")["filter_chains"] if c["name"] == "0.0.0.0_9000"]
    found = [[f["name"].rpartition(".")[2] for f in c["filters"]] for c in inbound]
    assert found == [["mongo_proxy", "tcp_proxy"]] * 3, "mutual TLS, plaintext, and TLS of the workload's own"


def test_a_port_without_a_protocol_is_looked_at(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(entry(at("192.0.2.1", "")))
    listener = proxy.get("listeners", "192.0.2.1_9000")
    assert network_filters(listener) == [["http_connection_manager"], ["tcp_proxy"]]
    assert [f["name"].rpartition(".")[2] for f in listener["listener_filters"]] == ["http_inspector"]
    assert proxy.get("routes", "x.test:9000")["virtual_hosts"][0]["domains"] == ["*"]


def test_udp_has_no_listener(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(entry(at("192.0.2.1", "UDP")))
    assert not [name for name in proxy.names("listeners") if name.endswith("_9000")]


def test_target_port_where_the_connections_own_address_is_kept(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(
        entry("hosts: [x.test], resolution: NONE, ports: [{number: 80, name: tcp, protocol: TCP, targetPort: 8080}]")
    )
    cluster = proxy.get("clusters", "outbound|80||x.test")
    assert cluster["original_dst_lb_config"] == {"upstream_port_override": 8080}


def test_two_families_of_addresses(mesh: Any) -> None:
    """Each proxy has the listener that its workload can reach, and DNS gives what its clients can use."""
    proxy, ipv6 = mesh.sidecar(), mesh.sidecar("six", ip="2001:db8::9")
    dns = mesh.dns()
    mesh.apply(
        entry(
            "hosts: [x.test], addresses: [192.0.2.1, '2001:db8::1'], resolution: STATIC,"
            "ports: [{number: 9000, name: tcp, protocol: TCP}], endpoints: [{address: 10.0.0.1}]"
        )
    )
    assert "192.0.2.1_9000" in proxy.names("listeners")
    assert "2001:db8::1_9000" not in proxy.names("listeners")
    assert "2001:db8::1_9000" in ipv6.names("listeners")
    assert dns.get("names", "*/x.test")["table"]["x.test"]["ips"] == ["192.0.2.1"]


def test_endpoints_of_two_families(mesh: Any) -> None:
    """Each proxy has those that it can reach; where it can reach none, those that there are."""
    proxy, ipv6 = mesh.sidecar(), mesh.sidecar("six", ip="2001:db8::9")
    ports = "ports: [{number: 80, name: http, protocol: HTTP}]"
    both = "{address: 10.0.0.1}, {address: '2001:db8::2'}, {address: 'unix:///s'}"
    mesh.apply(entry(f"hosts: [x.test], resolution: STATIC, endpoints: [{both}], {ports}"))
    for found, own in ((proxy, "10.0.0.1"), (ipv6, "2001:db8::2")):
        addresses = [
            e["endpoint"]["address"]
            for group in found.get("endpoints", "outbound|80||x.test")["endpoints"]
            for e in group["lb_endpoints"]
        ]
        assert addresses == [{"socket_address": {"address": own, "port_value": 80}}, {"pipe": {"path": "/s"}}]
    mesh.apply(entry(f"hosts: [x.test], resolution: STATIC, endpoints: [{{address: '2001:db8::2'}}], {ports}"))
    assert sockets(proxy.get("endpoints", "outbound|80||x.test")) == [("2001:db8::2", 80)]
    mesh.apply(
        entry(f"hosts: [x.test], resolution: DNS, endpoints: [{{address: a.test}}, {{address: 10.0.0.1}}], {ports}")
    )
    assert sockets(proxy.get("clusters", "outbound|80||x.test")["load_assignment"]) == [
        ("10.0.0.1", 80),
        ("a.test", 80),
    ]


def test_several_hosts_share_ports_addresses_and_endpoints(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(
        entry(
            "hosts: [a.test, '*.b.test'], addresses: [192.0.2.1], resolution: STATIC,"
            "ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1, ports: {http: 8080}}]"
        )
    )
    hosts = {h["name"]: h["domains"] for h in proxy.get("routes", "80")["virtual_hosts"]}
    assert hosts["a.test:80"] == ["a.test", "a.test."]
    assert hosts["*.b.test:80"] == ["*.b.test", "192.0.2.1"], "an address is of one: the oldest, or the first by name"
    for name in ("a.test", "*.b.test"):
        assert sockets(proxy.get("endpoints", f"outbound|80||{name}")) == [("10.0.0.1", 8080)]


def test_a_wildcard_whose_requests_go_where_they_were_sent(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(entry("hosts: ['*.b.test'], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]"))
    assert proxy.get("clusters", "outbound|80||*.b.test")["type"] == "ORIGINAL_DST"
    [host] = [h for h in proxy.get("routes", "80")["virtual_hosts"] if h["name"] == "*.b.test:80"]
    assert host["domains"] == ["*.b.test"]


ONE = "hosts: [x.test], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.0.0.1}]"
TWO = (
    "hosts: [x.test], resolution: STATIC, ports: [{number: 80, name: http}, {number: 81, name: more}],"
    "endpoints: [{address: 10.0.0.2}]"
)


@pytest.mark.parametrize(
    ("spec", "metadata"),
    [(TWO + ", exportTo: ['*']", ""), (TWO, "labels: {team: b}")],
    ids=["exportTo", "labels"],
)
def test_entries_that_differ_lend_their_endpoints_alone(mesh: Any, spec: str, metadata: str) -> None:
    """As in Istio: ports are those of the oldest, and of entries that are otherwise like it."""
    proxy = mesh.sidecar()
    mesh.apply(entry(ONE, "one") + entry(spec, "two", metadata=metadata))
    assert sockets(proxy.get("endpoints", "outbound|80||x.test")) == [("10.0.0.1", 80), ("10.0.0.2", 80)]
    assert "outbound|81||x.test" not in proxy.names("clusters")
    mesh.apply(entry(TWO, "two"))
    assert "outbound|81||x.test" in proxy.names("clusters")


def test_of_two_names_to_look_up_in_turn_the_oldest_is(mesh: Any) -> None:
    proxy = mesh.sidecar()
    spec = "hosts: [x.test], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http}], endpoints: [{address: A}]"
    mesh.apply(entry(spec.replace("A}", "a.test}"), "one") + entry(spec.replace("A}", "b.test}"), "two"))
    found = proxy.get("clusters", "outbound|80||x.test")["load_assignment"]
    assert sockets(found) == [("a.test", 80)]


def test_an_entry_adds_endpoints_to_a_kubernetes_service(mesh: Any) -> None:
    proxy = mesh.sidecar()
    host = "web.default.svc.cluster.local"
    service = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}]}
"""
    ports = "ports: [{number: 80, name: http}, {number: 81, name: more}]"
    mesh.apply(service + entry(f"hosts: [{host}], resolution: STATIC, {ports}, endpoints: [{{address: 10.0.0.7}}]"))
    assert sockets(proxy.get("endpoints", f"outbound|80||{host}")) == [("10.0.0.7", 80)]
    assert f"outbound|81||{host}" not in proxy.names("clusters")


def subsets(**labels: str) -> str:
    listed = ", ".join(f"{{name: {name}, labels: {{{label}}}}}" for name, label in labels.items())
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: x, namespace: default}}
spec: {{host: x.test, subsets: [{listed}]}}
"""


def test_labels_of_endpoints_are_for_subsets(mesh: Any) -> None:
    proxy = mesh.sidecar()
    one, two = "{address: 10.0.0.1, labels: {version: v1}}", "{address: 10.0.0.2, labels: {version: v2}}"
    ports = "ports: [{number: 80, name: http, protocol: HTTP}]"
    mesh.apply(entry(f"hosts: [x.test], resolution: STATIC, endpoints: [{one}, {two}], {ports}"))
    mesh.apply(subsets(new="version: v2"))
    assert sockets(proxy.get("endpoints", "outbound|80|new|x.test")) == [("10.0.0.2", 80)]


def test_network_and_locality_of_endpoints_are_labels_too(mesh: Any) -> None:
    """As Istio has them; no network has a gateway, so that all are reached as they are."""
    proxy = mesh.sidecar()
    endpoints = "{address: 10.0.0.1, network: vms, locality: eu/a/1}, {address: 10.0.0.2, locality: us}, {network: far}"
    ports = "ports: [{number: 80, name: http, protocol: HTTP}]"
    mesh.apply(entry(f"hosts: [x.test], resolution: STATIC, endpoints: [{endpoints}], {ports}"))
    mesh.apply(
        subsets(
            vms="topology.istio.io/network: vms",
            eu="topology.kubernetes.io/region: eu",
            us="topology.kubernetes.io/region: us",
            zone="topology.kubernetes.io/zone: a",
            part="topology.istio.io/subzone: '1'",
            far="topology.istio.io/network: far",
        )
    )
    found = {
        name: [address for address, _ in sockets(proxy.get("endpoints", f"outbound|80|{name}|x.test"))]
        for name in ("vms", "eu", "us", "zone", "part", "far")
    }
    one = ["10.0.0.1"]
    assert found == {"vms": one, "eu": one, "us": ["10.0.0.2"], "zone": one, "part": one, "far": []}
    assert len(sockets(proxy.get("endpoints", "outbound|80||x.test"))) == 2, "without an address nothing is reached"
