"""VirtualServices whose routes stand in those of others (Istio: pilot/pkg/model/virtualservice.go)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from pilotfish.api import networking
from pilotfish.api.networking.destination import Destination
from pilotfish.api.networking.http_route import Headers, HTTPMatchRequest, HTTPRoute, StringMatch
from pilotfish.api.networking.virtual_service import VirtualServiceSpec
from pilotfish.mesh.gateway_names import gateway_name
from pilotfish.mesh.hostnames import resolve
from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.records import ObjectKey

Sees = Callable[[ObjectKey, tuple[str, ...], str], bool]
"""Whether an object with an `exportTo` is for a namespace."""

_INHERITED = (
    *("rewrite", "direct_response", "timeout", "retries", "fault", "cors_policy"),
    *("mirror", "mirrors", "mirror_percent", "mirror_percent_snake", "mirror_percentage", "headers"),
)
"""What a delegate's route has of the root's where it says nothing itself."""


class Delegates:
    """The VirtualServices without hosts, and the roots that refer to some."""

    def __init__(self, cluster_domain: str) -> None:
        self._cluster_domain = cluster_domain
        self._delegates: dict[ObjectKey, networking.VirtualService] = {}
        self._roots: dict[ObjectKey, networking.VirtualService] = {}
        self._roots_of: MultiMap[ObjectKey, ObjectKey] = MultiMap()

    def put(self, key: ObjectKey, obj: networking.VirtualService | None) -> tuple[ObjectKey, ...]:
        """Take in a changed VirtualService (None: it is gone); gives the roots whose routes that may change."""
        before = self._roots.pop(key, None)
        for delegate in _references(before):
            self._roots_of.remove(delegate, key)
        self._delegates.pop(key, None)
        if obj is not None and not obj.spec.hosts:
            self._delegates[key] = obj
        elif obj is not None and any(route.delegate for route in obj.spec.http):
            self._roots[key] = obj
            for delegate in _references(obj):
                self._roots_of.add(delegate, key)
        return self._roots_of[key]

    def roots(self) -> tuple[ObjectKey, ...]:
        """All VirtualServices that refer to others."""
        return tuple(self._roots)

    def root(self, key: ObjectKey) -> networking.VirtualService:
        return self._roots[key]

    def merged(self, obj: networking.VirtualService, sees: Sees) -> VirtualServiceSpec:
        """The VirtualService with the routes of its delegates in the place of those that refer to them.

        A reference to none, or to one that the root's namespace does not see, leaves nothing.
        """
        if not any(route.delegate for route in obj.spec.http):
            return obj.spec
        return msgspec.structs.replace(obj.spec, http=tuple(self._routes(obj, sees)))

    def _routes(self, root: networking.VirtualService, sees: Sees) -> Iterator[HTTPRoute]:
        for route in root.spec.http:
            if route.delegate is None:
                yield route
                continue
            key = _key(route.delegate.name, route.delegate.namespace or root.namespace)
            delegate = self._delegates.get(key)
            if delegate is None or not sees(key, delegate.spec.export_to, root.namespace):
                continue
            whole = _qualified(route, root.namespace, self._cluster_domain)
            for each in delegate.spec.http:
                if (merged := merge(whole, _qualified(each, key.namespace, self._cluster_domain))) is not None:
                    yield merged


def merge(root: HTTPRoute, delegate: HTTPRoute) -> HTTPRoute | None:
    """A route of a delegate under the conditions of the root's route; None where none of its matches is within them.

    Both name gateways and hosts in full.
    """
    matches: tuple[HTTPMatchRequest, ...] = root.match or delegate.match
    if root.match and delegate.match:
        within = [[_both(wide, match) for wide in root.match if _within(wide, match)] for match in delegate.match]
        if not all(within):
            return None
        matches = tuple(match for found in within for match in found)
    unsaid = (None, (), Headers())
    inherited = {name: getattr(root, name) for name in _INHERITED if getattr(delegate, name) in unsaid}
    return msgspec.structs.replace(delegate, name=_joined(root.name, delegate.name), match=matches, **inherited)


def _both(root: HTTPMatchRequest, delegate: HTTPMatchRequest) -> HTTPMatchRequest:
    """What both ask for; the delegate's condition on the same thing is the narrower one."""
    return msgspec.structs.replace(
        delegate,
        name=_joined(root.name, delegate.name),
        uri=delegate.uri or root.uri,
        scheme=delegate.scheme or root.scheme,
        method=delegate.method or root.method,
        authority=delegate.authority or root.authority,
        headers=root.headers | delegate.headers,
        without_headers=root.without_headers | delegate.without_headers,
        query_params=root.query_params | delegate.query_params,
        port=delegate.port or root.port,
        source_labels=root.source_labels | delegate.source_labels,
        source_namespace=delegate.source_namespace or root.source_namespace,
        gateways=delegate.gateways or root.gateways,
        stat_prefix=delegate.stat_prefix or root.stat_prefix,
    )


