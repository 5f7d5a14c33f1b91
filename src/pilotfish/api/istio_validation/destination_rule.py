"""What Istio refuses of a DestinationRule, and what it warns of (pkg/config/validation: ValidateDestinationRule)."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.api.faults import duplicate, forbidden, invalid, required, unsupported
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.connection_pool import connection_pool
from pilotfish.api.istio_validation.hosts import host_fault, subset_name
from pilotfish.api.istio_validation.load_balancer import load_balancer, load_balancer_warnings
from pilotfish.api.istio_validation.tls import client_tls
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.destination_rule import (
    DestinationRule,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
    TunnelSettings,
)
from pilotfish.api.one_of import one_of_faults

_POLICIES = ("spec.trafficPolicy", "spec.subsets[].trafficPolicy")
_PARTS = tuple(f"{policy}.{part}" for policy in _POLICIES for part in ("", "portLevelSettings[]."))
DESTINATION_RULE_ISTIO_NEITHER = {
    f"{part}outlierDetection.consecutiveErrors": "consecutiveGatewayErrors and consecutive5xxErrors took its place"
    for part in _PARTS
}
"""Fields of a DestinationRule that change nothing in Istio either, and why."""

_MOST_PORT_LEVEL_SETTINGS = 4096


def destination_rule(obj: DestinationRule) -> Faults:
    """The faults of a DestinationRule."""
    spec = obj.spec
    yield from one_of_faults(spec, "spec")
    if fault := host_fault(spec.host, wildcard=True):
        yield invalid("spec.host", spec.host, fault)
    if spec.traffic_policy:
        yield from _traffic_policy("spec.trafficPolicy", spec.traffic_policy, obj.namespace)
    seen: set[str] = set()
    for position, subset in enumerate(spec.subsets):
        where = f"spec.subsets[{position}]"
        if subset.name in seen:
            yield duplicate(f"{where}.name", subset.name)
        seen.add(subset.name)
        yield from subset_name(f"{where}.name", subset.name)
        yield from values.labels(f"{where}.labels", subset.labels)
        if subset.traffic_policy:
            yield from _traffic_policy(f"{where}.trafficPolicy", subset.traffic_policy, obj.namespace)
    yield from values.export_to(obj.namespace, spec.export_to)
    if spec.workload_selector:
        yield from values.selector("spec.workloadSelector.matchLabels", spec.workload_selector.match_labels)
        for position, target in enumerate(spec.export_to):
            if target not in (".", obj.namespace):
                why = 'a rule with a workloadSelector is for clients of its own namespace; leave it out, or say "."'
                yield forbidden(f"spec.exportTo[{position}]", why)


def destination_rule_warnings(obj: DestinationRule) -> Faults:
    """What is valid and probably not what was meant."""
    for path, policy in _policies(obj):
        outlier = policy.outlier_detection
        if policy.load_balancer:
            ejects = outlier is not None
            yield from load_balancer_warnings(f"{path}.loadBalancer", policy.load_balancer, ejects=ejects)
        if outlier and outlier.consecutive_errors:
            why = "this field is deprecated; use consecutiveGatewayErrors or consecutive5xxErrors"
            yield values.warning(f"{path}.outlierDetection.consecutiveErrors", why)
    if selector := obj.spec.workload_selector:
        yield from values.selects_all("spec.workloadSelector", selector.match_labels)


def _policies(obj: DestinationRule) -> Iterator[tuple[str, TrafficPolicy | PortTrafficPolicy]]:
    """Every traffic policy of a rule, with its path."""
    whole = [("spec.trafficPolicy", obj.spec.traffic_policy)]
    whole += [(f"spec.subsets[{n}].trafficPolicy", subset.traffic_policy) for n, subset in enumerate(obj.spec.subsets)]
    for path, policy in whole:
        if policy:
            yield path, policy
            yield from ((f"{path}.portLevelSettings[{n}]", port) for n, port in enumerate(policy.port_level_settings))


def _traffic_policy(path: str, policy: TrafficPolicy, namespace: str) -> Faults:
    if policy == TrafficPolicy():
        yield required(path, "a traffic policy that says nothing has no effect; leave it out")
    if policy.tunnel and policy.proxy_protocol:
        yield forbidden(f"{path}.proxyProtocol", "tunnel is set already; give one of them")
    yield from _common(path, policy, namespace)
    if len(policy.port_level_settings) > _MOST_PORT_LEVEL_SETTINGS:
        why = f"at most {_MOST_PORT_LEVEL_SETTINGS} ports can have settings"
        yield invalid(f"{path}.portLevelSettings", len(policy.port_level_settings), why)
    for position, port in enumerate(policy.port_level_settings):
        where = f"{path}.portLevelSettings[{position}]"
        if port.port is None:
            yield required(f"{where}.port", "say which port the settings are for")
        else:
            yield from values.port_number(f"{where}.port.number", port.port.number)
        if port == PortTrafficPolicy(port=port.port):
            yield required(where, "settings that say nothing have no effect; leave them out")
        yield from _common(where, port, namespace)
    if policy.tunnel:
        yield from _tunnel(f"{path}.tunnel", policy.tunnel)
    if policy.retry_budget:
        yield from values.duration(f"{path}.retryBudget.budgetInterval", policy.retry_budget.budget_interval)


def _common(path: str, policy: TrafficPolicy | PortTrafficPolicy, namespace: str) -> Faults:
    """What the policy of a host and that of a port have in common."""
    if policy.outlier_detection:
        yield from outlier_detection(f"{path}.outlierDetection", policy.outlier_detection)
    yield from connection_pool(f"{path}.connectionPool", policy.connection_pool)
    if policy.load_balancer:
        yield from load_balancer(f"{path}.loadBalancer", policy.load_balancer)
    if policy.tls:
        yield from client_tls(f"{path}.tls", policy.tls, namespace)


def outlier_detection(path: str, outlier: OutlierDetection) -> Faults:
    """The faults of outlier detection."""
    yield from values.duration(f"{path}.interval", outlier.interval)
    yield from values.duration(f"{path}.baseEjectionTime", outlier.base_ejection_time)
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        why = "failures of local origin are counted apart only with splitExternalLocalOriginErrors: true"
        yield forbidden(f"{path}.consecutiveLocalOriginFailures", why)
    yield from values.percentage(f"{path}.maxEjectionPercent", outlier.max_ejection_percent)
    yield from values.percentage(f"{path}.minHealthPercent", outlier.min_health_percent)


def _tunnel(path: str, tunnel: TunnelSettings) -> Faults:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        yield unsupported(f"{path}.protocol", tunnel.protocol, ("CONNECT", "POST"))
    yield from values.host_or_ip(f"{path}.targetHost", tunnel.target_host)
    yield from values.port_number(f"{path}.targetPort", tunnel.target_port)
