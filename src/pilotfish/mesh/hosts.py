"""How what several objects say of one host becomes one host, and which of several hosts of one name a proxy sees."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from pilotfish.mesh.records import (
    Endpoint,
    Host,
    Labels,
    PortKey,
    Registry,
    Resolution,
    Secured,
    Service,
    ServicePort,
    Workload,
    WorkloadKey,
    WorkloadKind,
    labels_of,
)
from pilotfish.mesh.translate import UNIX, Declaration, Slice

Declared = tuple[Declaration, Sequence[Workload]]
"""A declaration, with the workloads that its selector selects."""
TakesMutualTls = Callable[[Workload, int], bool]
"""Whether a workload's proxy takes the mesh's mutual TLS at a port."""


def assemble(
    declared: Iterable[Declared],
    slices: Sequence[Slice],
    workloads: Mapping[WorkloadKey, Workload],
    pods: Callable[[str], Labels],
    takes_mutual_tls: TakesMutualTls,
    export_to: tuple[str, ...],
    aliases: tuple[str, ...] = (),
) -> Host:
    """The host of one or more declarations in one namespace.

    A Kubernetes service comes before entries, then the oldest. What that leaves out (ports, addresses) those add that
    are otherwise like it, all names that certificates may bear count, and so do all endpoints of the ports that there
    are then (as Istio merges them). `export_to` is for services that do not say theirs; `aliases` are the names
    that stand for the host. `pods` tells what the pod at an address is called in metrics: entries may list it.
    """
    ordered = sorted(declared, key=lambda d: (d[0].service.registry is not Registry.KUBERNETES, d[0].service.age))
    first = ordered[0][0]
    main = first.service
    alike = [declaration.service for declaration, _ in ordered if declaration.merges_into(first)]
    ports: dict[PortKey, ServicePort] = {}
    for port in (port for service in alike for port in service.ports):
        ports.setdefault(port.key, port)
    found: dict[PortKey, dict[tuple[str, int], Endpoint]] = {}
    for declaration, selected in ordered:
        service = declaration.service
        if service.resolution is not main.resolution:
            continue
        for port in service.ports:
            if port.key not in ports:
                continue
            endpoints = found.setdefault(port.key, {})
            if main.resolution is Resolution.DNS_ROUND_ROBIN and endpoints:
                continue  # one name is looked up
            new = (
                [] if service.registry is Registry.EXTERNAL else _from_slices(port, slices, workloads, takes_mutual_tls)
            )
            listed = _from_workloads(service, port, (*declaration.endpoints, *selected), pods, takes_mutual_tls)
            for endpoint in (*new, *listed):
                endpoints.setdefault((endpoint.address, endpoint.port), endpoint)
    service = msgspec.structs.replace(
        main,
        ports=tuple(ports.values()),
        addresses=tuple(dict.fromkeys(address for service in alike for address in service.addresses)),
        literal=any(service.literal for service in alike),
        export_to=main.export_to or export_to,
        aliases=aliases,
        subject_alt_names=tuple(sorted({name for d, _ in ordered for name in d.service.subject_alt_names})),
    )
    everyone = [endpoint for by_address in found.values() for endpoint in by_address.values()]
    return Host(
        service,
        tuple((key, tuple(by_address.values())) for key, by_address in found.items() if by_address),
        accounts=tuple(sorted({endpoint.service_account for endpoint in everyone} - {""})),
        secured=_secured(everyone),
    )


def _secured(endpoints: Iterable[Endpoint]) -> Secured:
    taking = {endpoint.mutual_tls for endpoint in endpoints}
    if taking == {True}:
        return Secured.ALL
    return Secured.SOME if True in taking else Secured.NONE


def _from_slices(
    port: ServicePort,
    slices: Sequence[Slice],
    workloads: Mapping[WorkloadKey, Workload],
    takes_mutual_tls: TakesMutualTls,
) -> list[Endpoint]:
    found = []
    for part in slices:
        number = next((number for name, number in part.ports if name == port.name), None)
        if number is None:
            continue
        for address in part.addresses:
            workload = workloads.get(address.pod) if address.pod else None
            found.append(
                Endpoint(
                    address=address.address,
                    port=number,
                    ready=address.ready,
                    labels=endpoint_labels(workload) if workload else (),
                    locality=workload.locality if workload else "",
                    service_account=workload.service_account if workload else "",
                    hostname=address.hostname,
                    peer=workload.peer if workload else (),
                    mutual_tls=workload is not None and takes_mutual_tls(workload, number),
                )
            )
    return found


def _from_workloads(
    service: Service,
    port: ServicePort,
    workloads: Iterable[Workload],
    pods: Callable[[str], Labels],
    takes_mutual_tls: TakesMutualTls,
) -> Iterable[Endpoint]:
    for workload in workloads:
        if not _addressable(service, workload):
            continue
        number = reached_at(service, port, workload)
        if number is not None:
            yield Endpoint(
                address=workload.address,
                port=0 if workload.address.startswith(UNIX) else number,
                ready=workload.ready,
                labels=endpoint_labels(workload),
                weight=workload.weight,
                locality=workload.locality,
                service_account=workload.service_account,
                network=workload.network,
                peer=workload.peer or pods(workload.address),
                mutual_tls=takes_mutual_tls(workload, number),
            )


@functools.lru_cache(maxsize=4096)
def endpoint_labels(workload: Workload) -> Labels:
    """A workload's labels with those of where it is, by which subsets may choose too (Istio: AugmentLabels)."""
    if not (workload.locality or workload.network):
        return workload.labels
    region, zone, sub_zone = (*workload.locality.split("/"), "", "")[:3]
    place = {
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": zone,
        "topology.istio.io/subzone": sub_zone,
    }
    known = {name: value for name, value in place.items() if value}
    network = {"topology.istio.io/network": workload.network} if workload.network else {}
    return labels_of({**network, **dict(workload.labels), **known})


def _addressable(service: Service, workload: Workload) -> bool:
    """Whether a service's proxies can send to a workload's address: names only where they are looked up, sockets not
    there, and only what is on the network for Kubernetes.
    """
    if workload.address.startswith(UNIX):
        return service.resolution is Resolution.STATIC and service.registry is Registry.EXTERNAL
    return service.resolution.by_name or is_ip(workload.address)


def reached_at(service: Service, port: ServicePort, workload: Workload | None) -> int | None:
    """A workload's port for a port of a service that selects it; None where it has no such port.

    A named target is the workload's port of that name. Ports of an entry, and those of a pod that a ServiceEntry
    selects, also go by the service port's name before its number (Istio: serviceInstanceFromWorkloadInstance).
    """
    named = dict(workload.ports) if workload else {}
    if isinstance(port.target, str):
        return named.get(port.target)
    by_name = service.registry is Registry.EXTERNAL or (workload is not None and workload.kind is WorkloadKind.ENTRY)
    return named.get(port.name, port.target) if by_name else port.target


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def choose(definitions: Iterable[Host], namespace: str) -> Host | None:
    """The host that proxies of a namespace use: their own, else a Kubernetes service, else the oldest they see."""
    seen = [host for host in definitions if host.service.visible_in(namespace)]
    return min(
        seen,
        key=lambda h: (
            h.service.namespace != namespace,
            h.service.registry is not Registry.KUBERNETES,
            h.service.age,
        ),
        default=None,
    )
