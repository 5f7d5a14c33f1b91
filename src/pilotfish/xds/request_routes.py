"""Where requests for a host go: what its VirtualServices say, and what holds where they say nothing."""

from __future__ import annotations

from pilotfish.api.networking.destination import Destination
from pilotfish.mesh.gateway_names import MESH_GATEWAY
from pilotfish.mesh.hostnames import resolve
from pilotfish.mesh.policies import Routing
from pilotfish.mesh.records import Service, ServicePort
from pilotfish.mesh.seen import Seen
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.http_routes import HttpRoute
from pilotfish.xds.build.routes import Route
from pilotfish.xds.http_routes import Asker, ClusterOf, http_routes
from pilotfish.xds.upstreams import cluster_name, destination_cluster


def routes_of(seen: Seen, service: Service, port: ServicePort, audience: Audience) -> tuple[Route | HttpRoute, ...]:
    """The routes for requests to a port of a host: where a VirtualService says, else all to the host."""
    return written(seen, port.number, audience) or (
        Route(cluster_name(service, port), retries=audience.settings.retries),
    )


def written(seen: Seen, port: int, audience: Audience) -> tuple[HttpRoute, ...]:
    """The routes for requests to a port, of the first VirtualService that has any: those of others are not added, as
    Istio says of sidecars. Those with a less specific host do not come in.
    """
    asker = Asker(MESH_GATEWAY, port, audience.namespace, audience.labels, retries=audience.settings.retries)
    for routing in seen.routings[0] if seen.routings else ():
        if routes := http_routes(routing, asker, cluster_of(seen, port, audience, routing)):
            return routes
    return ()


def cluster_of(seen: Seen, port: int, audience: Audience, routing: Routing) -> ClusterOf:
    """What the destinations of a VirtualService mean to those who call a port of the host that it routes."""

    def found(destination: Destination) -> str:
        hostname = resolve(destination.host, routing.namespace, audience.settings.cluster_domain)
        known = seen.destination(hostname)
        return destination_cluster(destination, hostname, known.service if known else None, port)

    return found
