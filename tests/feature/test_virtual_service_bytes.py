"""TCP and TLS routes of VirtualServices for sidecars: which connections they mean, and where these go."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.protos import NAME_TABLE_TYPE

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: 10.1.0.5
  selector: {app: db}
  ports: [{name: tcp, port: 5432}, {name: tls, port: 443}, {name: http, port: 80}, {name: what, port: 81}]
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.1.0.6, selector: {app: other}, ports: [{name: tcp, port: 9000}]}
"""
DB, OTHER = "outbound|5432||db.default.svc.cluster.local", "outbound|9000||other.default.svc.cluster.local"
DB_TLS, DB_HTTP, DB_WHAT = (DB.replace("5432", port) for port in ("443", "80", "81"))
TO_OTHER = "route: [{destination: {host: other}}]"
NAMED = "db.default.svc.cluster.local"


def virtual_service(spec: str, host: str = "db", name: str = "db", year: int = 2024) -> str:
    text: dict[str, Any] = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
    metadata = {"name": name, "creationTimestamp": f"{year}-01-01T00:00:00Z"}
    return yaml.safe_dump(text | {"metadata": metadata, "spec": {"hosts": [host], **yaml.safe_load(spec)}})


def chains(proxy: Any, name: str) -> list[tuple[dict[str, Any], Any]]:
    """What each chain of bytes of a listener matches, and its cluster or clusters with their weights; {} matches the
    rest. Without the way through for what is for nobody.
    """
    listener = proxy.get("listeners", name)
    found = []
    for chain in (*listener.get("filter_chains", ()), listener.get("default_filter_chain", {})):
        for each in chain.get("filters", ()):
            config = each["typed_config"]
            if each["name"].endswith("tcp_proxy") and chain.get("name") != "PassthroughFilterChain":
                weighted = config.get("weighted_clusters", {}).get("clusters", ())
                to = {to["name"]: to["weight"] for to in weighted} or config["cluster"]
                found.append((chain.get("filter_chain_match", {}), to))
    return found


def test_connections_go_where_a_tcp_route_sends_them(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES)
    assert chains(client, "10.1.0.5_5432") == [({}, DB)]
    client.told()
    mesh.apply(virtual_service(f"tcp: [{{{TO_OTHER}}}]"))
    assert client.told() == {"listeners": {"10.1.0.5_5432", "10.1.0.5_81"}}
    assert chains(client, "10.1.0.5_5432") == [({}, OTHER)]
    assert chains(client, "10.1.0.5_81") == [({}, OTHER)], "what is not HTTP of a port that may be anything"
    assert chains(client, "10.1.0.5_443") == [({}, DB_TLS)], "TLS has routes of its own"
    (http,) = (h for h in client.get("routes", "80")["virtual_hosts"] if "db" in h["domains"])
    assert http["routes"][0]["route"]["cluster"] == DB_HTTP
    mesh.delete("VirtualService", "db")
    assert chains(client, "10.1.0.5_5432") == [({}, DB)]


def test_connections_are_shared_out_by_weight(mesh: Any) -> None:
    client = mesh.sidecar()
    to = """tcp: [{route: [
      {destination: {host: db}, weight: 90},
      {destination: {host: other}, weight: 10},
      {destination: {host: nobody.test}, weight: 0}]}]"""
    mesh.apply(SERVICES + "---\n" + virtual_service(to))
    assert chains(client, "10.1.0.5_5432") == [({}, {DB: 90, OTHER: 10})]


@pytest.mark.parametrize(
    ("match", "routed"),
    [
        ("{port: 5432}", True),
        ("{port: 81}", False),
        ("{gateways: [mesh]}", True),
        ("{gateways: [some]}", False),
        ("{sourceLabels: {tier: edge}}", True),
        ("{sourceLabels: {tier: inner}}", False),
        ("{sourceNamespace: default}", True),
        ("{sourceNamespace: elsewhere}", False),
    ],
)
def test_whom_a_tcp_route_is_for(mesh: Any, match: str, routed: bool) -> None:
    client = mesh.sidecar(tier="edge")
    mesh.apply(SERVICES + "---\n" + virtual_service(f"tcp: [{{match: [{match}], {TO_OTHER}}}]"))
    assert chains(client, "10.1.0.5_5432") == [({}, OTHER if routed else DB)]


def test_subnets_of_a_host_with_a_range(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wide}
spec:
  hosts: [wide.test]
  addresses: [192.0.2.0/24]
  ports: [{number: 7000, name: tcp, protocol: TCP}]
  resolution: NONE
