"""Routes that no request can reach, because an earlier one takes all of theirs.

Istio: VirtualServiceUnreachableRule and VirtualServiceIneffectiveMatch. Istio compares prefixes of URIs only between
matches with the same headers, and takes a match without a method for GET; here a match is covered when each condition
of an earlier one follows from its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pilotfish.api.istio_validation.values import Faults, warning
from pilotfish.api.networking.http_route import HTTPMatchRequest, HTTPRoute, StringMatch
from pilotfish.api.networking.virtual_service import (
    L4MatchAttributes,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualServiceSpec,
)

Route = HTTPRoute | TLSRoute | TCPRoute
Match = HTTPMatchRequest | TLSMatchAttributes | L4MatchAttributes


class Unused(NamedTuple):
    """A route, or one match of a route, that no request reaches: `number` and `match` are positions, `path` is where
    it stands. `by` is the path of what takes its requests before it, "" where several earlier ones do together.
    """

    path: str
    number: int
    match: int | None
    by: str

    @property
    def reason(self) -> str:
        if not self.by:
            return "earlier routes take all of its requests"
        if self.match is None:
            return f"{self.by} has no match and takes every request before it"
        return f"{self.by} takes all of its requests before it"


def unreachable(spec: VirtualServiceSpec) -> Faults:
    """A warning for each route and match of a VirtualService that has no effect."""
    for found in unused(spec):
        yield warning(found.path, f"it is never used: {found.reason}")


def unused(spec: VirtualServiceSpec) -> Iterator[Unused]:
    """Each route and match of a VirtualService that has no effect."""
    yield from _unused("spec.http", spec.http)
    yield from _unused("spec.tls", spec.tls)
    yield from _unused("spec.tcp", spec.tcp)


def _unused(path: str, routes: Sequence[Route]) -> Iterator[Unused]:
    catch_all = ""
    known: list[tuple[str, Match]] = []
    for number, route in enumerate(routes):
        where = f"{path}[{number}]"
        if catch_all:
            yield Unused(where, number, None, catch_all)
            continue
        if not route.match:
            catch_all = where
        dead = 0
        matches: Sequence[Match] = route.match
        for position, match in enumerate(matches):
            here = f"{where}.match[{position}]"
            before = next((place for place, earlier in known if _takes_all(earlier, match)), "")
            if before:
                dead += 1
                yield Unused(here, number, position, before)
            known.append((here, match))
        if matches and dead == len(matches):
            yield Unused(where, number, None, "")


def _takes_all(earlier: Match, later: Match) -> bool:
    """Whether everything that the later match is for is already the earlier one's."""
    if not isinstance(earlier, HTTPMatchRequest) or not isinstance(later, HTTPMatchRequest):
        return earlier == later
    if earlier.ignore_uri_case != later.ignore_uri_case:
        return False
    return (
        _follows(earlier.uri, later.uri)
        and _follows(earlier.scheme, later.scheme)
        and _follows(earlier.method, later.method)
        and _follows(earlier.authority, later.authority)
        and _all_follow(earlier.headers, later.headers)
        and _all_follow(earlier.query_params, later.query_params)
        and earlier.without_headers.items() <= later.without_headers.items()
        and earlier.source_labels.items() <= later.source_labels.items()
        and earlier.source_namespace in ("", later.source_namespace)
        and earlier.port in (0, later.port)
        and (not earlier.gateways or (bool(later.gateways) and set(later.gateways) <= set(earlier.gateways)))
    )


def _all_follow(wide: Mapping[str, StringMatch], narrow: Mapping[str, StringMatch]) -> bool:
    return all(name in narrow and _follows(text, narrow[name]) for name, text in wide.items())


def _follows(wide: StringMatch | None, narrow: StringMatch | None) -> bool:
    """Whether every text that the narrow match takes is taken by the wide one. An empty match takes any text."""
    if wide is None or (narrow is not None and wide == StringMatch()):
        return True
    if narrow is None or wide.prefix is None:
        return wide == narrow
    beginning = narrow.exact if narrow.exact is not None else narrow.prefix
    return beginning is not None and beginning.startswith(wide.prefix)
