"""Routes of requests as VirtualServices write them: what they match, and what becomes of what matches."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from google.protobuf.duration_pb2 import Duration

from pilotfish.mesh.records import ObjectKey, Record
from pilotfish.xds.build import common
from pilotfish.xds.build.retries import Retries, try_again
from pilotfish.xds.build.route_filters import Cors, Fault, filter_configs, fraction
from pilotfish.xds.build.texts import How, Text, string_matcher

Pairs = tuple[tuple[str, str], ...]


EVERY_PATH = Text(How.PREFIX, "/")


class HeaderMatch(Record):
    """A header, or a pseudo-header such as ":method". `without`: it must not be as `text` says, or not be there."""

    name: str
    text: Text
    without: bool = False


class RequestMatch(Record):
    """All of it together."""

    path: Text = EVERY_PATH
    ignore_case: bool = False
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[tuple[str, Text], ...] = ()

    @property
    def catches_all(self) -> bool:
        """Whether every request matches (Istio: IsCatchAllRoute)."""
        return self.path in (EVERY_PATH, Text(How.REGEX, ".*")) and not (self.headers or self.query)


class HeaderChanges(Record):
    """`replaced` takes the place of what is there, `added` comes besides it."""

    replaced: Pairs = ()
    added: Pairs = ()
    removed: tuple[str, ...] = ()


NO_CHANGES = HeaderChanges()


class Target(Record):
    """A cluster with its share of the requests, and what is changed on the way there and back."""

    cluster: str
    weight: int = 0
    request: HeaderChanges = NO_CHANGES
    response: HeaderChanges = NO_CHANGES
    authority: str = ""


class Mirror(Record):
    """A cluster that gets copies of a share of the requests, in millionths; what it answers goes nowhere."""

    cluster: str
    share: int


class Forward(Record):
    """Requests go on, to one target or several by weight. `path` replaces what matched, or what its regex matches."""

    targets: tuple[Target, ...]
    timeout: float = 0.0
    retries: Retries | None = Retries()
    path: str = ""
    path_regex: tuple[str, str] | None = None
    authority: str = ""
    mirrors: tuple[Mirror, ...] = ()


class Redirect(Record):
    """Clients are sent elsewhere; "" and 0 leave that part of the URL as it is."""

    code: int = 301
    scheme: str = ""
    authority: str = ""
    port: int = 0
    path: str = ""
    path_prefix: str = ""


class Respond(Record):
    """The proxy answers by itself."""

    status: int
    body: bytes = b""


class HttpRoute(Record):
    """One route, made from the object `source`. `stat_prefix` is a name in statistics, or ""; `operation` is what spans
    call its requests, "" where there are none.
    """

    name: str
    match: RequestMatch
    action: Forward | Redirect | Respond
    request: HeaderChanges = NO_CHANGES
    response: HeaderChanges = NO_CHANGES
    stat_prefix: str = ""
    fault: Fault | None = None
    cors: Cors | None = None
    source: ObjectKey | None = None
    operation: str = ""

    @property
    def catches_all(self) -> bool:
        return self.match.catches_all

    @property
    def clusters(self) -> tuple[str, ...]:
        """All clusters that it may send something to."""
        if not isinstance(self.action, Forward):
            return ()
        targets, mirrors = self.action.targets, self.action.mirrors
        return (*(target.cluster for target in targets), *(mirror.cluster for mirror in mirrors))


def http_route(spec: HttpRoute) -> route_components_pb2.Route:
    route = route_components_pb2.Route(name=spec.name, match=_match(spec.match), stat_prefix=spec.stat_prefix)
    _change(route, spec.request, spec.response)
    if spec.operation:
        route.decorator.operation = spec.operation
    for name, config in filter_configs(spec.fault, spec.cors):
        route.typed_per_filter_config[name].CopyFrom(common.any_of(config))
    if spec.source is not None:
        common.name_source(route.metadata, spec.source)
    match spec.action:
        case Forward() as action:
            _forward(route, action)
        case Redirect() as action:
            route.redirect.CopyFrom(_redirect(action))
        case Respond(status, body):
            route.direct_response.status = status
            if body:
                route.direct_response.body.inline_bytes = body
    return route


def _match(spec: RequestMatch) -> route_components_pb2.RouteMatch:
    match = route_components_pb2.RouteMatch(
        headers=[_header(each) for each in spec.headers], query_parameters=[_parameter(*each) for each in spec.query]
    )
    match spec.path.how:
        case How.EXACT:
            match.path = spec.path.value
        case How.REGEX:
            match.safe_regex.regex = spec.path.value
        case _:
            match.prefix = spec.path.value
    if spec.ignore_case:
        match.case_sensitive.value = False
    return match


def _header(spec: HeaderMatch) -> route_components_pb2.HeaderMatcher:
    found = route_components_pb2.HeaderMatcher(name=spec.name, invert_match=spec.without)
    if spec.text.how is How.ANY:
        found.present_match = True
        return found
    found.string_match.CopyFrom(string_matcher(spec.text))
    found.treat_missing_header_as_empty = spec.without
    return found


def _parameter(name: str, text: Text) -> route_components_pb2.QueryParameterMatcher:
    if text.how is How.ANY:
        return route_components_pb2.QueryParameterMatcher(name=name, present_match=True)
    return route_components_pb2.QueryParameterMatcher(name=name, string_match=string_matcher(text))


def _change(
    target: route_components_pb2.Route | route_components_pb2.WeightedCluster.ClusterWeight,
    request: HeaderChanges,
    response: HeaderChanges,
) -> None:
    target.request_headers_to_add.extend(_added(request))
    target.request_headers_to_remove.extend(request.removed)
    target.response_headers_to_add.extend(_added(response))
    target.response_headers_to_remove.extend(response.removed)


def _added(changes: HeaderChanges) -> Iterator[base_pb2.HeaderValueOption]:
    option = base_pb2.HeaderValueOption
    for pairs, action in (
        (changes.replaced, option.OVERWRITE_IF_EXISTS_OR_ADD),
        (changes.added, option.APPEND_IF_EXISTS_OR_ADD),
    ):
        for key, value in pairs:
            yield option(header=base_pb2.HeaderValue(key=key, value=value), append_action=action)


def _forward(route: route_components_pb2.Route, spec: Forward) -> None:
    action = route.route
    action.timeout.CopyFrom(common.duration(spec.timeout))
    if not spec.timeout:
        # Lets gRPC's own limits be. Not beside a limit: Envoy passes `timeout` over where there is any of these.
        action.max_stream_duration.max_stream_duration.CopyFrom(Duration())
        action.max_stream_duration.grpc_timeout_header_max.CopyFrom(Duration())
    if spec.path_regex is not None:
        action.regex_rewrite.pattern.regex, action.regex_rewrite.substitution = spec.path_regex
    elif spec.path:
        action.prefix_rewrite = spec.path
    if spec.authority:
        action.host_rewrite_literal = spec.authority
    if len(spec.targets) == 1:
        _only(route, spec.targets[0])
    else:
        action.weighted_clusters.clusters.extend(map(_weighted, spec.targets))
    if spec.retries is not None:
        try_again(action.retry_policy, spec.retries)
    for mirror in spec.mirrors:
        # A copy has the authority of its request (Istio's default), where Envoy by itself appends "-shadow".
        copies = action.request_mirror_policies.add(cluster=mirror.cluster, disable_shadow_host_suffix_append=True)
        copies.runtime_fraction.default_value.CopyFrom(fraction(mirror.share))
        copies.trace_sampled.value = False  # a copy is no span of its own


def _only(route: route_components_pb2.Route, target: Target) -> None:
    route.route.cluster = target.cluster
    _change(route, target.request, target.response)
    if target.authority and not route.route.host_rewrite_literal:
        route.route.host_rewrite_literal = target.authority


def _weighted(target: Target) -> route_components_pb2.WeightedCluster.ClusterWeight:
    weighted = route_components_pb2.WeightedCluster.ClusterWeight(name=target.cluster)
    weighted.weight.value = target.weight
    _change(weighted, target.request, target.response)
    if target.authority:
        weighted.host_rewrite_literal = target.authority
    return weighted


def _redirect(spec: Redirect) -> route_components_pb2.RedirectAction:
    action = route_components_pb2.RedirectAction(
        host_redirect=spec.authority, port_redirect=spec.port, response_code=_CODES[spec.code]
    )
    if spec.scheme:
        action.scheme_redirect = spec.scheme
    if spec.path_prefix:
        action.prefix_rewrite = spec.path_prefix
    elif spec.path:
        action.path_redirect = spec.path
    return action


_CODES = {
    301: route_components_pb2.RedirectAction.MOVED_PERMANENTLY,
    302: route_components_pb2.RedirectAction.FOUND,
    303: route_components_pb2.RedirectAction.SEE_OTHER,
    307: route_components_pb2.RedirectAction.TEMPORARY_REDIRECT,
    308: route_components_pb2.RedirectAction.PERMANENT_REDIRECT,
}
