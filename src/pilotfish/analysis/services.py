"""Services, the Deployments behind them, and ServiceEntries: ports and protocols that do not go together."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.analysis import messages
from pilotfish.analysis.hosts import EVERYWHERE, scopes_of
from pilotfish.analysis.injection import in_mesh
from pilotfish.analysis.messages import Message, full_name
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.apps import Deployment
from pilotfish.api.core import Service
from pilotfish.api.kinds import DEPLOYMENT, POD, SERVICE, SERVICE_ENTRY
from pilotfish.api.meta import Object
from pilotfish.api.networking import ServiceEntry
from pilotfish.api.pods import PodSpec
from pilotfish.api.selectors import matches_labels
from pilotfish.mesh.protocols import Protocol, select

PROXY = "istio-proxy"
PROXY_USER = 1337
_SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "istio-system"})
_MANAGED = "gateway.istio.io/managed"
_CAPTURE, _ALLOCATE = "ISTIO_META_DNS_CAPTURE", ("ISTIO_META_DNS_AUTO_ALLOCATE", "PILOT_ENABLE_IP_AUTOALLOCATE")


def port_names(snapshot: Snapshot) -> Iterator[Message]:
    """Ports that do not tell their protocol."""
    for obj in snapshot.of(SERVICE):
        if obj.namespace in _SYSTEM_NAMESPACES or _of_control_plane(obj) or _MANAGED in obj.metadata.labels:
            continue
        external = obj.spec.type == "ExternalName"
        for position, port in enumerate(obj.spec.ports):
            protocol = select(port.port, port.name, port.protocol, port.app_protocol)
            if protocol is not Protocol.AUTO and not (external and port.name == "tcp"):
                continue
            at = ("spec", "ports", position, "port")
            if external:
                yield messages.EXTERNAL_NAME_PORT.about(obj, at=at)
            else:
                about = port.name, port.port, port.target_port
                yield messages.PORT_NAME_CONVENTION.about(obj, *about, at=at)


def _of_control_plane(obj: Object) -> bool:
    labels = obj.metadata.labels
    return "istio" in labels or labels.get("release") == "istio"


def deployments(snapshot: Snapshot) -> Iterator[Message]:
    """Deployments whose Services disagree about a port."""
    for obj in snapshot.of(DEPLOYMENT):
        template = obj.spec.template
        if not in_mesh(snapshot, obj.namespace, template.metadata.labels, template.metadata.annotations, template.spec):
            continue
        services = [
            service
            for service in snapshot.of(SERVICE)
            if service.namespace == obj.namespace and matches_labels(service.spec.selector, template.metadata.labels)
        ]
        yield from _protocols(obj, services)
        yield from _target_ports(obj, services)


def _protocols(deployment: Deployment, services: list[Service]) -> Iterator[Message]:
    users: dict[int, dict[str, list[str]]] = {}
    for service in services:
        for port in service.spec.ports:
            users.setdefault(port.port, {}).setdefault(port.protocol, []).append(full_name(service))
    for number, protocols in sorted(users.items()):
        if len(protocols) > 1:
            names = sorted({name for found in protocols.values() for name in found})
            arguments = deployment.name, number, names
            yield messages.DEPLOYMENT_OF_MULTIPLE_SERVICES.about(deployment, *arguments, at=("metadata", "name"))


def _target_ports(deployment: Deployment, services: list[Service]) -> Iterator[Message]:
    users: dict[str, dict[int, str]] = {}
    for service in services:
        for port in service.spec.ports:
            users.setdefault(str(port.target_port or port.port), {})[port.port] = full_name(service)
    for target, found in sorted(users.items()):
        if len(found) > 1:
            arguments = deployment.name, sorted(found.values()), target, sorted(found)
            yield messages.DEPLOYMENT_CONFLICTING_PORTS.about(deployment, *arguments, at=("metadata", "name"))


def application_users(snapshot: Snapshot) -> Iterator[Message]:
    """Applications that run as the proxy's user."""
    found: list[tuple[Object, PodSpec]] = [(pod, pod.spec) for pod in snapshot.of(POD)]
    found += [(deployment, deployment.spec.template.spec) for deployment in snapshot.of(DEPLOYMENT)]
    for obj, spec in found:
        own = spec.security_context if isinstance(spec.security_context, dict) else {}
        users = [own.get("runAsUser")]
        users += [
            container.security_context.run_as_user
            for container in spec.containers
            if container.name != PROXY and container.security_context is not None
        ]
        if PROXY_USER in users and not _of_control_plane(obj):
            yield messages.INVALID_APPLICATION_UID.about(obj)


def addresses(snapshot: Snapshot) -> Iterator[Message]:
    """ServiceEntries with TCP ports and no address."""
    proxy = snapshot.mesh.default_config
    if proxy.switched_on(_CAPTURE) and any(proxy.switched_on(name) for name in _ALLOCATE):
        return
    for obj in snapshot.of(SERVICE_ENTRY):
        if obj.spec.addresses or obj.status.addresses:
            continue
        for position, port in enumerate(obj.spec.ports):
            if port.protocol.upper() in ("", "TCP"):
                yield messages.SERVICE_ENTRY_ADDRESSES_REQUIRED.about(obj, at=("spec", "ports", position, "name"))


def entry_protocols(snapshot: Snapshot) -> Iterator[Message]:
    """ServiceEntries that give one port of one host several protocols."""
    users: dict[tuple[str, str, int], list[tuple[str, ServiceEntry]]] = {}
    for obj in snapshot.of(SERVICE_ENTRY):
        for scope in scopes_of(obj.spec.export_to, obj.namespace):
            for host in obj.spec.hosts:
                for port in obj.spec.ports:
                    users.setdefault((scope, host, port.number), []).append((port.protocol.upper(), obj))
    reported: set[tuple[str, str]] = set()
    for (scope, host, number), own in sorted(users.items(), key=lambda one: one[0]):
        found = [*own, *(users.get((EVERYWHERE, host, number), ()) if scope != EVERYWHERE else ())]
        protocols = sorted({protocol for protocol, _ in found})
        if len(protocols) < 2:
            continue
        names = ", ".join(sorted({full_name(obj) for _, obj in found}))
        for _, obj in found:
            if obj.key not in reported:
                reported.add(obj.key)
                about = names, host, number, ", ".join(protocols)
                yield messages.CONFLICTING_SERVICE_ENTRY_PROTOCOL.about(obj, *about, at=("metadata", "name"))
