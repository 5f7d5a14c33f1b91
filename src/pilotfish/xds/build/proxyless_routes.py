"""Routes for gRPC's own xDS client: those of Envoy, in the words that gRPC reads.

gRPC passes over what it does not do (rewrites, mirrors, changes of headers), and refuses a whole configuration for a
filter or a retry policy that it does not know. Its proposals: A28 (matches), A31 (timeouts), A33 (faults), A42
(hashes), A44 (retries).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

from envoy.config.route.v3 import route_components_pb2, route_pb2

from pilotfish.api.networking.load_balancer import LoadBalancerSettings
from pilotfish.mesh.records import Record
from pilotfish.xds import source
from pilotfish.xds.build.http_routes import HttpRoute, http_route
from pilotfish.xds.build.routes import Route, outbound_route
from pilotfish.xds.entries import serialise

FAULT = "envoy.filters.http.fault"
_CHANNEL = "io.grpc.channel_id"
"""What gRPC calls a value that is one client's own."""


class ProxylessRoutesSpec(Record):
    """The routes of one port of one host. `balancing` is how some of the clusters choose endpoints, by their names."""

    type_url: ClassVar[str] = source.ROUTE

    name: str
    routes: tuple[Route | HttpRoute, ...]
    balancing: tuple[tuple[str, LoadBalancerSettings], ...] = ()

    def body(self) -> bytes:
        return serialise(route_configuration(self))


def route_configuration(spec: ProxylessRoutesSpec) -> route_pb2.RouteConfiguration:
    """A route configuration for whatever the client calls the host."""
    routes = [built for route in spec.routes for built in _routes(route, dict(spec.balancing))]
    host = route_components_pb2.VirtualHost(name=spec.name, domains=["*"], routes=routes)
    return route_pb2.RouteConfiguration(name=spec.name, virtual_hosts=[host])


def _routes(
    spec: Route | HttpRoute, balancing: dict[str, LoadBalancerSettings]
) -> Iterator[route_components_pb2.Route]:
    built = http_route(spec) if isinstance(spec, HttpRoute) else outbound_route(spec)
    for name in [name for name in built.typed_per_filter_config if name != FAULT]:
        del built.typed_per_filter_config[name]
    if built.HasField("route"):
        _forward(built.route, spec, balancing)
    for headers in _headers(built.match):
        made = route_components_pb2.Route()
        made.CopyFrom(built)
        del made.match.headers[:]
        made.match.headers.extend(headers)
        yield made


def _forward(
    action: route_components_pb2.RouteAction, spec: Route | HttpRoute, balancing: dict[str, LoadBalancerSettings]
) -> None:
    if action.timeout.ToNanoseconds():
        action.max_stream_duration.max_stream_duration.CopyFrom(action.timeout)
    action.ClearField("timeout")
    if not action.retry_policy.num_retries.value:
        action.ClearField("retry_policy")  # gRPC refuses one of no retries
    action.retry_policy.ClearField("retry_host_predicate")
    action.retry_policy.ClearField("retry_priority")
    if not action.retry_policy.ListFields():
        action.ClearField("retry_policy")
    for cluster in spec.clusters:
        for policy in _hashes(balancing.get(cluster, LoadBalancerSettings())):
            if policy not in action.hash_policy:
                action.hash_policy.append(policy)


def _hashes(balancing: LoadBalancerSettings) -> Iterator[route_components_pb2.RouteAction.HashPolicy]:
    """By what calls are hashed: a header, or else the client, so that it stays with its endpoint."""
    policy = route_components_pb2.RouteAction.HashPolicy
    if balancing.consistent_hash is None:
        return
    if balancing.consistent_hash.http_header_name is not None:
        yield policy(header=policy.Header(header_name=balancing.consistent_hash.http_header_name))
    else:
        yield policy(filter_state=policy.FilterState(key=_CHANNEL))


def _headers(match: route_components_pb2.RouteMatch) -> Iterator[tuple[route_components_pb2.HeaderMatcher, ...]]:
    """The conditions on headers. One that a header must not meet is two for gRPC, which never finds it met by a header
    that is not there.
    """
    choices: list[tuple[route_components_pb2.HeaderMatcher, ...]] = []
    for header in map(_plain, match.headers):
        absent = route_components_pb2.HeaderMatcher(name=header.name, present_match=True, invert_match=True)
        negated = header.invert_match and not header.present_match
        choices.append((absent, header) if negated else (header,))
    yield from itertools.product(*choices)


def _plain(header: route_components_pb2.HeaderMatcher) -> route_components_pb2.HeaderMatcher:
    """In the words that all releases of gRPC know."""
    found = route_components_pb2.HeaderMatcher(name=header.name, invert_match=header.invert_match)
    match header.string_match.WhichOneof("match_pattern"):
        case "exact":
            found.exact_match = header.string_match.exact
        case "prefix":
            found.prefix_match = header.string_match.prefix
        case "safe_regex":
            found.safe_regex_match.CopyFrom(header.string_match.safe_regex)
        case _:
            found.present_match = True
    return found
