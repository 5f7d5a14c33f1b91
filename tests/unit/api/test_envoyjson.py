"""What is said of JSON that is no configuration of Envoy, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from pilotfish.api.envoyjson import faults

CLUSTER = "envoy.config.cluster.v3.Cluster"
FILTER = "envoy.config.listener.v3.Filter"
DURATION = "type.googleapis.com/google.protobuf.Duration"
TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def said(value: Any, message: str = CLUSTER) -> dict[str, str]:
    return {fault.path: fault.expected for fault in faults(value, message)}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"name": "a", "connect_timeout": "1.5s", "type": "STATIC", "lbPolicy": "RING_HASH", "eds_cluster_config": None},
        {"per_connection_buffer_limit_bytes": 7, "metadata": {"filter_metadata": {"x": {"anything": [1, None]}}}},
        {"load_assignment": {"cluster_name": "a", "endpoints": [{"lb_endpoints": [{"endpoint": {"hostname": "h"}}]}]}},
        {"transport_socket": {"name": "t", "typed_config": {"@type": TCP_PROXY, "stat_prefix": "a", "cluster": "b"}}},
        {
            "transport_socket": {
                "typed_config": {
                    "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
                    "type_url": "x/y",
                    "value": {"a": 1},
                }
            }
        },
        {"typed_extension_protocol_options": {"x": {"@type": DURATION, "value": "1s"}}},
    ],
)
def test_what_is_a_cluster(value: Any) -> None:
    assert said(value) == {}


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ("a", "", "an object (envoy.config.cluster.v3.Cluster)"),
        ({"name": 7}, "name", "a text"),
        ({"connect_timeout": "soon"}, "connect_timeout", 'a duration such as "1.5s"'),
        ({"respect_dns_ttl": "yes"}, "respect_dns_ttl", "true or false"),
        ({"per_connection_buffer_limit_bytes": -1}, "per_connection_buffer_limit_bytes", "32 bits from 0 on"),
        ({"filters": {}}, "filters", "a list"),
        ({"filters": ["a"]}, "filters[0]", "an object (envoy.config.cluster.v3.Filter)"),
        ({"metadata": {"filter_metadata": {"x": 1}}}, "metadata.filter_metadata[x]", "an object"),
        ({"dns_resolvers": [{"pipe": {}, "socket_address": {}}]}, "dns_resolvers[0].socket_address", "pipe is there"),
        ({"transport_socket": {"typed_config": {"x": 1}}}, "transport_socket.typed_config.@type", "what is packed"),
        ({"typed_extension_protocol_options": {"x": 1}}, "typed_extension_protocol_options[x]", "@type"),
    ],
)
def test_what_is_none(value: Any, path: str, expected: str) -> None:
    found = said(value)
    assert list(found) == [path]
    assert expected in found[path]


def test_every_fault_is_told_also_inside_of_what_is_packed() -> None:
    packed = {
        "@type": TCP_PROXY,
        "stat_prefix": [],
        "idle_timeout": 5,
        "weighted_clusters": {"clusters": [{"wait": 1}]},
    }
    found = said({"name": True, "typed_config": packed}, FILTER)
    assert found.keys() == {
        "name",
        "typed_config.stat_prefix",
        "typed_config.idle_timeout",
        "typed_config.weighted_clusters.clusters[0].wait",
    }
    assert 'did you mean "weight"?' in found["typed_config.weighted_clusters.clusters[0].wait"]


def test_what_another_version_may_know_is_unknown() -> None:
    value = {"conect_timeout": "1s", "type": "STATICAL", "lb_policy": []}
    found = {fault.path: fault for fault in faults(value, CLUSTER)}
    assert {path: fault.unknown for path, fault in found.items()} == {
        "conect_timeout": True,
        "type": True,
        "lb_policy": False,
    }
    assert 'did you mean "connect_timeout"?' in found["conect_timeout"].expected
    assert found["type"].expected.startswith("one of STATIC, STRICT_DNS")


def test_types_that_nobody_knows() -> None:
    for name, hint in (("envoy.filters.v9.Magic", "is not"), ("envoy.api.v2.Cluster", "use those of version 3")):
        found = said({"typed_config": {"@type": f"type.googleapis.com/{name}"}}, FILTER)
        assert hint in found["typed_config.@type"]
    with pytest.raises(LookupError):
        faults({}, "envoy.nothing.v3.Nothing")


def test_depths_that_no_reader_follows() -> None:
    deep: Any = {"any": True}
    for _ in range(2000):
        deep = {"not_match": deep}
    assert said(deep, "envoy.config.common.matcher.v3.MatchPredicate") == {
        "": "envoy.config.common.matcher.v3.MatchPredicate, with fewer levels of nesting"
    }
