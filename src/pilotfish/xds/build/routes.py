"""Route configurations: virtual hosts, which are serialised each by itself and then laid end to end.

A route configuration of a busy port holds every HTTP host of the mesh on that port. Its fields on the wire may stand
in any order and a repeated field is its members one after another, so a changed host costs its own serialisation and
a copy.
"""

from __future__ import annotations

import weakref
from typing import ClassVar

from envoy.config.route.v3 import route_components_pb2, route_pb2
from google.protobuf.duration_pb2 import Duration

from pilotfish.api.demand import DESTINATION_HEADER
from pilotfish.mesh.records import Record
from pilotfish.xds import source
from pilotfish.xds.build import names
from pilotfish.xds.build.http_routes import HttpRoute, http_route
from pilotfish.xds.build.http_settings import RouteHeaders
from pilotfish.xds.build.on_demand import asking_routes
from pilotfish.xds.build.retries import BY_DEFAULT, Retries, try_again
from pilotfish.xds.entries import serialise

DEFAULT_ROUTE = "default"
_INBOUND_RETRY_ON = "reset-before-request"
_MAX_DIRECT_RESPONSE = 1024 * 1024


class Route(Record):
    """Where all requests of a virtual host go. `operation` is what spans call them, "" where there are none."""

    cluster: str
    name: str = DEFAULT_ROUTE
    retries: Retries | None = BY_DEFAULT
    operation: str = ""

    @property
    def clusters(self) -> tuple[str, ...]:
        """All clusters that it may send something to."""
        return (self.cluster,)


class VirtualHostSpec(Record):
    """The virtual host of one host and port. With `require_tls` plain requests are sent to "https" (301)."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route | HttpRoute, ...]
    require_tls: bool = False


class RouteConfigurationSpec(Record):
    """The routes of an outbound listener. `catch_all` gets what no virtual host takes, if not "": BLOCK_ALL answers
    it, any other name sends it to the cluster `unknown`. `headers` are added to all requests. `by_port`: the port in a
    request's authority matters. `asked_for` are ranges about whose addresses the control plane is asked, instead of
    sending them there.
    """

    type_url: ClassVar[str] = source.ROUTE

    name: str
    virtual_hosts: tuple[VirtualHostSpec, ...]
    catch_all: str
    unknown: str = names.PASSTHROUGH
    headers: RouteHeaders = RouteHeaders()
    by_port: bool = False
    asked_for: tuple[str, ...] = ()

    def body(self) -> bytes:
        return route_configuration(self)


def route_configuration(spec: RouteConfigurationSpec) -> bytes:
    """The serialised RouteConfiguration."""
    frame = route_pb2.RouteConfiguration(name=spec.name, ignore_port_in_host_matching=not spec.by_port)
    frame.validate_clusters.value = False
    if spec.asked_for:
        frame.request_headers_to_remove.append(DESTINATION_HEADER)
    frame.max_direct_response_body_size_bytes.value = _MAX_DIRECT_RESPONSE
    parts = [serialise(frame), *(_field(host, spec.headers) for host in spec.virtual_hosts)]
    if spec.catch_all:
        parts.append(_framed(_adding(_catch_all(spec.catch_all, spec.unknown, spec.asked_for), spec.headers)))
    return b"".join(parts)


_fields: weakref.WeakKeyDictionary[VirtualHostSpec, dict[RouteHeaders, bytes]] = weakref.WeakKeyDictionary()


def _field(spec: VirtualHostSpec, headers: RouteHeaders) -> bytes:
    fields = _fields.setdefault(spec, {})
    if headers not in fields:
        fields[headers] = _framed(virtual_host(spec, headers))
    return fields[headers]


def _framed(host: route_components_pb2.VirtualHost) -> bytes:
    """The virtual host as a field of its route configuration: a configuration that holds nothing else."""
    return serialise(route_pb2.RouteConfiguration(virtual_hosts=[host]))


def virtual_host(spec: VirtualHostSpec, headers: RouteHeaders) -> route_components_pb2.VirtualHost:
    host = route_components_pb2.VirtualHost(
        name=spec.name,
        domains=spec.domains,
        routes=[http_route(route) if isinstance(route, HttpRoute) else outbound_route(route) for route in spec.routes],
    )
    if spec.require_tls:
        host.require_tls = route_components_pb2.VirtualHost.ALL
    return _adding(host, headers)


def _adding(host: route_components_pb2.VirtualHost, headers: RouteHeaders) -> route_components_pb2.VirtualHost:
    """The same virtual host, which adds headers to requests."""
    host.include_request_attempt_count = headers.attempt_count
    for route in host.routes:
        if headers.forwarded_host and route.HasField("route"):
            route.route.append_x_forwarded_host = True
    return host


def outbound_route(spec: Route) -> route_components_pb2.Route:
    """To the cluster, without a limit of time."""
    route = _route(spec)
    if spec.retries is not None:
        try_again(route.route.retry_policy, spec.retries)
    return route


def inbound_routes(port: int, cluster: str, *, grpc: bool, operation: str = "") -> route_pb2.RouteConfiguration:
    """The route configuration inside an inbound connection manager: everything to the workload's port.

    A request that was reset before it reached the workload is tried again; for gRPC that would break streams.
    """
    route = _route(Route(cluster, operation=operation))
    if not grpc:
        route.route.retry_policy.retry_on = _INBOUND_RETRY_ON
        route.route.retry_policy.num_retries.value = 2
    found = route_pb2.RouteConfiguration(
        name=cluster,
        virtual_hosts=[route_components_pb2.VirtualHost(name=f"inbound|http|{port}", domains=["*"], routes=[route])],
    )
    found.validate_clusters.value = False
    return found


def _route(spec: Route) -> route_components_pb2.Route:
    action = route_components_pb2.RouteAction(cluster=spec.cluster, timeout=Duration())
    action.max_stream_duration.max_stream_duration.CopyFrom(Duration())
    action.max_stream_duration.grpc_timeout_header_max.CopyFrom(Duration())
    route = route_components_pb2.Route(name=spec.name, match=route_components_pb2.RouteMatch(prefix="/"), route=action)
    if spec.operation:
        route.decorator.operation = spec.operation
    return route


def _catch_all(name: str, cluster: str, asked_for: tuple[str, ...]) -> route_components_pb2.VirtualHost:
    routes: list[route_components_pb2.Route] = []
    if name != names.BLOCK_ALL:
        route = _route(Route(cluster, name))
        routes.extend(asking_routes(route, asked_for))
    else:
        route = route_components_pb2.Route(
            name=name,
            match=route_components_pb2.RouteMatch(prefix="/"),
            direct_response=route_components_pb2.DirectResponseAction(status=502),
        )
    return route_components_pb2.VirtualHost(name=name, domains=["*"], routes=[*routes, route])