def _within(root: HTTPMatchRequest, delegate: HTTPMatchRequest) -> bool:
    """Whether a delegate's match asks for no more requests than the root's."""
    texts = [
        (root.uri, delegate.uri),
        (root.scheme, delegate.scheme),
        (root.method, delegate.method),
        (root.authority, delegate.authority),
    ]
    for wide, narrow in (
        (root.headers, delegate.headers),
        (root.without_headers, delegate.without_headers),
        (root.query_params, delegate.query_params),
    ):
        texts += ((wide.get(name), text) for name, text in narrow.items())
    same = (
        (root.port, delegate.port),
        (root.source_namespace, delegate.source_namespace),
        *((root.source_labels.get(name), value) for name, value in delegate.source_labels.items()),
    )
    return (
        all(_covers(wide, narrow) for wide, narrow in texts)
        and all(not one or not other or one == other for one, other in same)
        and root.ignore_uri_case == delegate.ignore_uri_case
        and (not root.gateways or set(delegate.gateways) <= set(root.gateways))
    )


def _covers(root: StringMatch | None, delegate: StringMatch | None) -> bool:
    """Whether all that the delegate's text matches is matched by the root's; no regular expression can be told to."""
    if root is None or delegate is None:
        return True
    if root.regex or delegate.regex:
        return False
    if root.exact:
        return delegate.exact == root.exact
    return bool(root.prefix) and (delegate.prefix or delegate.exact or "").startswith(root.prefix or "")


def _joined(root: str, delegate: str) -> str:
    return "-".join(filter(None, (root, delegate)))


def _qualified(route: HTTPRoute, namespace: str, cluster_domain: str) -> HTTPRoute:
    """The route with gateways and hosts named in full, so that it means the same in another namespace."""

    def destination(given: Destination) -> Destination:
        return msgspec.structs.replace(given, host=resolve(given.host, namespace, cluster_domain))

    def match(given: HTTPMatchRequest) -> HTTPMatchRequest:
        return msgspec.structs.replace(given, gateways=tuple(gateway_name(name, namespace) for name in given.gateways))

    replace = msgspec.structs.replace
    return replace(
        route,
        match=tuple(map(match, route.match)),
        route=tuple(replace(to, destination=destination(to.destination)) for to in route.route),
        mirror=destination(route.mirror) if route.mirror is not None else None,
        mirrors=tuple(replace(to, destination=destination(to.destination)) for to in route.mirrors),
    )


def _references(root: networking.VirtualService | None) -> set[ObjectKey]:
    if root is None:
        return set()
    named = (route.delegate for route in root.spec.http if route.delegate is not None)
    return {_key(delegate.name, delegate.namespace or root.namespace) for delegate in named}


def _key(name: str, namespace: str) -> ObjectKey:
    return ObjectKey("VirtualService", namespace, name)
