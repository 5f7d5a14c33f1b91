"""Which addresses a Service has: from its selector and its pods' states (kubernetes pkg/controller/endpointslice).

Pure. `endpoint_groups` says what is wanted, `slice_writes` how to get there with the fewest writes, `endpoints_subsets`
the same in the form of the older Endpoints object.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from pilotfish.api.core import CoreEndpointPort, EndpointAddress, EndpointSubset, Service, ServicePort
from pilotfish.api.discovery import (
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from pilotfish.api.kinds import ENDPOINT_SLICE, SERVICE
from pilotfish.api.meta import Document, ObjectReference
from pilotfish.api.pods import Pod
from pilotfish.controllers.ownership import controller_reference
from pilotfish.controllers.pods import ENDED
from pilotfish.controllers.writes import Create, Delete, Patch, Write, merge_difference

MANAGER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
MOST_ENDPOINTS = 100
"""Endpoints in one slice, at most."""

Ports = tuple[EndpointPort, ...]
Group = tuple[str, Ports]
"""What all endpoints of one slice share: the address type ("IPv4", "IPv6") and the ports."""


def has_endpoints(service: Service) -> bool:
    """Whether the Service's endpoints are ours to find: not where it is an alias or someone else lists them."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def endpoint_groups(service: Service, pods: Iterable[Pod]) -> dict[Group, list[Endpoint]]:
    """The endpoints of a Service among the pods that its selector finds, by what they share; sorted by address."""
    groups: dict[Group, list[Endpoint]] = {}
    for pod in pods:
        if pod.status.phase in ENDED:
            continue
        ports = tuple(p for p in (_port(port, pod) for port in service.spec.ports) if p is not None)
        for family, address in _addresses(service, pod):
            groups.setdefault((family, ports), []).append(_endpoint(service, pod, address))
    for endpoints in groups.values():
        endpoints.sort(key=lambda e: ipaddress.ip_address(e.addresses[0]).packed)
    return groups


def _addresses(service: Service, pod: Pod) -> Iterable[tuple[str, str]]:
    own = [entry.ip for entry in pod.status.pod_ips] or ([pod.status.pod_ip] if pod.status.pod_ip else [])
    for family in service.spec.ip_families or ("IPv4",):
        version = 6 if family == "IPv6" else 4
        address = next((a for a in own if ipaddress.ip_address(a).version == version), None)
        if address:
            yield family, address


def _port(port: ServicePort, pod: Pod) -> EndpointPort | None:
    """A Service's port as this pod has it; a named target is looked up among the pod's container ports."""
    number: int | None
    if isinstance(port.target_port, str):
        number = next(
            (
                p.container_port
                for container in pod.spec.containers
                for p in container.ports
                if p.name == port.target_port and p.protocol == port.protocol
            ),
            None,
        )
    else:
        number = port.target_port or port.port
    if number is None:
        return None
    return EndpointPort(name=port.name, protocol=port.protocol, port=number, app_protocol=port.app_protocol)


def _endpoint(service: Service, pod: Pod, address: str) -> Endpoint:
    terminating = pod.metadata.deletion_timestamp is not None
    named = pod.spec.hostname and pod.spec.subdomain == service.name
    return Endpoint(
        addresses=(address,),
        conditions=EndpointConditions(
            ready=service.spec.publish_not_ready_addresses or (pod.ready and not terminating),
            serving=pod.ready,
            terminating=terminating,
        ),
        hostname=pod.spec.hostname if named else "",
        node_name=pod.spec.node_name or None,
        target_ref=ObjectReference(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.metadata.uid),
    )


def slice_writes(
    service: Service, wanted: Mapping[Group, Sequence[Endpoint]], slices: Sequence[EndpointSlice]
) -> list[Write[EndpointSlice]]:
    """What turns the Service's slices into the wanted ones.

    An endpoint stays in the slice that it is in; new ones fill what is written anyway, then what has room. A Service
    without endpoints keeps one empty slice, so that its consumers know it from one that nobody looked at yet.
    """
    groups = dict(wanted) or {(family, ()): () for family in service.spec.ip_families or ("IPv4",)}
    writes: list[Write[EndpointSlice]] = []
    for group, endpoints in groups.items():
        own = [held for held in slices if (held.address_type, held.ports) == group]
        writes.extend(_group_writes(service, group, endpoints, own))
    # Last, so that no endpoint is missing while it moves from one slice to another.
    writes.extend(Delete(held) for held in slices if (held.address_type, held.ports) not in groups)
    return writes


