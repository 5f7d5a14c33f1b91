"""Listeners and clusters for gRPC's own xDS client, which refuses a resource that it understands only in part.

What it takes: https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md and the proposals named there. Routes
and load assignments are built as Envoy's are.
"""

from __future__ import annotations

from typing import ClassVar

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from pilotfish.mesh.records import Endpoint, Record
from pilotfish.xds import source
from pilotfish.xds.build import common, filters
from pilotfish.xds.build.endpoints import load_assignment
from pilotfish.xds.entries import serialise


class ApiListenerSpec(Record):
    """What a channel to `xds:///<name>` asks for first; it leads to a route configuration."""

    type_url: ClassVar[str] = source.LISTENER

    name: str
    route: str

    def body(self) -> bytes:
        return serialise(api_listener(self))


class ProxylessClusterSpec(Record):
    """A cluster that takes its endpoints from its own stream, or looks up the one name that `lookup` holds."""

    type_url: ClassVar[str] = source.CLUSTER

    name: str
    lookup: Endpoint | None = None

    def body(self) -> bytes:
        return serialise(cluster(self))


def api_listener(spec: ApiListenerSpec) -> listener_pb2.Listener:
    """A connection manager without a connection: routes over RDS and the router, with which the filters have to end."""
    manager = hcm_pb2.HttpConnectionManager(http_filters=[filters.router()])
    manager.rds.route_config_name = spec.route
    manager.rds.config_source.CopyFrom(common.from_ads())
    listener = listener_pb2.Listener(name=spec.name)
    listener.api_listener.api_listener.CopyFrom(common.any_of(manager))
    return listener


def cluster(spec: ProxylessClusterSpec) -> cluster_pb2.Cluster:
    """Round robin, since LEAST_REQUEST is refused by most releases (gRPC proposal A48)."""
    found = cluster_pb2.Cluster(name=spec.name, lb_policy=cluster_pb2.Cluster.ROUND_ROBIN)
    if spec.lookup is None:
        found.type = cluster_pb2.Cluster.EDS
        found.eds_cluster_config.service_name = spec.name
        found.eds_cluster_config.eds_config.CopyFrom(common.from_ads())
    else:
        found.type = cluster_pb2.Cluster.LOGICAL_DNS
        found.load_assignment.CopyFrom(load_assignment(spec.name, (spec.lookup,)))
    return found
