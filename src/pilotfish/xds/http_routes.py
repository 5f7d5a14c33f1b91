"""From a VirtualService to the routes of requests (Istio: pilot/pkg/networking/core/route).

Each match becomes a route of its own, in the order in which they are written; what follows one that takes every
request is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from pilotfish.api.durations import seconds
from pilotfish.api.networking import http_route as api
from pilotfish.api.networking.destination import Destination
from pilotfish.mesh.gateway_names import gateway_name
from pilotfish.mesh.policies import Routing
from pilotfish.mesh.records import Labels, ObjectKey
from pilotfish.xds.build.http_routes import (
    EVERY_PATH,
    Forward,
    HeaderChanges,
    HeaderMatch,
    HttpRoute,
    Redirect,
    RequestMatch,
    Respond,
    Target,
)
from pilotfish.xds.build.retries import BY_DEFAULT, Retries
from pilotfish.xds.build.texts import How
from pilotfish.xds.retries import retries_of
from pilotfish.xds.route_filters import cors_of, fault_of, mirrors_of, text_of

ClusterOf = Callable[[Destination], str]
"""The cluster of a destination, for requests to the asker's port."""

_AUTHORITY = ("host", ":authority")


class Asker(NamedTuple):
    """Whom routes are for: requests to a port of a gateway ("<namespace>/<name>", or "mesh" for sidecars), through
    proxies of a namespace that have these labels. `tls`: the requests came over TLS. `retries`: what holds
    where a route says nothing of them. `traced`: spans are reported of them. `hashed` says of a cluster whether it
    chooses endpoints by hashing.
    """

    gateway: str
    port: int
    namespace: str
    labels: Labels = ()
    tls: bool = False
    retries: Retries | None = BY_DEFAULT
    traced: bool = False
    hashed: Callable[[str], bool] = lambda _: False


def http_routes(routing: Routing, asker: Asker, cluster_of: ClusterOf) -> tuple[HttpRoute, ...]:
    """The routes of a VirtualService for those who ask; none where none of its matches means them."""
    found = []
    for route in routing.spec.http:
        for match in route.match or (api.HTTPMatchRequest(),):
            if not _means(match, asker, routing.namespace):
                continue
            if made := _route(routing.key, route, match, asker, cluster_of):
                found.append(made)
                if made.catches_all:
                    return tuple(found)
    return tuple(found)


def _means(match: api.HTTPMatchRequest, asker: Asker, namespace: str) -> bool:
    if match.port not in (0, asker.port):
        return False
    if match.gateways:
        return asker.gateway in {gateway_name(name, namespace) for name in match.gateways}
    return match.source_labels.items() <= dict(asker.labels).items() and match.source_namespace in ("", asker.namespace)


def _route(
    source: ObjectKey, route: api.HTTPRoute, match: api.HTTPMatchRequest, asker: Asker, cluster_of: ClusterOf
) -> HttpRoute | None:
    """None where the route says nothing of what becomes of requests."""
    action = _action(route, asker, cluster_of)
    if action is None:
        return None
    matched = _match(match)
    return HttpRoute(
        name=".".join(filter(None, (route.name, match.name))),
        match=matched,
        action=action,
        request=_changes(route.headers.request),
        response=_changes(route.headers.response),
        stat_prefix=match.stat_prefix,
        fault=fault_of(route.fault),
        cors=cors_of(route.cors_policy),
        source=source,
        operation=_operation(source, matched, action, asker.port) if asker.traced else "",
    )


def _operation(source: ObjectKey, match: RequestMatch, action: Forward | Redirect | Respond, port: int) -> str:
    """What spans call requests: where they go, or else by whose word, and the path (Istio: GetRouteOperation)."""
    path = match.path.value + ("*" if match.path.how is How.PREFIX else "")
    targets = action.targets if isinstance(action, Forward) else ()
    if len(targets) == 1:
        _, to_port, _, host = targets[0].cluster.split("|")
        return f"{host}:{to_port}{path}"
    return f"{source.name}:{port}{path}"