def _identity(endpoint: Endpoint) -> tuple[str, tuple[str, ...]]:
    return endpoint.target_ref.uid if endpoint.target_ref else "", endpoint.addresses


def _group_writes(
    service: Service, group: Group, endpoints: Sequence[Endpoint], slices: Sequence[EndpointSlice]
) -> list[Write[EndpointSlice]]:
    left = {_identity(endpoint): endpoint for endpoint in endpoints}
    contents: list[list[Endpoint]] = []
    for held in slices:
        kept = [left.pop(_identity(e), None) for e in held.endpoints]
        contents.append([e for e in kept if e is not None])
    touched = [tuple(content) != held.endpoints for content, held in zip(contents, slices, strict=True)]
    new = list(left.values())
    # Slices that are written anyway are filled first, and the fullest of the others before the emptier ones.
    for position in sorted(range(len(slices)), key=lambda i: (not touched[i], -len(contents[i]))):
        room = MOST_ENDPOINTS - len(contents[position])
        contents[position] += new[:room]
        new = new[room:]
    writes: list[Write[EndpointSlice]] = []
    spare = not endpoints
    for held, content in zip(slices, contents, strict=True):
        if not content and not spare:
            writes.append(Delete(held))
            continue
        spare = spare and bool(content)
        # A typed object leaves empty lists out when it is written down.
        current = {"endpoints": [], "ports": [], **msgspec.to_builtins(held)}
        patch = merge_difference(_slice(service, group, content), current)
        if patch:
            writes.append(Patch(held, patch))
    rows = [new[i : i + MOST_ENDPOINTS] for i in range(0, len(new), MOST_ENDPOINTS)]
    if not slices and not rows:
        rows = [[]]
    writes.extend(Create(_new_slice(service, group, row)) for row in rows)
    return writes


def _slice(service: Service, group: Group, endpoints: Sequence[Endpoint]) -> Document:
    """What a slice must say; its identity is apart from that."""
    labels = dict(service.metadata.labels)
    if service.headless:
        labels[HEADLESS_LABEL] = ""
    labels |= {SERVICE_NAME_LABEL: service.name, MANAGED_BY_LABEL: MANAGER}
    document: Document = {"metadata": {"labels": labels}}
    content = EndpointSlice(address_type=group[0], endpoints=tuple(endpoints), ports=group[1])
    built = msgspec.to_builtins(content)
    return {**document, "endpoints": built.get("endpoints", []), "ports": built.get("ports", [])}


def _new_slice(service: Service, group: Group, endpoints: Sequence[Endpoint]) -> Document:
    document = _slice(service, group, endpoints)
    metadata: dict[str, Any] = {
        "generateName": f"{service.name}-",
        "namespace": service.namespace,
        "labels": document["metadata"]["labels"],
        "ownerReferences": [msgspec.to_builtins(controller_reference(SERVICE, service))],
    }
    return {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "addressType": group[0],
        **document,
        "metadata": metadata,
    }


def endpoints_subsets(wanted: Mapping[Group, Sequence[Endpoint]]) -> tuple[EndpointSubset, ...]:
    """The content of the Service's Endpoints object: those of the first address family that are not leaving."""
    families = [family for family, _ in wanted]
    subsets: list[EndpointSubset] = []
    for (family, ports), endpoints in wanted.items():
        if family != families[0]:
            continue
        ready = [e for e in endpoints if e.conditions.ready]
        waiting = [e for e in endpoints if not e.conditions.ready and not e.conditions.terminating]
        if ready or waiting:
            subset = EndpointSubset(
                addresses=tuple(map(_address, ready)),
                not_ready_addresses=tuple(map(_address, waiting)),
                ports=tuple(
                    CoreEndpointPort(port=p.port, name=p.name, protocol=p.protocol, app_protocol=p.app_protocol)
                    for p in ports
                    if p.port is not None
                ),
            )
            subsets.append(subset)
    return tuple(subsets)


def _address(endpoint: Endpoint) -> EndpointAddress:
    return EndpointAddress(
        ip=endpoint.addresses[0],
        hostname=endpoint.hostname,
        node_name=endpoint.node_name,
        target_ref=endpoint.target_ref,
    )
