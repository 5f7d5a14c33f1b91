"""How what several objects say of one host becomes one host, and which of several hosts of one name a proxy sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pilotfish.mesh.records import Endpoint, Host, PortKey, Registry, ServicePort, Workload, WorkloadKey
from pilotfish.mesh.translate import Declaration, Slice

Declared = tuple[Declaration, Sequence[Workload]]
"""A declaration, with the workloads that its selector selects."""


def assemble(
    declared: Iterable[Declared],
    slices: Sequence[Slice],
    workloads: Mapping[WorkloadKey, Workload],
    export_to: tuple[str, ...],
) -> Host:
    """The host of one or more declarations in one namespace.

    A Kubernetes service comes before entries, then the oldest; what it leaves out (ports, addresses) the others add,
    and all endpoints count (as Istio merges them). `export_to` is for services that do not say theirs.
    """
    ordered = sorted(declared, key=lambda d: (d[0].service.registry is not Registry.KUBERNETES, d[0].service.age))
    main = ordered[0][0].service
    ports: dict[PortKey, ServicePort] = {}
    addresses: dict[str, None] = dict.fromkeys(main.addresses)
    literal = main.literal
    found: dict[PortKey, dict[tuple[str, int], Endpoint]] = {}
    for declaration, selected in ordered:
        service = declaration.service
        if service.resolution is not main.resolution:
            continue
        if service.registry is main.registry:
            addresses.update(dict.fromkeys(service.addresses))
            literal = literal or service.literal
        for port in service.ports:
            ports.setdefault(port.key, port)
            endpoints = found.setdefault(port.key, {})
            if service.registry is Registry.KUBERNETES:
                new = _from_slices(port, slices, workloads)
            else:
                new = [*_from_listed(declaration, port), *_from_selected(selected, port)]
            for endpoint in new:
                endpoints.setdefault((endpoint.address, endpoint.port), endpoint)
    service = msgspec.structs.replace(
        main,
        ports=tuple(ports.values()),
        addresses=tuple(addresses),
        literal=literal,
        export_to=main.export_to or export_to,
    )
    return Host(
        service,
        tuple((key, tuple(by_address.values())) for key, by_address in found.items() if by_address),
    )


def _from_slices(
    port: ServicePort, slices: Sequence[Slice], workloads: Mapping[WorkloadKey, Workload]
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
                    labels=workload.labels if workload else (),
                    locality=workload.locality if workload else "",
                    service_account=workload.service_account if workload else "",
                    hostname=address.hostname,
                )
            )
    return found


def _from_listed(declaration: Declaration, port: ServicePort) -> Iterable[Endpoint]:
    for listed in declaration.endpoints:
        number = dict(listed.ports).get(port.name, port.target)
        yield Endpoint(
            address=listed.address,
            port=int(number),
            labels=listed.labels,
            weight=listed.weight,
            locality=listed.locality,
            service_account=listed.service_account,
        )


def _from_selected(workloads: Sequence[Workload], port: ServicePort) -> Iterable[Endpoint]:
    for workload in workloads:
        yield Endpoint(
            address=workload.address,
            port=int(port.target),
            ready=workload.ready,
            labels=workload.labels,
            locality=workload.locality,
            service_account=workload.service_account,
        )


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
