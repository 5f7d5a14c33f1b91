"""DestinationRules and VirtualServices in words, as they concern certain pods (istioctl/pkg/describe)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pilotfish.analysis.hosts import qualified
from pilotfish.api.meta import Object
from pilotfish.api.networking import DestinationRule, VirtualService
from pilotfish.api.networking.destination_rule import PortTrafficPolicy, TrafficPolicy
from pilotfish.api.networking.http_route import HTTPFaultInjection, HTTPMatchRequest, HTTPRoute, StringMatch

STEP = "   "

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Subsets:
    """The subsets of a rule, by whether any of the pods is in them; `rule` is None where there is none."""

    matching: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    rule: DestinationRule | None = None

    @staticmethod
    def of(rule: DestinationRule | None, pods: Sequence[Labels]) -> Subsets:
        if rule is None:
            return Subsets()
        held = {
            subset.name: any(subset.labels.items() <= labels.items() for labels in pods) for subset in rule.spec.subsets
        }
        matching = tuple(name for name, matches in held.items() if matches)
        return Subsets(matching, tuple(name for name in held if name not in matching), rule)


def name_of(obj: Object, namespace: str) -> str:
    """An object's name, with its namespace where that is not the one that goes without saying."""
    return obj.name if obj.namespace == namespace else f"{obj.name}.{obj.namespace}"


def destination_rule(subsets: Subsets, namespace: str) -> Iterator[str]:
    """The lines about a rule, if there is one."""
    rule = subsets.rule
    if rule is None:
        return
    yield f'DestinationRule: {name_of(rule, namespace)} for "{rule.spec.host}"'
    if rule.spec.subsets:
        if not subsets.matching:
            yield f"{STEP}WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets {','.join(subsets.others)})"
        yield f"{STEP}Matching subsets: {','.join(subsets.matching)}"
        if subsets.others:
            yield f"{STEP * 2}(Non-matching subsets {','.join(subsets.others)})"
    policy = rule.spec.traffic_policy
    if policy is None:
        yield f"{STEP}No Traffic Policy"
        return
    if policy.tls is not None:
        yield f"{STEP}Traffic Policy TLS Mode: {policy.tls.mode}"
    yield from _policies(policy, STEP)
    if policy.port_level_settings:
        yield f"{STEP}Port Level Settings:"
        for port in policy.port_level_settings:
            yield f"{STEP} {port.port.number if port.port is not None else 0}:"
            if port.tls is not None:
                yield f"{STEP * 2}TLS Mode: {port.tls.mode}"
            yield from _policies(port, STEP * 2)


def _policies(policy: TrafficPolicy | PortTrafficPolicy, indent: str) -> Iterator[str]:
    parts = {
        "load balancer": policy.load_balancer,
        "connection pool": policy.connection_pool,
        "outlier detection": policy.outlier_detection,
    }
    set_ = [name for name, value in parts.items() if value is not None]
    if set_:
        yield f"{indent}Policies: {'/'.join(set_)}"


def virtual_service(found: VirtualService, host: str, subsets: Subsets, namespace: str) -> Iterator[str]:
    """The lines about a VirtualService as it concerns a host and the pods of certain subsets."""
    yield f"VirtualService: {name_of(found, namespace)}"
    spec = found.spec
    matched, facts, mismatches = 0, 0, []
    for http in spec.http:
        reaches, lines = _http_route(found, http, host, subsets, namespace)
        matched += reaches
        if reaches:
            facts += len(lines)
            yield from (f"{STEP}{line}" for line in lines)
        else:
            mismatches += lines
    below_http = [route.route for route in spec.tls] + [route.route for route in spec.tcp]
    matched += sum(
        any(qualified(one.destination.host, found.namespace) == host for one in route) for route in below_http
    )
    routes = len(spec.http) + len(spec.tls) + len(spec.tcp)
    if not matched:
        for kind, count in (("HTTP", len(spec.http)), ("TLS", len(spec.tls)), ("TCP", len(spec.tcp))):
            if count:
                yield f"{STEP}WARNING: No destinations match pod subsets (checked {count} {kind} routes)"
        yield from (f"{STEP * 2}{line}" for line in mismatches)
    elif matched < routes:
        yield f"{STEP}{routes - matched} additional destination(s) that will not reach this pod"
        if not facts:
            yield from (f"{STEP * 2}{line}" for line in mismatches)
    elif not facts:
        for kind, count in (("HTTP", len(spec.http)), ("TLS", len(spec.tls)), ("TCP", len(spec.tcp))):
            if count:
                yield f"{STEP}{count} {kind} route(s)"


def _http_route(
    found: VirtualService, http: HTTPRoute, host: str, subsets: Subsets, namespace: str
) -> tuple[bool, list[str]]:
    """Whether a route reaches the pods, and what is to be said of it."""
    facts: list[str] = []
    mismatches: list[str] = []
    reaches = False
    for one in http.route:
        destination = one.destination
        if qualified(destination.host, found.namespace) != host:
            other = f'Route to host "{destination.host}"'
            facts.append(f"{other} with weight {one.weight}%" if one.weight else other)
        elif destination.subset in subsets.others:
            mismatches.append(f"Route to non-matching subset {destination.subset} for ({_matches(http.match)})")
        elif destination.subset and destination.subset not in subsets.matching:
            mismatches.append(_unknown(destination.subset, subsets.rule, namespace))
        else:
            reaches = True
            if one.weight:
                subset = f' subset "{destination.subset}"' if destination.subset else ""
                facts.append(f'Route to host "{destination.host}"{subset} with weight {one.weight}%')
    if not reaches:
        return False, facts + mismatches if mismatches else facts
    conditions = [_fault(http.fault)] if http.fault is not None else []
    conditions += map(match_text, http.match)
    return True, [*facts, *([", ".join(conditions)] if conditions else ())]


def _unknown(subset: str, rule: DestinationRule | None, namespace: str) -> str:
    if rule is None:
        return f"Warning: Route to subset {subset} but NO DESTINATION RULE defining subsets!"
    return f"Warning: Route to UNKNOWN subset {subset}; check DestinationRule {name_of(rule, namespace)}"


def _fault(fault: HTTPFaultInjection) -> str:
    parts = []
    if fault.delay is not None:
        share = fault.delay.percentage.value if fault.delay.percentage is not None else fault.delay.percent or 100
        parts.append(f"delay {fault.delay.fixed_delay} for {share:g}%")
    if fault.abort is not None:
        share = fault.abort.percentage.value if fault.abort.percentage is not None else 100
        status = fault.abort.http_status or fault.abort.grpc_status or fault.abort.http2_error
        parts.append(f"abort {status} for {share:g}%")
    return f"Fault injection {', '.join(parts)}"


def _matches(matches: Sequence[HTTPMatchRequest]) -> str:
    return ", ".join(map(match_text, matches)) or "everything"


def match_text(match: HTTPMatchRequest) -> str:
    """A match in short: its path and its headers."""
    uncased = " uncased" if match.ignore_uri_case else ""
    path = f"{_text(match.uri)}{uncased}" if match.uri is not None else ""
    headers = "; ".join(f"{name}={_text(value)}" for name, value in match.headers.items())
    when = f" when headers are {headers}" if headers else ""
    return f"Match: {path}{when}".strip()


def _text(match: StringMatch) -> str:
    if match.exact is not None:
        return match.exact
    return f"{match.prefix}*" if match.prefix is not None else f"regex {match.regex}" if match.regex else "*"
