"""Load assignments: the endpoints of a cluster, by locality."""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from pilotfish.mesh.records import Endpoint, Record
from pilotfish.xds import source
from pilotfish.xds.build import common
from pilotfish.xds.entries import serialise


class AssignmentSpec(Record):
    """The endpoints of one EDS cluster that may get traffic."""

    type_url: ClassVar[str] = source.ENDPOINT

    name: str
    endpoints: tuple[Endpoint, ...]

    def body(self) -> bytes:
        return serialise(load_assignment(self.name, self.endpoints))


def load_assignment(cluster: str, endpoints: tuple[Endpoint, ...]) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoints in a fixed order, a group for each locality with the sum of its weights."""
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster)
    ordered = sorted(endpoints, key=lambda e: (e.locality, e.address, e.port))
    for locality, group in groupby(ordered, key=lambda e: e.locality):
        members = list(group)
        region, _, rest = locality.partition("/")
        zone, _, sub_zone = rest.partition("/")
        # Also where nothing is known of it: gRPC's xDS clients refuse endpoints without a locality.
        found = assignment.endpoints.add(locality=base_pb2.Locality(region=region, zone=zone, sub_zone=sub_zone))
        found.load_balancing_weight.value = sum(e.weight for e in members)
        found.lb_endpoints.extend(_endpoint(e) for e in members)
    return assignment


def _endpoint(endpoint: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    found = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=common.endpoint_address(endpoint.address, endpoint.port))
    )
    found.load_balancing_weight.value = endpoint.weight
    return found
