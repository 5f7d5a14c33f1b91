"""From API objects to records, each object by itself: what depends on several objects is the model's to join."""

from __future__ import annotations

import ipaddress

import msgspec

from pilotfish.api import core, discovery, networking
from pilotfish.api.joined import HEALTH_CHECKED, HEALTHY
from pilotfish.api.meta import Object
from pilotfish.api.pods import Pod
from pilotfish.mesh import protocols
from pilotfish.mesh.records import (
    Labels,
    Record,
    Registry,
    Resolution,
    Service,
    ServicePort,
    Workload,
    WorkloadKey,
    WorkloadKind,
    exported,
    labels_of,
)
from pilotfish.mesh.workload import workload_of

EXPORT_TO = "networking.istio.io/exportTo"
TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution"
_CLOSE = ("PreferClose", "PreferSameZone", "PreferSameNode")
LOCALITY = "istio-locality"
WORKLOAD_NAME = "service.istio.io/workload-name"
"""Label of a pod that is to be known by another name than its owner's."""
UNIX = "unix://"
TLS_MODE, MUTUAL_TLS = "security.istio.io/tlsMode", "istio"
"""A workload's label that says how its proxy is spoken to, and the value for the mesh's mutual TLS."""


class Declaration(Record):
    """What one object says of one host: the service, the workloads it lists and those that it selects.

    A Kubernetes service finds its pods through EndpointSlices, and selects workloads that are no pods. `labels` are the
    object's own.
    """

    service: Service
    endpoints: tuple[Workload, ...] = ()
    workload_selector: Labels = ()
    labels: Labels = ()

    def merges_into(self, other: Declaration) -> bool:
        """Whether ports and addresses of this one are added to another of the same host (Istio: canMergeServices)."""
        mine, theirs = self.service, other.service
        return (
            (mine.registry, mine.resolution, mine.export_to) == (theirs.registry, theirs.resolution, theirs.export_to)
            and self.workload_selector == other.workload_selector
            and self.labels == other.labels
        )


class SliceAddress(Record):
    """One address of an EndpointSlice, and the pod behind it if it names one."""

    address: str
    ready: bool
    pod: WorkloadKey | None = None
    hostname: str = ""


class Slice(Record):
    """An EndpointSlice: every address serves every port (name, number)."""

    namespace: str
    name: str
    service: str
    ports: tuple[tuple[str, int], ...]
    addresses: tuple[SliceAddress, ...]


def service(obj: core.Service, cluster_domain: str) -> tuple[Declaration, ...]:
    """The host that a Kubernetes Service defines: for ExternalName, a name that stands for another."""
    spec = obj.spec
    if spec.type == "ExternalName":
        return (Declaration(_alias(obj, cluster_domain)),) if spec.external_name else ()
    addresses = () if obj.headless else tuple(dict.fromkeys(filter(None, (spec.cluster_ip, *spec.cluster_ips))))
    if not addresses and not obj.headless:
        return ()  # its address is yet to be assigned
    export_to = obj.metadata.annotations.get(EXPORT_TO, "")
    record = Service(
        hostname=f"{obj.name}.{obj.namespace}.svc.{cluster_domain}",
        namespace=obj.namespace,
        name=obj.name,
        registry=Registry.KUBERNETES,
        ports=tuple(
            ServicePort(
                number=port.port,
                name=port.name,
                protocol=protocols.select(port.port, port.name, port.protocol, port.app_protocol),
                target=port.target_port or port.port,
                node_port=port.node_port,
            )
            for port in spec.ports
        ),
        addresses=addresses,
        resolution=Resolution.PASSTHROUGH if obj.headless else Resolution.STATIC,
        export_to=exported(export_to.split(",")),
        selector=labels_of(spec.selector),
        publish_not_ready=spec.publish_not_ready_addresses,
        close=_close(obj, spec.traffic_distribution),
        created=obj.metadata.creation_timestamp or "",
    )
    return (Declaration(record, workload_selector=() if obj.headless else record.selector),)


def _close(obj: Object, said: str = "") -> bool:
    """Whether clients are to prefer what is close; an annotation goes before what a Service says (Istio)."""
    return (obj.metadata.annotations.get(TRAFFIC_DISTRIBUTION) or said) in _CLOSE


def _alias(obj: core.Service, cluster_domain: str) -> Service:
    return Service(
        hostname=f"{obj.name}.{obj.namespace}.svc.{cluster_domain}",
        namespace=obj.namespace,
        name=obj.name,
        registry=Registry.KUBERNETES,
        ports=(),
        resolution=Resolution.ALIAS,
        export_to=exported(obj.metadata.annotations.get(EXPORT_TO, "").split(",")),
        created=obj.metadata.creation_timestamp or "",
        canonical=obj.spec.external_name.removesuffix("."),
    )