""")
    rest = {"prefix_ranges": [{"address_prefix": "192.0.2.0", "prefix_len": 24}]}
    half = {"prefix_ranges": [{"address_prefix": "192.0.2.128", "prefix_len": 25}]}
    wide = "outbound|7000||wide.test"
    assert chains(client, "0.0.0.0_7000") == [(rest, wide)]
    match = "match: [{destinationSubnets: [192.0.2.200/25, 'fd00::/8', 192.0.2.128/25]}]"
    mesh.apply(virtual_service(f"tcp: [{{{match}, {TO_OTHER}}}]", "wide.test"))
    assert chains(client, "0.0.0.0_7000") == [(rest, wide), (half, OTHER)]
    mesh.apply(virtual_service(f"tcp: [{{{match}, {TO_OTHER}}}, {{{TO_OTHER}}}]", "wide.test"))
    assert chains(client, "0.0.0.0_7000") == [(rest, OTHER), (half, OTHER)]
    mesh.apply(virtual_service(f"tcp: [{{match: [{{destinationSubnets: ['fd00::/8']}}], {TO_OTHER}}}]", "wide.test"))
    assert chains(client, "0.0.0.0_7000") == [(rest, wide)]


@pytest.mark.parametrize(
    ("match", "routed"),
    [
        ("gateways: [mesh]", True),
        ("gateways: [some]", False),
        ("sourceLabels: {tier: edge}", True),
        ("sourceLabels: {tier: inner}", False),
        ("sourceNamespace: default", True),
        ("sourceNamespace: elsewhere", False),
        ("destinationSubnets: ['fd00::/8']", False),
    ],
)
def test_whom_a_tls_route_is_for(mesh: Any, match: str, routed: bool) -> None:
    client = mesh.sidecar(tier="edge")
    mesh.apply(SERVICES + "---\n" + virtual_service(f"tls: [{{match: [{{sniHosts: [x.test], {match}}}], {TO_OTHER}}}]"))
    assert chains(client, "10.1.0.5_443") == [({"server_names": ["x.test"]}, OTHER) if routed else ({}, DB_TLS)]


def test_destinations_of_a_tls_route(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(SERVICES)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec: {host: db, subsets: [{name: v1, labels: {version: v1}}]}
""")
    match = "{sniHosts: [x.test], destinationSubnets: [10.1.0.0/16]}"
    to = "[{destination: {host: db, subset: v1}, weight: 3}, {destination: {host: other}, weight: 1}]"
    mesh.apply(virtual_service(f"{{tls: [{{match: [{match}], route: {to}}}], tcp: [{{route: {to}}}]}}"))
    ranges = [{"address_prefix": "10.1.0.0", "prefix_len": 16}]
    expected = {DB_TLS.replace("||", "|v1|"): 3, OTHER: 1}
    assert chains(client, "10.1.0.5_443") == [({"prefix_ranges": ranges, "server_names": ["x.test"]}, expected)]
    assert chains(client, "10.1.0.5_5432") == [({}, {DB.replace("||", "|v1|"): 3, OTHER: 1})]


def test_tls_connections_go_where_their_server_name_says(mesh: Any) -> None:
    client = mesh.sidecar()
    routes = f"""tls:
    - {{match: [{{sniHosts: [A.db.test, b.db.test]}}], {TO_OTHER}}}
    - {{match: [{{sniHosts: ["*.db.test"]}}], route: [{{destination: {{host: db}}}}]}}
    - {{match: [{{port: 5432, sniHosts: [c.db.test]}}], {TO_OTHER}}}"""
    mesh.apply(SERVICES + "---\n" + virtual_service(routes))
    assert chains(client, "10.1.0.5_443") == [
        ({"server_names": ["*.db.test"]}, DB_TLS),
        ({"server_names": ["a.db.test", "b.db.test"]}, OTHER),
    ]
    inspected = client.get("listeners", "10.1.0.5_443")["listener_filters"]
    assert [each["name"] for each in inspected] == ["envoy.filters.listener.tls_inspector"]
    assert chains(client, "10.1.0.5_5432") == [({}, DB)]


