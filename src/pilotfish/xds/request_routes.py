"""Where requests for a host go: what its VirtualServices say, and what holds where they say nothing."""

from __future__ import annotations

from pilotfish.api.networking.destination import Destination
from pilotfish.api.networking.load_balancer import LoadBalancerSettings
from pilotfish.mesh.gateway_names import MESH_GATEWAY
from pilotfish.mesh.hostnames import resolve
from pilotfish.mesh.policies import Routing
from pilotfish.mesh.records import Service, ServicePort
from pilotfish.mesh.seen import Seen
from pilotfish.mesh.traffic_policy import traffic_policy
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.http_routes import HttpRoute
from pilotfish.xds.build.routes import Route
from pilotfish.xds.http_routes import Asker, ClusterOf, http_routes
from pilotfish.xds.upstreams import cluster_name, destination_cluster


def routes_of(seen: Seen, service: Service, port: ServicePort, audience: Audience) -> tuple[Route | HttpRoute, ...]:
    """The routes for requests to a port of a host: where a VirtualService says, else all to the host."""
    if routes := written(seen, port.number, audience):
        return routes
    operation = f"{service.hostname}:{port.number}/*" if audience.settings.client.tracing else ""
    return (Route(cluster_name(service, port), retries=audience.settings.retries, operation=operation),)


def written(seen: Seen, port: int, audience: Audience) -> tuple[HttpRoute, ...]:
    """The routes for requests to a port, of the first VirtualService that has any: those of others are not added, as
    Istio says of sidecars. Those with a less specific host do not come in.
    """
    settings = audience.settings
    asker = Asker(
        MESH_GATEWAY,
        port,
        audience.namespace,
        audience.labels,
        retries=settings.retries,
        traced=settings.client.tracing is not None,
        hashed=lambda cluster: hashing(cluster, seen, audience) is not None,
    )
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


def hashing(cluster: str, seen: Seen, audience: Audience) -> LoadBalancerSettings | None:
    """How a cluster to which requests for a host go chooses endpoints, if it hashes."""
    _, port, subset, hostname = cluster.split("|")
    rules = {to.service.hostname: to.rule for to in seen.destinations}
    if seen.host is not None:
        rules[seen.host.service.hostname] = seen.rule
    said = traffic_policy(rules.get(hostname), int(port), subset, audience.settings.default_policy).load_balancer
    return said if said is not None and said.consistent_hash is not None else None