def service_entry(obj: networking.ServiceEntry) -> tuple[Declaration, ...]:
    """The hosts that a ServiceEntry defines, one declaration each."""
    spec = obj.spec
    resolution = Resolution.PASSTHROUGH if spec.resolution == "NONE" else Resolution(spec.resolution)
    ports = tuple(
        ServicePort(
            number=port.number,
            name=port.name,
            protocol=protocols.parse(port.protocol),
            target=port.target_port or port.number,
        )
        for port in spec.ports
    )
    listed = tuple(
        _workload(obj.namespace, f"{obj.name}-{position}", endpoint, endpoint.labels)
        for position, endpoint in enumerate(spec.endpoints)
        if endpoint.address
    )
    selector = labels_of(spec.workload_selector.labels) if spec.workload_selector else ()
    by_name = resolution.by_name and not listed and spec.workload_selector is None
    return tuple(
        Declaration(
            service=Service(
                hostname=host,
                namespace=obj.namespace,
                name=obj.name,
                registry=Registry.EXTERNAL,
                ports=ports,
                addresses=_addresses(obj, host),
                literal=bool(obj.spec.addresses),
                resolution=resolution,
                export_to=exported(spec.export_to),
                external=spec.location == "MESH_EXTERNAL",
                created=obj.metadata.creation_timestamp or "",
                subject_alt_names=spec.subject_alt_names,
                close=_close(obj),
            ),
            endpoints=(_itself(obj, host),) if by_name and "*" not in host else listed,
            workload_selector=selector,
            labels=labels_of(obj.metadata.labels),
        )
        for host in {host.lower(): host for host in reversed(spec.hosts)}.values()
    )


def _itself(obj: networking.ServiceEntry, host: str) -> Workload:
    """The host as its own endpoint: its name is looked up."""
    return Workload(obj.namespace, obj.name, host, ready=True, kind=WorkloadKind.ENTRY)


def workload_entry(obj: networking.WorkloadEntry) -> Workload | None:
    """None for one without an address: nothing reaches it.

    Labels of the object go before those of its specification. One whose health is checked is ready once a check said
    so (Istio: isHealthy).
    """
    if not obj.spec.address:
        return None
    labels = {**obj.spec.labels, **obj.metadata.labels}
    checked = obj.metadata.annotations.get(HEALTH_CHECKED, "").lower() in ("true", "1", "t")
    healthy = any(c.type == HEALTHY and c.status == "True" for c in obj.status.conditions)
    found = _workload(obj.namespace, obj.name, obj.spec, labels, ready=healthy or not checked)
    return msgspec.structs.replace(found, owner=obj.name)


def _workload(
    namespace: str, name: str, spec: networking.WorkloadEntrySpec, labels: dict[str, str], *, ready: bool = True
) -> Workload:
    return Workload(
        namespace=namespace,
        name=name,
        address=spec.address,
        labels=labels_of(labels),
        ports=tuple(sorted(spec.ports.items())),
        service_account=spec.service_account,
        locality=spec.locality or labels.get(LOCALITY, "").replace(".", "/"),
        ready=ready,
        kind=WorkloadKind.ENTRY,
        weight=spec.weight or 1,
        network=spec.network,
        # Who has an account in the mesh has its certificate (Istio: getTLSModeFromWorkloadEntry).
        mutual_tls=labels.get(TLS_MODE, MUTUAL_TLS if spec.service_account else "") == MUTUAL_TLS,
    )


def _addresses(obj: networking.ServiceEntry, host: str) -> tuple[str, ...]:
    """The host's own addresses, or those that were allocated to it; a /32 is an address, not a range."""
    if obj.spec.addresses:
        return tuple(dict.fromkeys(filter(None, map(_address, obj.spec.addresses))))
    return tuple(a.value for a in obj.status.addresses if a.host.lower() in ("", host.lower()))


def _address(text: str) -> str | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else text


def endpoint_slice(obj: discovery.EndpointSlice) -> Slice | None:
    """None for a slice that belongs to no service, or holds host names."""
    owner = obj.metadata.labels.get(discovery.SERVICE_NAME_LABEL, "")
    if not owner or obj.address_type == "FQDN":
        return None
    addresses = tuple(
        SliceAddress(
            address=endpoint.addresses[0],  # consumers use the first; the others are defined as fungible with it
            ready=endpoint.conditions.ready is not False,
            pod=_pod(endpoint, obj.namespace),
            hostname=endpoint.hostname,
        )
        for endpoint in obj.endpoints
        if endpoint.addresses
    )
    ports = tuple((port.name, port.port) for port in obj.ports if port.port)
    return Slice(obj.namespace, obj.name, owner, ports, addresses)


def _pod(endpoint: discovery.Endpoint, namespace: str) -> WorkloadKey | None:
    ref = endpoint.target_ref
    return WorkloadKey(ref.namespace or namespace, ref.name) if ref and ref.kind == "Pod" else None


def pod(obj: Pod) -> Workload | None:
    """None for a pod without an address of its own, or one that has ended."""
    if not obj.status.pod_ip or obj.spec.host_network or obj.status.phase in ("Succeeded", "Failed"):
        return None
    containers = (*obj.spec.init_containers, *obj.spec.containers)
    return Workload(
        namespace=obj.namespace,
        name=obj.name,
        address=obj.status.pod_ip,
        labels=labels_of(obj.metadata.labels),
        ports=tuple(sorted((p.name, p.container_port) for c in containers for p in c.ports if p.name)),
        service_account=obj.spec.service_account_name or "default",
        locality=obj.metadata.labels.get(LOCALITY, "").replace(".", "/"),
        ready=obj.ready,
        owner=_owner(obj),
        mutual_tls=obj.metadata.labels.get(TLS_MODE) == MUTUAL_TLS,
    )


def _owner(obj: Pod) -> str:
    """The name of the workload that a pod belongs to, as its proxy has it from injection."""
    named = obj.metadata.labels.get(WORKLOAD_NAME)
    return named or workload_of(msgspec.to_builtins(obj.metadata)).name