def test_server_names_that_several_hosts_ask_for_are_the_oldest_ones(mesh: Any) -> None:
    """Envoy refuses a listener in which a name stands twice."""
    client = mesh.sidecar()
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}, creationTimestamp: "2024-01-0{1}T00:00:00Z"}}
spec: {{hosts: [{0}.test], ports: [{{number: 443, name: tls, protocol: TLS}}], resolution: NONE}}
"""
    mesh.apply(entry.format("a", 1) + "---" + entry.format("b", 2))
    mesh.apply(SERVICES)
    both = f"tls: [{{match: [{{sniHosts: [a.test, b.test]}}], {TO_OTHER}}}]"
    mesh.apply(virtual_service(both, "b.test"))
    assert chains(client, "0.0.0.0_443") == [
        ({"server_names": ["a.test"]}, "outbound|443||a.test"),
        ({"server_names": ["b.test"]}, OTHER),
    ]


def test_a_sidecar_on_demand_has_the_clusters_to_which_connections_go(mesh: Any) -> None:
    client = mesh.sidecar(metadata={"DNS_CAPTURE": "true"})
    mesh.apply(SERVICES + "---\n" + virtual_service(f"tcp: [{{{TO_OTHER}}}]"))
    assert OTHER not in client.names("clusters")
    mesh.dns().config.asked(NAME_TABLE_TYPE, [demand_name(Demand("10.0.0.9", NAMED))], (), ())
    assert {DB, OTHER} <= client.names("clusters")
    assert chains(client, "10.1.0.5_5432") == [({}, OTHER)]


@pytest.mark.parametrize(
    "routes",
    [
        f"tls: [{{match: [{{sniHosts: [db.test]}}], {TO_OTHER}}}]",
        "tcp: [{route: [{destination: {host: db}, weight: 1}, {destination: {host: other}, weight: 1}]}]",
    ],
)
def test_a_sidecar_on_demand_always_has_hosts_of_which_the_address_is_not_all(mesh: Any, routes: str) -> None:
    """To an address that is new to the proxy connections go at once, and to one cluster."""
    client = mesh.sidecar(metadata={"DNS_CAPTURE": "true"})
    mesh.apply(SERVICES + "---\n" + virtual_service(routes))
    assert OTHER in client.names("clusters")
    assert "10.1.0.5_443" in client.names("listeners")


def test_routes_of_several_for_one_host_come_together(mesh: Any) -> None:
    """The oldest first; what one takes altogether no other gets."""
    client = mesh.sidecar()
    to_self = "route: [{destination: {host: db}}]"
    inner = virtual_service(f"tcp: [{{match: [{{port: 81}}], {TO_OTHER}}}]", name="young", year=2024)
    mesh.apply(SERVICES + "---\n" + inner)
    mesh.apply(virtual_service(f"tcp: [{{match: [{{port: 5432}}], {TO_OTHER}}}]", name="old", year=2020))
    assert chains(client, "10.1.0.5_81") == [({}, OTHER)]
    assert chains(client, "10.1.0.5_5432") == [({}, OTHER)]
    mesh.apply(virtual_service(f"tcp: [{{{to_self}}}]", name="oldest", year=2019))
    assert chains(client, "10.1.0.5_81") == [({}, DB_WHAT)]
    mesh.delete("VirtualService", "oldest")
    mesh.delete("VirtualService", "old")
    assert chains(client, "10.1.0.5_81") == [({}, OTHER)]
    assert chains(client, "10.1.0.5_5432") == [({}, DB)]


def test_server_names_of_several_for_one_host(mesh: Any) -> None:
    client = mesh.sidecar()
    sni = "tls: [{match: [{sniHosts: [%s]}], route: [{destination: {host: other, port: {number: %d}}}]}]"
    mesh.apply(SERVICES + "---\n" + virtual_service(sni % ("a.test, b.test", 1), name="a", year=2020))
    mesh.apply(virtual_service(sni % ("a.test, b.test", 2), name="same", year=2021))
    mesh.apply(virtual_service(sni % ("c.test", 3), name="c", year=2022))
    assert chains(client, "10.1.0.5_443") == [
        ({"server_names": ["a.test", "b.test"]}, OTHER.replace("9000", "1")),
        ({"server_names": ["c.test"]}, OTHER.replace("9000", "3")),
    ]


def test_routes_of_a_host_go_before_those_of_a_wildcard(mesh: Any) -> None:
    client = mesh.sidecar()
    wild = virtual_service(f"tcp: [{{{TO_OTHER}}}]", "*.default.svc.cluster.local", "wild", 2019)
    own = virtual_service("tcp: [{match: [{port: 5432}], route: [{destination: {host: db}}]}]", year=2024)
    mesh.apply(SERVICES + "---\n" + wild + "---\n" + own)
    assert chains(client, "10.1.0.5_5432") == [({}, DB)]
    assert chains(client, "10.1.0.5_81") == [({}, OTHER)]


def test_requests_have_the_routes_of_the_oldest_that_has_any(mesh: Any) -> None:
    """Of a less specific host none."""
    client = mesh.sidecar()
    mesh.apply(SERVICES + "---\n" + virtual_service(f"tcp: [{{{TO_OTHER}}}]", name="bytes", year=2019))
    mesh.apply(virtual_service("http: [{directResponse: {status: 200}}]", "*.svc.cluster.local", "wild", 2018))

    def answer(port: str) -> Any:
        (host,) = (h for h in client.get("routes", port)["virtual_hosts"] if "db" in h["domains"])
        return [route.get("direct_response", {}).get("status") for route in host["routes"]]

    assert answer("80") == [None]
    mesh.apply(virtual_service("http: [{directResponse: {status: 202}}]", name="young", year=2022))
    mesh.apply(virtual_service("http: [{match: [{port: 99}], directResponse: {status: 201}}]", name="old", year=2020))
    assert answer("80") == [202]
    mesh.apply(virtual_service("http: [{match: [{port: 80}], directResponse: {status: 201}}]", name="old", year=2020))
    assert answer("80") == [201]
