"""Faults, CORS and mirrors of a VirtualService, as records (Istio: pilot/pkg/networking/core/route)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking import http_route as api
from pilotfish.api.networking.destination import Destination
from pilotfish.xds.build.http_routes import Mirror
from pilotfish.xds.build.route_filters import EVERY, Abort, Cors, Delay, Fault
from pilotfish.xds.build.texts import How, Text


def fault_of(fault: api.HTTPFaultInjection | None) -> Fault | None:
    """A delay or an abort without a percentage concerns no request (Istio)."""
    if fault is None:
        return None
    found = Fault(_delay(fault.delay), _abort(fault.abort))
    return found if found != Fault() else None


def _delay(delay: api.Delay | None) -> Delay | None:
    if delay is None or delay.fixed_delay is None:
        return None
    share = _share(delay.percentage) if delay.percentage is not None else delay.percent * EVERY // 100
    return Delay(parse_duration(delay.fixed_delay), share)


def _abort(abort: api.Abort | None) -> Abort | None:
    if abort is None:
        return None
    share = _share(abort.percentage) if abort.percentage is not None else 0
    if abort.http_status is not None:
        return Abort(abort.http_status, 0, share)
    if abort.grpc_status is not None:
        number: int = grpc.StatusCode[abort.grpc_status].value[0]
        return Abort(0, number, share)
    return None


def cors_of(policy: api.CorsPolicy | None) -> Cors | None:
    if policy is None:
        return None
    return Cors(
        origins=tuple(map(text_of, policy.allow_origins))
        or tuple(Text(How.EXACT, origin) for origin in policy.allow_origin),
        methods=policy.allow_methods,
        headers=policy.allow_headers,
        exposed=policy.expose_headers,
        max_age=int(parse_duration(policy.max_age)) if policy.max_age else None,
        credentials=policy.allow_credentials,
        forward_unmatched=policy.unmatched_preflights != "IGNORE",
    )


def mirrors_of(route: api.HTTPRoute, cluster_of: Callable[[Destination], str]) -> Iterator[Mirror]:
    """Where copies of requests go: of all where no percentage is given, nowhere where it is 0."""
    if route.mirror is not None:
        whole = route.mirror_percent if route.mirror_percent is not None else route.mirror_percent_snake
        older = EVERY if whole is None else whole * EVERY // 100
        share = _share(route.mirror_percentage) if route.mirror_percentage is not None else older
        if share:
            yield Mirror(cluster_of(route.mirror), share)
    for mirror in route.mirrors:
        share = _share(mirror.percentage) if mirror.percentage is not None else EVERY
        if share:
            yield Mirror(cluster_of(mirror.destination), share)


def text_of(match: api.StringMatch) -> Text:
    """A match without a text, or with the regex "*", which is none, only asks whether something is there (Istio)."""
    if match.exact is not None:
        return Text(How.EXACT, match.exact)
    if match.prefix is not None:
        return Text(How.PREFIX, match.prefix)
    if match.regex is not None and match.regex != "*":
        return Text(How.REGEX, match.regex)
    return Text(How.ANY)


def _share(percent: api.Percent) -> int:
    """In millionths, to the nearest: Istio cuts off, which makes 0.57 percent a millionth less."""
    return round(percent.value * EVERY / 100)