def _action(route: api.HTTPRoute, asker: Asker, cluster_of: ClusterOf) -> Forward | Redirect | Respond | None:
    if route.redirect is not None:
        return _redirect(route.redirect, asker)
    if route.direct_response is not None:
        return Respond(route.direct_response.status, _body(route.direct_response.body))
    if not route.route:
        return None
    targets = tuple(_targets(route, cluster_of))
    retries = retries_of(route.retries, asker.retries)
    said = route.retries is not None and route.retries.retry_ignore_previous_hosts is not None
    if retries is not None and not said and len(targets) == 1 and asker.hashed(targets[0].cluster):
        retries = msgspec.structs.replace(retries, other_hosts=False)  # another host is none that the hash means
    rewrite = route.rewrite or api.HTTPRewrite()
    regex = rewrite.uri_regex_rewrite
    return Forward(
        targets=targets,
        timeout=seconds(route.timeout),
        retries=retries,
        path=rewrite.uri,
        path_regex=(regex.match, regex.rewrite) if regex is not None else None,
        authority=rewrite.authority or _authority(route.headers.request),
        mirrors=tuple(mirrors_of(route, cluster_of)),
    )


# What matches


def _match(match: api.HTTPMatchRequest) -> RequestMatch:
    path = text_of(match.uri) if match.uri is not None else EVERY_PATH
    wanted = [HeaderMatch(name, text_of(text)) for name, text in match.headers.items()]
    unwanted = [HeaderMatch(name, text_of(text), without=True) for name, text in match.without_headers.items()]
    pseudo = ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme))
    return RequestMatch(
        path=EVERY_PATH if path.how is How.ANY else path,
        ignore_case=match.ignore_uri_case,
        headers=(
            *sorted((*wanted, *unwanted), key=lambda header: header.name),
            *(HeaderMatch(name, text_of(text)) for name, text in pseudo if text is not None),
        ),
        query=tuple((name, text_of(text)) for name, text in match.query_params.items()),
    )


# What becomes of it


def _targets(route: api.HTTPRoute, cluster_of: ClusterOf) -> Iterator[Target]:
    """The destinations; of several those without a weight get nothing."""
    destinations = [to for to in route.route if to.weight] if len(route.route) > 1 else route.route
    for to in destinations or route.route[:1]:
        request, response = to.headers.request, to.headers.response
        cluster = cluster_of(to.destination)
        yield Target(cluster, to.weight, _changes(request), _changes(response), _authority(request))


def _redirect(redirect: api.HTTPRedirect, asker: Asker) -> Redirect:
    port = redirect.port or 0
    if redirect.derive_port == "FROM_REQUEST_PORT":
        port = asker.port
    scheme = redirect.scheme or ("https" if asker.tls else "http")
    if (port, scheme) in ((80, "http"), (443, "https")):
        port = 0  # it goes without saying
    return Redirect(
        code=redirect.redirect_code or 301,
        scheme=redirect.scheme,
        authority=redirect.authority,
        port=port,
        path=redirect.uri,
        path_prefix=redirect.prefix_rewrite,
    )


def _body(body: api.HTTPBody | None) -> bytes:
    if body is None:
        return b""
    return body.string.encode() if body.string is not None else base64.b64decode(body.bytes or "")


def _changes(operations: api.HeaderOperations) -> HeaderChanges:
    return HeaderChanges(
        tuple(_changeable(operations.set)),
        tuple(_changeable(operations.add)),
        tuple(name for name in operations.remove if not _internal(name)),
    )


def _changeable(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in sorted(headers.items()) if not _internal(name))


def _internal(name: str) -> bool:
    """Whether Envoy does not let a header be changed."""
    return name.startswith(":") or name.lower() == "host"


def _authority(operations: api.HeaderOperations) -> str:
    """The authority that operations on headers set, which Envoy takes as a rewrite."""
    for headers in (operations.set, operations.add):
        for name, value in headers.items():
            if name.lower() in _AUTHORITY:
                return value
    return ""
