"""Which objects concern a service: found among the objects themselves.

istioctl finds them in the configuration of the pod's Envoy. A proxy on demand has no cluster of its own service unless
its workload calls itself, so that would show nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilotfish.analysis.hosts import EVERYWHERE, matches, qualified, scopes_of
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.analysis.virtualservice import MESH, targets
from pilotfish.api.core import Service, ServicePort
from pilotfish.api.kinds import DESTINATION_RULE, GATEWAY, POD, SERVICE, VIRTUAL_SERVICE
from pilotfish.api.networking import DestinationRule, Gateway, VirtualService
from pilotfish.api.pods import Container, Pod
from pilotfish.api.selectors import matches_labels

PROXY = "istio-proxy"
_INGRESS = {"istio": "ingressgateway"}


def host_of(service: Service) -> str:
    return qualified(service.name, service.namespace)


def services_of(snapshot: Snapshot, pod: Pod) -> list[Service]:
    """The Services that select a pod."""
    return [
        service
        for service in snapshot.of(SERVICE)
        if service.namespace == pod.namespace and matches_labels(service.spec.selector, pod.metadata.labels)
    ]


def pods_of(snapshot: Snapshot, service: Service) -> list[Pod]:
    """The pods that a Service selects."""
    return [
        pod
        for pod in snapshot.of(POD)
        if pod.namespace == service.namespace and matches_labels(service.spec.selector, pod.metadata.labels)
    ]


def destination_rule(snapshot: Snapshot, service: Service) -> DestinationRule | None:
    """The rule that counts for a service in its own namespace; exact hosts and its namespace come first."""
    host = host_of(service)
    found = [
        rule
        for rule in snapshot.of(DESTINATION_RULE)
        if matches(qualified(rule.spec.host, rule.namespace), host)
        and not scopes_of(rule.spec.export_to, rule.namespace).isdisjoint({EVERYWHERE, service.namespace})
    ]
    return min(
        found, key=lambda rule: (rule.spec.host.startswith("*"), rule.namespace != service.namespace), default=None
    )


def virtual_services(snapshot: Snapshot, service: Service) -> list[VirtualService]:
    """Those for sidecars that are about a service's host."""
    host = host_of(service)
    return [
        found
        for found in snapshot.of(VIRTUAL_SERVICE)
        if (not found.spec.gateways or MESH in found.spec.gateways)
        and any(matches(qualified(name, found.namespace), host) for name in found.spec.hosts)
    ]


def routing_to(snapshot: Snapshot, service: Service) -> list[VirtualService]:
    """Those of which a destination is a service."""
    host = host_of(service)
    return [
        found
        for found in snapshot.of(VIRTUAL_SERVICE)
        if any(qualified(target.destination.host, found.namespace) == host for target in targets(found))
    ]


def gateways(snapshot: Snapshot, virtual_service: VirtualService) -> list[Gateway]:
    """The Gateways that a VirtualService is for, as far as there are such."""
    found = []
    for name in virtual_service.spec.gateways:
        namespace, slash, short = name.rpartition("/")
        gateway = snapshot.find(GATEWAY, namespace if slash else virtual_service.namespace, short)
        if gateway is not None:
            found.append(gateway)
    return found


def ingress_pods(snapshot: Snapshot) -> list[Pod]:
    """The pods of ingress gateways that run."""
    return [
        pod
        for pod in snapshot.of(POD)
        if matches_labels(_INGRESS, pod.metadata.labels) and pod.status.phase == "Running"
    ]


def exposing(snapshot: Snapshot, gateway: Gateway) -> list[tuple[Service, Pod]]:
    """The Services in front of the ingress pods that serve a Gateway, each with one of its pods."""
    pods = [pod for pod in ingress_pods(snapshot) if _selects(gateway.spec.selector, pod.metadata.labels)]
    first: dict[tuple[str, str], tuple[Service, Pod]] = {}
    for pod in pods:
        for service in services_of(snapshot, pod):
            first.setdefault(service.key, (service, pod))
    return list(first.values())


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return not selector or matches_labels(selector, labels)


def target_port(pod: Pod, port: ServicePort) -> int | None:
    """The port of a pod that a service's port leads to; None where the pod has no port of that name."""
    target = port.target_port or port.port
    if isinstance(target, int):
        return target
    return next((p.container_port for c in _containers(pod) for p in c.ports if p.name == target), None)


def has_proxy(pod: Pod) -> bool:
    return any(container.name == PROXY for container in _containers(pod))


def _containers(pod: Pod) -> Iterable[Container]:
    return (*pod.spec.containers, *pod.spec.init_containers)
