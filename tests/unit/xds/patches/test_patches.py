"""Patches of single messages: what is done for each operation on each kind of thing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.mesh.envoy_filters import EnvoyFilters, Patch
from pilotfish.xds.patches.clusters import patch_cluster
from pilotfish.xds.patches.listeners import patch_listener
from pilotfish.xds.patches.routes import means_routes, patch_routes

HTTP = "envoy.filters.network.http_connection_manager"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def patch_of(apply_to: str, operation: str, value: Any = None, match: Any = None) -> Patch:
    given = {"applyTo": apply_to, "match": match or {}, "patch": {"operation": operation, "value": value}}
    spec = {"configPatches": [given]}
    filters = EnvoyFilters("root")
    filters.apply(None, decode(kinds.ENVOY_FILTER, {"metadata": {"name": "f", "namespace": "ns"}, "spec": spec}))
    (found,) = filters.of("ns", (), {})
    return found


def as_dict(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


INSERTING = [
    ("ADD", None, "abn"),
    ("INSERT_FIRST", None, "nab"),
    ("INSERT_AFTER", None, "abn"),
    ("INSERT_BEFORE", None, "nab"),
    ("INSERT_AFTER", "a", "anb"),
    ("INSERT_AFTER", "b", "abn"),
    ("INSERT_BEFORE", "b", "anb"),
    ("INSERT_BEFORE", "missing", "ab"),
    ("REPLACE", "a", "nb"),
    ("REPLACE", None, "ab"),
    ("REMOVE", "a", "b"),
    ("REMOVE", None, "ab"),
]


IN_CHAINS = [(*case[:2], "anb" if case[1:] == (None, "abn") else case[2]) for case in INSERTING]
"""What ends a chain stays at its end."""


def http_listener() -> Any:
    manager = hcm_pb2.HttpConnectionManager(http_filters=[hcm_pb2.HttpFilter(name=name) for name in "ab"])
    listener = listener_pb2.Listener(name="l")
    listener.filter_chains.add(name="c").filters.add(name=HTTP).typed_config.Pack(manager)
    return listener


@pytest.mark.parametrize("operation, beside, expected", IN_CHAINS)
def test_http_filters(operation: str, beside: str | None, expected: str) -> None:
    listener = http_listener()
    wanted = {"name": HTTP, **({"subFilter": {"name": beside}} if beside else {})}
    match = {"listener": {"filterChain": {"filter": wanted}}}
    assert patch_listener(listener, [patch_of("HTTP_FILTER", operation, {"name": "n"}, match)])
    manager = hcm_pb2.HttpConnectionManager.FromString(listener.filter_chains[0].filters[0].typed_config.value)
    assert "".join(found.name for found in manager.http_filters) == expected


@pytest.mark.parametrize("operation, beside, expected", IN_CHAINS)
def test_network_filters(operation: str, beside: str | None, expected: str) -> None:
    listener = listener_pb2.Listener(name="l")
    chain = listener.filter_chains.add(name="c")
    for name in "ab":
        chain.filters.add(name=name)
    match = {"listener": {"filterChain": {"filter": {"name": beside}} if beside else {}}}
    assert patch_listener(listener, [patch_of("NETWORK_FILTER", operation, {"name": "n"}, match)])
    assert "".join(found.name for found in listener.filter_chains[0].filters) == expected


@pytest.mark.parametrize("operation, beside, expected", INSERTING)
def test_listener_filters(operation: str, beside: str | None, expected: str) -> None:
    listener = listener_pb2.Listener(name="l")
    for name in "ab":
        listener.listener_filters.add(name=name)
    match = {"listener": {"listenerFilter": beside} if beside else {}}
    assert patch_listener(listener, [patch_of("LISTENER_FILTER", operation, {"name": "n"}, match)])
    assert "".join(found.name for found in listener.listener_filters) == expected


@pytest.mark.parametrize(
    "operation, beside, expected",
    [
        *((o, b, e) for o, b, e in INSERTING if o not in ("REPLACE", "REMOVE")),
        ("INSERT_FIRST", "b", "nab"),
        ("INSERT_FIRST", "missing", "ab"),
        ("REMOVE", "a", "b"),
        ("REMOVE", None, ""),
        ("REPLACE", "a", "ab"),
    ],
)
def test_routes(operation: str, beside: str | None, expected: str) -> None:
    configuration = route_pb2.RouteConfiguration(name="80")
    host = configuration.virtual_hosts.add(name="h", domains=["h.test"])
    for name in "ab":
        host.routes.add(name=name)
    match = {
        "routeConfiguration": {"vhost": {"domainName": "h.test", **({"route": {"name": beside}} if beside else {})}}
    }
    patch_routes(configuration, [patch_of("HTTP_ROUTE", operation, {"name": "n"}, match)])
    assert "".join(route.name for route in configuration.virtual_hosts[0].routes) == expected


@pytest.mark.parametrize(
    "operation, expected",
    [
        ("MERGE", [("n", ["h.test", "n.test"]), ("other", ["*"])]),
        ("MERGE_AND_REPLACE_LIST", [("n", ["n.test"]), ("other", ["*"])]),
        ("REPLACE", [("n", ["n.test"]), ("other", ["*"])]),
        ("REMOVE", [("other", ["*"])]),
        ("ADD", [("h", ["h.test"]), ("other", ["*"]), ("n", ["n.test"])]),
        ("INSERT_FIRST", [("h", ["h.test"]), ("other", ["*"]), ("n", ["n.test"])]),
    ],
)
def test_virtual_hosts(operation: str, expected: Any) -> None:
    configuration = route_pb2.RouteConfiguration(name="80")
    configuration.virtual_hosts.add(name="h", domains=["h.test"])
    configuration.virtual_hosts.add(name="other", domains=["*"])
    value = {"name": "n", "domains": ["n.test"]}
    match = {"routeConfiguration": {"vhost": {"name": "h"}}}
    patch_routes(configuration, [patch_of("VIRTUAL_HOST", operation, value, match)])
    assert [(host.name, list(host.domains)) for host in configuration.virtual_hosts] == expected


@pytest.mark.parametrize("action, is_meant", [("ANY", True), ("REDIRECT", True), ("ROUTE", False)])
def test_routes_by_what_they_do(action: str, is_meant: bool) -> None:
    configuration = route_pb2.RouteConfiguration(name="80")
    configuration.virtual_hosts.add(name="h").routes.add(name="a").redirect.host_redirect = "x"
    match = {"routeConfiguration": {"vhost": {"route": {"action": action}}}}
    patch_routes(configuration, [patch_of("HTTP_ROUTE", "MERGE", {"name": "n"}, match)])
    assert (configuration.virtual_hosts[0].routes[0].name == "n") is is_meant


@pytest.mark.parametrize(
    "match, name, ports, is_meant",
    [
        ({"portNumber": 80}, "80", None, True),
        ({"portNumber": 81}, "80", None, False),
        ({"portNumber": 8080}, "inbound|8080||", None, True),
        ({"portNumber": 80}, "http.8080", {8080: (80, 81)}, True),
        ({"portNumber": 8080}, "http.8080", {8080: (80, 81)}, False),
        ({"portNumber": 8080}, "http.8080", {}, True),
        ({"gateway": "ns/edge", "portName": "tls"}, "https.443.tls.edge.ns", {}, True),
        ({"gateway": "ns/other"}, "https.443.tls.edge.ns", {}, False),
        ({"gateway": "ns/edge"}, "http.80", {}, False),
    ],
)
def test_route_configurations(match: Any, name: str, ports: Any, is_meant: bool) -> None:
    found = patch_of("ROUTE_CONFIGURATION", "MERGE", {}, {"routeConfiguration": match}).routes
    assert means_routes(found, name, ports) is is_meant


def test_messages_are_merged_lists_grow_and_durations_and_entries_are_replaced() -> None:
    cluster = ParseDict(
        {
            "name": "c",
            "connect_timeout": "1.5s",
            "circuit_breakers": {"thresholds": [{"max_connections": 1}]},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 3}},
            "metadata": {"filter_metadata": {"a": {"x": 1}, "b": {"y": 1}}},
        },
        cluster_pb2.Cluster(),
    )
    value = {
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [{"max_requests": 2}]},
        "upstreamConnectionOptions": {"tcpKeepalive": {"keepaliveInterval": 4}},
        "metadata": {"filter_metadata": {"a": {"z": 1}}},
        "a_field_of_tomorrow": 1,
    }
    patch_cluster(cluster, [patch_of("CLUSTER", "MERGE", value)])
    assert as_dict(cluster) == {
        "name": "c",
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [{"max_connections": 1}, {"max_requests": 2}]},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 3, "keepalive_interval": 4}},
        "metadata": {"filter_metadata": {"a": {"z": 1.0}, "b": {"y": 1.0}}},
    }


def test_transport_sockets_of_one_name_are_merged_inside_and_others_replaced() -> None:
    cluster = cluster_pb2.Cluster(name="c")
    ParseDict({"name": "tls", "typed_config": {"@type": TLS, "sni": "a"}}, cluster.transport_socket)
    renegotiating = {"name": "tls", "typed_config": {"@type": TLS, "allow_renegotiation": True}}
    patch_cluster(cluster, [patch_of("CLUSTER", "MERGE", {"transport_socket": renegotiating})])
    assert as_dict(cluster.transport_socket.typed_config) == {"@type": TLS, "sni": "a", "allow_renegotiation": True}
    other = {"name": "other", "typed_config": {"@type": TLS, "sni": "b"}}
    patch_cluster(cluster, [patch_of("CLUSTER", "MERGE", {"transport_socket": other})])
    assert as_dict(cluster.transport_socket) == other


def test_filters_of_different_types_are_not_merged(caplog: Any) -> None:
    listener = http_listener()
    before = listener.SerializeToString()
    value = {"name": "n", "typed_config": {"@type": TLS, "sni": "a"}}
    match = {"listener": {"filterChain": {"filter": {"name": HTTP}}}}
    assert patch_listener(listener, [patch_of("NETWORK_FILTER", "MERGE", value, match)])
    assert listener.SerializeToString() == before
    assert "EnvoyFilter ns/f" in caplog.text


@pytest.mark.parametrize(
    "match, is_meant",
    [
        ({"name": "c"}, True),
        ({"sni": "a.test"}, True),
        ({"sni": "b.test"}, False),
        ({"transportProtocol": "tls"}, True),
        ({"transportProtocol": "raw_buffer"}, False),
        ({"applicationProtocols": "h2,http/1.1"}, True),
        ({"applicationProtocols": "h2,h3"}, False),
        ({"destinationPort": 8080}, True),
        ({"destinationPort": 80}, False),
    ],
)
def test_chains(match: Any, is_meant: bool) -> None:
    listener = http_listener()
    wanted = {"server_names": ["a.test"], "transport_protocol": "tls", "application_protocols": ["h2", "http/1.1"]}
    ParseDict({**wanted, "destination_port": 8080}, listener.filter_chains[0].filter_chain_match)
    assert patch_listener(listener, [patch_of("FILTER_CHAIN", "REMOVE", None, {"listener": {"filterChain": match}})])
    assert (len(listener.filter_chains) == 0) is is_meant


@pytest.mark.parametrize(
    "match, stays", [({}, False), ({"name": "l"}, False), ({"portNumber": 81}, True), ({"name": "x"}, True)]
)
def test_listeners(match: Any, stays: bool) -> None:
    listener = http_listener()
    listener.address.socket_address.port_value = 80
    assert patch_listener(listener, [patch_of("LISTENER", "REMOVE", None, {"listener": match})]) is stays


def test_the_value_of_a_patch_is_not_changed_by_others() -> None:
    added = patch_of("FILTER_CHAIN", "ADD", {"name": "n", "filters": [{"name": "x"}]})
    value = msgspec.json.decode(added.value)
    for _ in range(2):
        listener = http_listener()
        patch_listener(listener, [added])
        listener.filter_chains[1].name = "changed"
        assert value == {"name": "n", "filters": [{"name": "x"}]}
    assert [chain.name for chain in _patched(added).filter_chains] == ["c", "n"]


def _patched(patch: Patch) -> Any:
    listener = http_listener()
    patch_listener(listener, [patch])
    return listener
