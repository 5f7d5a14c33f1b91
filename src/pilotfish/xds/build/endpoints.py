"""Load assignments: the endpoints of a cluster, by locality."""

from __future__ import annotations

import functools
from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from pilotfish.mesh.locality import Preference, grouped
from pilotfish.mesh.records import Endpoint, Labels, Record
from pilotfish.xds import source
from pilotfish.xds.build import common, names
from pilotfish.xds.entries import serialise

TAKES_MUTUAL_TLS = {"tlsMode": "istio"}
"""What Envoy knows an endpoint by that takes the mesh's mutual TLS; clusters have a socket for those."""


class AssignmentSpec(Record):
    """The endpoints of one EDS cluster that may get traffic, and what the client prefers of them."""

    type_url: ClassVar[str] = source.ENDPOINT

    name: str
    endpoints: tuple[Endpoint, ...]
    preferred: Preference | None = None

    def body(self) -> bytes:
        return serialise(load_assignment(self.name, self.endpoints, self.preferred))


def load_assignment(
    cluster: str, endpoints: tuple[Endpoint, ...], preferred: Preference | None = None
) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoints in a fixed order, by localities and as a client prefers them."""
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster)
    for group in grouped(endpoints, preferred):
        region, _, rest = group.locality.partition("/")
        zone, _, sub_zone = rest.partition("/")
        # Also where nothing is known of it: gRPC's xDS clients refuse endpoints without a locality.
        found = assignment.endpoints.add(locality=base_pb2.Locality(region=region, zone=zone, sub_zone=sub_zone))
        found.priority = group.priority
        found.load_balancing_weight.value = group.weight
        found.lb_endpoints.extend(_endpoint(e) for e in group.endpoints)
    return assignment


def _endpoint(endpoint: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    found = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=common.endpoint_address(endpoint.address, endpoint.port))
    )
    found.load_balancing_weight.value = endpoint.weight
    if endpoint.peer or endpoint.mutual_tls:
        found.metadata.CopyFrom(_metadata(endpoint.peer, endpoint.mutual_tls))
    return found


@functools.lru_cache(maxsize=1024)
def _metadata(peer: Labels, mutual_tls: bool) -> base_pb2.Metadata:
    """Whom a proxy talks to at an endpoint, for its metrics; under "istio" as Istio says it. And how it talks."""
    fields = dict(peer)
    found = base_pb2.Metadata()
    if mutual_tls:
        found.filter_metadata["envoy.transport_socket_match"].update(TAKES_MUTUAL_TLS)
    if not peer:
        return found
    found.filter_metadata[names.WORKLOAD_METADATA].update(fields)
    summary = ";".join(fields[name] for name in ("workload", "namespace", "service", "revision", "cluster"))
    found.filter_metadata["istio"].update({"workload": summary})
    return found
