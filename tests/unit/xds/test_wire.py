from __future__ import annotations

import gc

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from pilotfish.xds.source import CLUSTER, LISTENER, Resource
from pilotfish.xds.wire import delta_response, endpoint_name, sotw_response

RESOURCES = [
    Resource("a", "1", b""),
    Resource("ünïcode|80||", "v2", b"\x0a\x01x" * 100),
    Resource("big", "3", b"z" * 70000),
]


def test_a_delta_response_is_what_protobuf_would_write() -> None:
    message = discovery_pb2.DeltaDiscoveryResponse.FromString(delta_response(LISTENER, "7", RESOURCES, ["gone", "too"]))
    assert (message.type_url, message.nonce) == (LISTENER, "7")
    assert [(r.name, r.version, r.resource.type_url, r.resource.value) for r in message.resources] == [
        (r.name, r.version, LISTENER, r.body) for r in RESOURCES
    ]
    assert list(message.removed_resources) == ["gone", "too"]


def test_a_state_of_the_world_response_is_what_protobuf_would_write() -> None:
    message = discovery_pb2.DiscoveryResponse.FromString(sotw_response(CLUSTER, "v", "8", RESOURCES))
    assert (message.type_url, message.version_info, message.nonce) == (CLUSTER, "v", "8")
    assert [(r.type_url, r.value) for r in message.resources] == [(CLUSTER, r.body) for r in RESOURCES]


def test_equal_resources_of_two_types_keep_their_types() -> None:
    resource = Resource("same", "1", b"")
    for type_url in (CLUSTER, LISTENER):
        message = discovery_pb2.DeltaDiscoveryResponse.FromString(delta_response(type_url, "1", [resource], []))
        assert message.resources[0].resource.type_url == type_url


def test_what_was_made_for_a_resource_goes_with_it() -> None:
    before = _memoised_bytes(b"0123456789abcdef-gone")
    resource = Resource("0123456789abcdef-gone", "1", b"")
    delta_response(LISTENER, "1", [resource], [])
    assert _memoised_bytes(b"0123456789abcdef-gone") == before + 1
    del resource
    gc.collect()
    assert _memoised_bytes(b"0123456789abcdef-gone") == before


def _memoised_bytes(marker: bytes) -> int:
    from pilotfish.xds import wire

    remembered = wire._delta_head.__closure__ or ()
    stores = [cell.cell_contents for cell in remembered if isinstance(cell.cell_contents, dict)]
    return sum(marker in head for store in stores for of_type in store.values() for head in of_type.values())


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        ("type: EDS eds_cluster_config { eds_config { ads {} } }", "c"),
        ('type: EDS eds_cluster_config { eds_config { self {} } service_name: "s" }', "s"),
        ('type: EDS eds_cluster_config { eds_config { path_config_source { path: "/x" } } }', None),
        ("type: STRICT_DNS", None),
    ],
)
def test_clusters_tell_where_their_endpoints_come_from(cluster: str, name: str | None) -> None:
    from google.protobuf import text_format

    body = text_format.Parse(f'name: "c" {cluster}', cluster_pb2.Cluster()).SerializeToString()
    assert endpoint_name(CLUSTER, Resource("c", str(hash(cluster)), body)) == name
    assert endpoint_name(LISTENER, Resource("c", str(hash(cluster)), body)) is None
