"""What `x describe` says of a pod and of a service, line by line, from a snapshot of all objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.core import Service, ServicePort
from pilotfish.api.networking import Gateway
from pilotfish.api.pods import Pod
from pilotfish.cli.meshdescribe import concerning, rules
from pilotfish.cli.meshdescribe.rules import STEP, Labels, Subsets, name_of
from pilotfish.mesh.protocols import Protocol, select

RULE = "--------------------"
REQUIREMENTS = "https://istio.io/latest/docs/ops/deployment/requirements/"
PROXY_USER = 1337
_REVISION, _STATUS = "istio.io/rev", "sidecar.istio.io/status"
_NAMES = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_VERSIONS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
_SCHEMES = {Protocol.HTTP: ("http", 80), Protocol.HTTP2: ("http", 80)}
_EXPOSED = frozenset({"http", "http2"})


def pod(snapshot: Snapshot, of: Pod, namespace: str, *, ignore_unmeshed: bool = False) -> Iterator[str]:
    """A pod, the Services that select it with their rules, and where it is reached from outside."""
    yield from _pod(of, namespace, ignore_unmeshed=ignore_unmeshed)
    services = concerning.services_of(snapshot, of)
    if not services and not ignore_unmeshed:
        yield f"Warning: No Kubernetes Services select pod {name_of(of, namespace)} (see {REQUIREMENTS})"
    labels = [of.metadata.labels]
    yield RULE
    for position, service in enumerate(services):
        if position:
            yield RULE
        yield from _service(snapshot, service, of, labels, namespace)
    yield from _ingress(snapshot, services, labels, namespace)


def service(snapshot: Snapshot, of: Service, namespace: str) -> Iterator[str]:
    """A service as its pods see it, with its rules, and where it is reached from outside."""
    pods = concerning.pods_of(snapshot, of)
    meshed = []
    for one in pods:
        if one.status.phase != "Running":
            yield f"{STEP}Pod {name_of(one, namespace)} is not Running ({one.status.phase})"
        elif not concerning.has_proxy(one):
            yield f"Pod {name_of(one, namespace)}: no container {concerning.PROXY}"
        elif any(s.name == concerning.PROXY and not s.ready for s in one.status.container_statuses):
            yield f"WARNING: Pod {name_of(one, namespace)} Container {concerning.PROXY} NOT READY"
        else:
            meshed.append(one)
    if not pods:
        yield f'Service "{name_of(of, namespace)}" has no pods.'
    elif not meshed:
        yield f'Service "{name_of(of, namespace)}" has no Istio pods.  ({len(pods)} pods in service).'
        yield "Label its namespace or its pods for injection, and restart them."
    else:
        labels = [one.metadata.labels for one in meshed]
        yield from _service(snapshot, of, meshed[0], labels, namespace)
        yield from _ingress(snapshot, [of], labels, namespace)


def _pod(of: Pod, namespace: str, *, ignore_unmeshed: bool) -> Iterator[str]:
    name = name_of(of, namespace)
    ports = [
        f"{port.container_port}{'' if port.protocol == 'TCP' else f'/{port.protocol}'} ({container.name})"
        for container in of.spec.containers
        for port in container.ports
    ]
    for container in of.spec.containers:
        context = container.security_context
        if container.name != concerning.PROXY and context is not None and context.run_as_user == PROXY_USER:
            yield f"WARNING: User ID (UID) {PROXY_USER} is reserved for the sidecar proxy."
    yield f"Pod: {name}"
    yield f"{STEP}Pod Revision: {_revision(of)}"
    yield f"{STEP}Pod Ports: {', '.join(ports)}" if ports else f"{STEP}Pod does not expose ports"
    if of.status.phase != "Running":
        yield f"{STEP}Pod is not Running ({of.status.phase})"
        return
    for kind, statuses in (("", of.status.container_statuses), ("Init ", of.status.init_container_statuses)):
        for status in statuses:
            if not status.ready:
                yield f"WARNING: Pod {name} {kind}Container {status.name} NOT READY"
    if ignore_unmeshed:
        return
    if not concerning.has_proxy(of):
        yield f"WARNING: {name} is not part of mesh; no Istio sidecar"
        return
    for what, known in (("name", _NAMES), ("revision", _VERSIONS)):
        if not any(of.metadata.labels.get(label) for label in known):
            yield f"Suggestion: add required service {what} label for Istio telemetry. See {REQUIREMENTS}."


def _revision(of: Pod) -> str:
    annotations = of.metadata.annotations
    if _REVISION in annotations:
        return annotations[_REVISION]
    try:
        status = msgspec.json.decode(annotations.get(_STATUS, "{}"))
    except msgspec.DecodeError:
        return ""
    return str(status.get("revision", "")) if isinstance(status, dict) else ""


def _service(
    snapshot: Snapshot, of: Service, seen_from: Pod, labels: Sequence[Labels], namespace: str
) -> Iterator[str]:
    yield f"Service: {name_of(of, namespace)}"
    for port in of.spec.ports:
        if port.protocol != "TCP":
            continue
        target = concerning.target_port(seen_from, port)
        if target is None:
            yield f"{STEP}Port: {port.name} {port.port} targets {port.target_port}, which no container of the pod has"
        else:
            yield f"{STEP}Port: {port.name} {port.port}/{_protocol(port)} targets pod port {target}"
    subsets = Subsets.of(concerning.destination_rule(snapshot, of), labels)
    yield from rules.destination_rule(subsets, namespace)
    for found in concerning.virtual_services(snapshot, of):
        yield from rules.virtual_service(found, concerning.host_of(of), subsets, namespace)


def _protocol(port: ServicePort) -> str:
    found = select(port.port, port.name, port.protocol, port.app_protocol)
    return "auto-detect" if found is Protocol.AUTO else str(found)


def _ingress(
    snapshot: Snapshot, services: Sequence[Service], labels: Sequence[Labels], namespace: str
) -> Iterator[str]:
    """Where services are reached from outside, and by which VirtualServices."""
    if not concerning.ingress_pods(snapshot):
        yield RULE
        yield "Skipping Gateway information (no ingress gateway pods)"
        return
    for of in services:
        subsets = Subsets.of(concerning.destination_rule(snapshot, of), labels)
        for found in concerning.routing_to(snapshot, of):
            exposed = [one for gateway in concerning.gateways(snapshot, found) for one in _exposed(snapshot, gateway)]
            if exposed:
                yield RULE
                yield from dict.fromkeys(exposed)
                yield from rules.virtual_service(found, concerning.host_of(of), subsets, namespace)


def _exposed(snapshot: Snapshot, gateway: Gateway) -> Iterator[str]:
    for front, behind in concerning.exposing(snapshot, gateway):
        for port in front.spec.ports:
            scheme, usual = _SCHEMES.get(select(port.port, port.name, port.protocol, port.app_protocol), ("", 0))
            if port.name not in _EXPOSED or not scheme or concerning.target_port(behind, port) is None:
                continue
            suffix = "" if port.port == usual else f":{port.port}"
            yield f"Exposed on Ingress Gateway {scheme}://{_address(front, behind)}{suffix}"


def _address(front: Service, behind: Pod) -> str:
    given = [one.ip or one.hostname for one in front.status.load_balancer.ingress]
    return next(filter(None, [*given, behind.status.host_ip]), "unknown")
