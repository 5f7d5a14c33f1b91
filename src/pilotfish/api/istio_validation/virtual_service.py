"""What Istio refuses of a VirtualService, and what it warns of (pkg/config/validation: ValidateVirtualService)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pilotfish.api.faults import duplicate, forbidden, invalid, required
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.hosts import covers, is_ip, overlap, sni_fault
from pilotfish.api.istio_validation.http_route import http_route, http_route_warnings
from pilotfish.api.istio_validation.routes import destination, gateway_name_warnings, gateway_names, weights
from pilotfish.api.istio_validation.unreachable import Match, Route, unreachable
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.destination import RouteDestination
from pilotfish.api.networking.virtual_service import (
    L4MatchAttributes,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    VirtualServiceSpec,
)
from pilotfish.api.one_of import one_of_faults

MESH = "mesh"
"""The gateway that stands for all sidecars."""

VIRTUAL_SERVICE_ISTIO_NEITHER = {
    "spec.http[].fault.delay.exponentialDelay": "refused, since Envoy has no such delay",
    "spec.http[].fault.abort.http2Error": "refused, since Envoy cannot abort with an HTTP/2 error",
    "spec.tcp[].match[].sourceSubnet": "nothing of Istio reads it",
}
"""Fields of a VirtualService that change nothing in Istio either, and why."""


def virtual_service(obj: VirtualService) -> Faults:
    """The faults of a VirtualService."""
    spec = obj.spec
    yield from one_of_faults(spec, "spec")
    for_gateways = bool(spec.gateways) and MESH not in spec.gateways
    if not spec.hosts:
        yield from _delegate(spec)
    yield from gateway_names("spec.gateways", spec.gateways)
    yield from _hosts(spec, for_gateways=for_gateways)
    if not (spec.http or spec.tls or spec.tcp):
        yield required("spec.http", "a VirtualService needs routes: http, tls or tcp")
    for position, http in enumerate(spec.http):
        yield from http_route(f"spec.http[{position}]", http, delegate=not spec.hosts, for_gateways=for_gateways)
    for position, tls in enumerate(spec.tls):
        yield from _tls_route(f"spec.tls[{position}]", tls, spec, for_gateways=for_gateways)
    for position, tcp in enumerate(spec.tcp):
        yield from _tcp_route(f"spec.tcp[{position}]", tcp)
    yield from values.export_to(obj.namespace, spec.export_to)


def virtual_service_warnings(obj: VirtualService) -> Faults:
    """What is valid and probably not what was meant."""
    spec = obj.spec
    yield from gateway_name_warnings("spec.gateways", spec.gateways)
    for position, http in enumerate(spec.http):
        yield from http_route_warnings(f"spec.http[{position}]", http)
    lists: tuple[tuple[str, Sequence[Route]], ...] = (("http", spec.http), ("tls", spec.tls), ("tcp", spec.tcp))
    for field, routes in lists:
        for number, route in enumerate(routes):
            matches: Sequence[Match] = route.match
            for position, match in enumerate(matches):
                yield from gateway_name_warnings(f"spec.{field}[{number}].match[{position}].gateways", match.gateways)
    for number, tls in enumerate(spec.tls):
        for position, tls_match in enumerate(tls.match):
            for place, host in enumerate(tls_match.sni_hosts):
                if is_ip(host):
                    where = f"spec.tls[{number}].match[{position}].sniHosts[{place}]"
                    yield values.warning(where, "clients do not send IP addresses as server names")
    yield from unreachable(spec)


def _delegate(spec: VirtualServiceSpec) -> Faults:
    why = "a VirtualService without hosts is a delegate, which has HTTP routes only; add hosts"
    for name, given in (("gateways", spec.gateways), ("tls", spec.tls), ("tcp", spec.tcp)):
        if given:
            yield forbidden(f"spec.{name}", why)


def _hosts(spec: VirtualServiceSpec, *, for_gateways: bool) -> Faults:
    server_names = for_gateways and any(match.sni_hosts for route in spec.tls for match in route.match)
    valid = True
    for position, host in enumerate(spec.hosts):
        fault = "" if is_ip(host) else sni_fault(host, gateway=server_names)
        if host == "*" and not for_gateways:
            fault = 'sidecars need to know the hosts; name them, such as "*.example.com", or list only gateways'
        if fault:
            valid = False
            yield invalid(f"spec.hosts[{position}]", host, fault)
    if valid:
        pairs = itertools.combinations(enumerate(spec.hosts), 2)
        for later in sorted({j for (_, one), (j, other) in pairs if overlap(one, other)}):
            yield duplicate(f"spec.hosts[{later}]", spec.hosts[later])


def _tls_route(path: str, route: TLSRoute, spec: VirtualServiceSpec, *, for_gateways: bool) -> Faults:
    if not route.match:
        yield required(f"{path}.match", "a TLS route needs the server names that it is for")
    for position, match in enumerate(route.match):
        where = f"{path}.match[{position}]"
        if not match.sni_hosts:
            yield required(f"{where}.sniHosts", "a TLS route needs the server names that it is for")
        for place, host in enumerate(match.sni_hosts):
            name = f"{where}.sniHosts[{place}]"
            if is_ip(host):
                continue
            if fault := sni_fault(host, gateway=for_gateways):
                yield invalid(name, host, fault)
            elif not any(covers(wide, host) for wide in spec.hosts):
                yield invalid(name, host, f"it is none of the VirtualService's hosts: {', '.join(spec.hosts)}")
        yield from _l4_match(where, match)
    yield from _destinations(f"{path}.route", route.route)


def _tcp_route(path: str, route: TCPRoute) -> Faults:
    for position, match in enumerate(route.match):
        yield from _l4_match(f"{path}.match[{position}]", match)
    yield from _destinations(f"{path}.route", route.route)


def _l4_match(path: str, match: TLSMatchAttributes | L4MatchAttributes) -> Faults:
    for position, subnet in enumerate(match.destination_subnets):
        yield from values.subnet(f"{path}.destinationSubnets[{position}]", subnet)
    if match.port:
        yield from values.port_number(f"{path}.port", match.port)
    yield from values.labels(f"{path}.sourceLabels", match.source_labels)
    yield from gateway_names(f"{path}.gateways", match.gateways)


def _destinations(path: str, targets: tuple[RouteDestination, ...]) -> Faults:
    if not targets:
        yield required(path, "a route needs destinations")
    for position, target in enumerate(targets):
        yield from destination(f"{path}[{position}].destination", target.destination)
    yield from weights(path, [target.weight for target in targets])
