"""ServiceEntries of the other resolutions and shapes."""

from __future__ import annotations

from typing import Any


def entry(spec: str, name: str = "ext", namespace: str = "default", created: str = "", status: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created or "2024-01-01T00:00:00Z"}"}}
spec: {{{spec}}}
{status}
"""


def targets(assignment: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Address, port and weight of each endpoint."""
    return [
        (
            e["endpoint"]["address"]["socket_address"]["address"],
            e["endpoint"]["address"]["socket_address"]["port_value"],
            e["load_balancing_weight"],
        )
        for group in assignment.get("endpoints", [])
        for e in group["lb_endpoints"]
    ]


def test_dns(mesh: Any, load: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(entry("hosts: [api.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS"))
    cluster = proxy.get("clusters", "outbound|80||api.test")
    assert cluster["cluster_type"] == load("""
        name: envoy.clusters.dns
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
          dns_refresh_rate: 60s
          respect_dns_ttl: true
          dns_lookup_family: V4_ONLY
        """)
    assert targets(cluster["load_assignment"]) == [("api.test", 80, 1)]
    assert proxy.names("endpoints") == set()


def test_dns_round_robin_with_endpoints(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(
        entry(
            "hosts: [api.test], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http, targetPort: 8080}],"
            "endpoints: [{address: a.test, weight: 3, ports: {http: 9090}}, {address: b.test}]"
        )
    )
    cluster = proxy.get("clusters", "outbound|80||api.test")
    assert cluster["cluster_type"]["typed_config"]["all_addresses_in_single_endpoint"] is True
    assert targets(cluster["load_assignment"]) == [("a.test", 9090, 3)], "one name is looked up"


def test_none_of_tls(mesh: Any) -> None:
    """Any address: the connection's server name says whose it is."""
    proxy = mesh.sidecar()
    mesh.apply(entry("hosts: ['*.Wild.test'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE"))
    assert proxy.get("clusters", "outbound|443||*.Wild.test")["type"] == "ORIGINAL_DST"
    listener = proxy.get("listeners", "0.0.0.0_443")
    assert [f["name"] for f in listener["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]
    assert [c["filter_chain_match"] for c in listener["filter_chains"]] == [{"server_names": ["*.wild.test"]}]
    assert listener["default_filter_chain"]["name"] == "PassthroughFilterChain"


def test_addresses_and_ranges(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(
        entry(
            "hosts: [db.test], addresses: [192.0.2.1, 198.51.100.0/24, 192.0.2.7/32, '2001:db8::1'], resolution: NONE,"
            "ports: [{number: 9000, name: tcp, protocol: TCP}]"
        )
    )
    own = proxy.names("listeners") - {"virtualOutbound", "virtualInbound"}
    assert own == {"192.0.2.1_9000", "192.0.2.7_9000", "0.0.0.0_9000"}, "and none for an address it cannot reach"
    ranges = proxy.get("listeners", "0.0.0.0_9000")["filter_chains"][0]["filter_chain_match"]["prefix_ranges"]
    assert ranges == [{"address_prefix": "198.51.100.0", "prefix_len": 24}]


def test_localities_and_weights(mesh: Any, load: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(
        entry(
            "hosts: [db.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}],"
            "endpoints: [{address: 10.0.0.2, locality: eu/a, weight: 2}, {address: 10.0.0.1, locality: eu/a},"
            "{address: 10.0.0.3}]"
        )
    )
    assert proxy.get("endpoints", "outbound|80||db.test") == load("""
        cluster_name: outbound|80||db.test
        endpoints:
        - locality: {}
          lb_endpoints:
          - {endpoint: {address: {socket_address: {address: 10.0.0.3, port_value: 80}}}, load_balancing_weight: 1}
          load_balancing_weight: 1
        - locality: {region: eu, zone: a}
          lb_endpoints:
          - {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}, load_balancing_weight: 1}
          - {endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}, load_balancing_weight: 2}
          load_balancing_weight: 3
        """)


def test_unix_socket(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(
        entry(
            "hosts: [s.test], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 'unix:///s'}]"
        )
    )
    found = proxy.get("endpoints", "outbound|80||s.test")["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert found == {"pipe": {"path": "/s"}}


def test_workload_selector(mesh: Any) -> None:
    proxy = mesh.sidecar()
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: db-1, labels: {app: db}}
status: {podIP: 10.0.0.30, conditions: [{type: Ready, status: "True"}]}
"""
    mesh.apply(
        entry(
            "hosts: [db.test], resolution: STATIC, ports: [{number: 80, name: tcp, protocol: TCP, targetPort: 5432}],"
            "workloadSelector: {labels: {app: db}}"
        )
    )
    name = "outbound|80||db.test"
    assert targets(proxy.get("endpoints", name)) == []
    mesh.apply(pod)
    assert targets(proxy.get("endpoints", name)) == [("10.0.0.30", 5432, 1)]
    proxy.told()
    mesh.apply(pod.replace('"True"', '"False"'))
    assert proxy.told() == {"endpoints": {name}}
    assert targets(proxy.get("endpoints", name)) == []
    mesh.apply(pod.replace("app: db", "app: cache"))
    mesh.apply(pod)
    assert targets(proxy.get("endpoints", name)) == [("10.0.0.30", 5432, 1)]
    mesh.delete("Pod", "db-1")
    assert targets(proxy.get("endpoints", name)) == []


def test_two_entries_for_one_host(mesh: Any) -> None:
    """Ports and endpoints of both count."""
    proxy = mesh.sidecar()
    one = "hosts: [x.test], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.0.0.1}]"
    two = "hosts: [x.test], resolution: STATIC, ports: [{number: 80, name: http}, {number: 81, name: http-b}],"
    mesh.apply(entry(one, "one") + "---" + entry(two + "endpoints: [{address: 10.0.0.2}]", "two"))
    assert targets(proxy.get("endpoints", "outbound|80||x.test")) == [("10.0.0.1", 80, 1), ("10.0.0.2", 80, 1)]
    assert targets(proxy.get("endpoints", "outbound|81||x.test")) == [("10.0.0.2", 81, 1)]
    mesh.delete("ServiceEntry", "two")
    assert targets(proxy.get("endpoints", "outbound|80||x.test")) == [("10.0.0.1", 80, 1)]
    assert "outbound|81||x.test" not in proxy.names("clusters")


def test_allocated_addresses_belong_to_their_host(mesh: Any) -> None:
    proxy, dns = mesh.looking_up(), mesh.dns()
    status = "status: {addresses: [{value: 240.240.0.1, host: a.test}, {value: 240.240.0.2, host: b.test}]}"
    spec = "hosts: [a.test, b.test], resolution: STATIC, ports: [{number: 9, name: tcp, protocol: TCP}]"
    mesh.apply(entry(spec, status=status))
    clusters = {
        name: proxy.get("listeners", name)["filter_chains"][0]["filters"][0]["typed_config"]["cluster"]
        for name in ("240.240.0.1_9", "240.240.0.2_9")
    }
    assert clusters == {"240.240.0.1_9": "outbound|9||a.test", "240.240.0.2_9": "outbound|9||b.test"}
    assert dns.get("names", "*/b.test")["table"]["b.test"]["ips"] == ["240.240.0.2"]


def test_who_looks_names_up_elsewhere_knows_no_allocated_address(mesh: Any) -> None:
    """TLS is told by its server name there, requests by their host: connections come for what the names really are."""
    proxy, looking_up = mesh.sidecar(), mesh.looking_up("capturing", ip="10.0.0.10")
    ports = "[{number: 443, name: tls, protocol: TLS}, {number: 80, name: http, protocol: HTTP}]"
    status = "status: {addresses: [{value: 240.240.0.1, host: a.test}]}"
    mesh.apply(entry(f"hosts: [a.test], resolution: STATIC, ports: {ports}", status=status))
    [chain] = proxy.get("listeners", "0.0.0.0_443")["filter_chains"]
    assert chain["filter_chain_match"] == {"server_names": ["a.test"]}
    assert chain["filters"][0]["typed_config"]["cluster"] == "outbound|443||a.test"
    assert "240.240.0.1_443" not in proxy.names("listeners")
    assert proxy.get("routes", "80")["virtual_hosts"][0]["domains"] == ["a.test", "a.test."]

    assert "0.0.0.0_443" not in looking_up.names("listeners")
    [chain] = looking_up.get("listeners", "240.240.0.1_443")["filter_chains"]
    assert "filter_chain_match" not in chain
    assert looking_up.get("routes", "80")["virtual_hosts"][0]["domains"] == ["a.test", "a.test.", "240.240.0.1"]
