"""Load assignments: the endpoints of a cluster, by locality."""

from __future__ import annotations

import functools
from itertools import groupby
from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from pilotfish.mesh.records import Endpoint, Labels, Record
from pilotfish.xds import source
from pilotfish.xds.build import common, names
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
    if endpoint.peer:
        found.metadata.CopyFrom(_metadata(endpoint.peer))
    return found


@functools.lru_cache(maxsize=1024)
def _metadata(peer: Labels) -> base_pb2.Metadata:
    """Whom a proxy talks to at an endpoint, for its metrics; under "istio" as Istio says it."""
    fields = dict(peer)
    found = base_pb2.Metadata()
    found.filter_metadata[names.WORKLOAD_METADATA].update(fields)
    summary = ";".join(fields[name] for name in ("workload", "namespace", "service", "revision", "cluster"))
    found.filter_metadata["istio"].update({"workload": summary})
    return found
