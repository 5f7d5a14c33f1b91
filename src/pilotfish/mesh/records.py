"""The records that the model of the mesh is made of: frozen, hashable, equal when they say the same.

Hashes are kept once computed, since records are the keys of every cache behind the model.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, dataclass_transform

import msgspec

from pilotfish.api.peer import peer_fields
from pilotfish.mesh.protocols import Protocol

CLUSTER = "Kubernetes"
"""What Istio calls a cluster that has no name of its own; there is one."""

Labels = tuple[tuple[str, str], ...]
"""Label pairs, sorted, so that equal labels are equal records."""

Age = tuple[str, str, str, str]
"""Sorts from the oldest to the youngest."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, cache_hash=True, weakref=True):
    """The base of all records."""


@functools.lru_cache(maxsize=4096)
def _peer(workload: str, namespace: str, labels: Labels) -> Labels:
    return labels_of(peer_fields(workload, namespace, dict(labels), CLUSTER))


def labels_of(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def exported(to: Iterable[str]) -> tuple[str, ...]:
    """An `exportTo` list in order, without what is said twice."""
    return tuple(sorted({word.strip() for word in to} - {""}))


def visible(export_to: Collection[str], owner: str, namespace: str) -> bool:
    """Whether a namespace sees what another one exports to these ("*" for all, "." for its own)."""
    return "*" in export_to or namespace in export_to or ("." in export_to and namespace == owner)


class HostKey(NamedTuple):
    """A host as one namespace defines it; `hostname` is in lower case, since host names ignore case."""

    namespace: str
    hostname: str


class ObjectKey(NamedTuple):
    """The API object that something came from."""

    kind: str
    namespace: str
    name: str


class WorkloadKind(enum.StrEnum):
    """The kind of object that tells of a workload."""

    POD = "Pod"
    ENTRY = "WorkloadEntry"


class WorkloadKey(NamedTuple):
    namespace: str
    name: str
    kind: WorkloadKind = WorkloadKind.POD


class SecretKey(NamedTuple):
    """A Secret, or a ConfigMap with certificates."""

    namespace: str
    name: str
    kind: str = "Secret"


class Registry(enum.StrEnum):
    """Where a service is registered, in Istio's words."""

    KUBERNETES = "Kubernetes"
    EXTERNAL = "External"


class Resolution(enum.StrEnum):
    """How a service's endpoints are found.

    STATIC: they are listed. PASSTHROUGH: the connection's own destination is the endpoint. DNS and DNS_ROUND_ROBIN: the
    proxy looks their names up, and uses all addresses or the first. DYNAMIC_DNS: it looks up what the client asks for.
    ALIAS: it has none; its name stands for another.
    """

    STATIC = "STATIC"
    PASSTHROUGH = "PASSTHROUGH"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"
    ALIAS = "ALIAS"

    @property
    def by_name(self) -> bool:
        """Whether the names of its endpoints are looked up, and each may be one or an IP."""
        return self in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


class Secured(enum.StrEnum):
    """How many of a host's endpoints take the mesh's mutual TLS."""

    NONE = "none"
    SOME = "some"
    ALL = "all"


class PortKey(NamedTuple):
    number: int
    udp: bool


class ServicePort(Record):
    """`target` is the workload's port: a number, or the name of one of its container ports."""

    number: int
    name: str
    protocol: Protocol
    target: int | str
    node_port: int = 0

    @property
    def key(self) -> PortKey:
        """TCP and UDP ports of one number are two ports."""
        return PortKey(self.number, self.protocol is Protocol.UDP)


class Service(Record):
    """One host as one object defines it.

    `hostname` keeps its spelling. `addresses` are its virtual addresses (IPs or CIDRs), none for a headless service.
    `export_to` holds namespaces, "*" for all, "." for its own; the model puts the mesh's default where it is empty.
    `literal`: its addresses were written down by somebody, so that clients may know them without having looked it up.
    `selector` is that of a Kubernetes service. `created` (RFC 3339) decides between services that cannot both have
    their way: the oldest wins. `subject_alt_names` are what the certificates of its servers may say, beside what
    its endpoints' service accounts do. `canonical` is the name for which an ALIAS stands; `aliases` are the names (in
    lower case) that stand for this one. `close`: clients are to prefer the endpoints that are close to them.
    """

    hostname: str
    namespace: str
    name: str
    registry: Registry
    ports: tuple[ServicePort, ...]
    addresses: tuple[str, ...] = ()
    resolution: Resolution = Resolution.STATIC
    export_to: tuple[str, ...] = ()
    selector: Labels = ()
    external: bool = False
    literal: bool = False
    publish_not_ready: bool = False
    created: str = ""
    subject_alt_names: tuple[str, ...] = ()
    canonical: str = ""
    aliases: tuple[str, ...] = ()
    close: bool = False

    @property
    def key(self) -> HostKey:
        return HostKey(self.namespace, self.hostname.lower())

    @property
    def age(self) -> Age:
        """When it was created, and what makes an order of those created at the same time."""
        return self.created, self.namespace, self.name, self.hostname

    @property
    def by_name(self) -> bool:
        """Whether proxies look its endpoints' names up."""
        return self.resolution.by_name

    @property
    def headless(self) -> bool:
        """A Kubernetes service without an address of its own."""
        return self.registry is Registry.KUBERNETES and self.resolution is Resolution.PASSTHROUGH

    @property
    def allocated(self) -> bool:
        """Whether its addresses were allocated to a ServiceEntry that lists none."""
        return self.registry is Registry.EXTERNAL and not self.literal

    def visible_in(self, namespace: str) -> bool:
        """Whether proxies of a namespace see this host (Istio: exportTo)."""
        return visible(self.export_to, self.namespace, namespace)


class Endpoint(Record):
    """One address of one service port: an IP, a host name to look up, or the path of a socket after "unix://".

    `weight` is relative; `locality` is "region/zone/subzone" or shorter, or "". `hostname` is the name that a pod has
    below its headless service, or "". `service_account` is a name in the service's namespace, or "".
    """

    address: str
    port: int
    ready: bool = True
    labels: Labels = ()
    weight: int = 1
    locality: str = ""
    service_account: str = ""
    hostname: str = ""
    network: str = ""
    peer: Labels = ()
    """What its workload is called in metrics (see api.peer), where that is known."""
    mutual_tls: bool = False
    """Whether a proxy in front of it takes the mesh's mutual TLS."""


class Host(Record):
    """A host with all that was declared of it in one namespace: the merged service, and endpoints by service port.

    `accounts` and `secured` sum up its endpoints, whether they are ready or not: the service accounts behind it, and
    how many take mutual TLS.
    """

    service: Service
    endpoints: tuple[tuple[PortKey, tuple[Endpoint, ...]], ...] = ()
    accounts: tuple[str, ...] = ()
    secured: Secured = Secured.NONE

    @property
    def key(self) -> HostKey:
        return self.service.key

    def serving(self, port: ServicePort) -> tuple[Endpoint, ...]:
        """The endpoints of one of the service's ports that may get traffic."""
        found = next((endpoints for key, endpoints in self.endpoints if key == port.key), ())
        return found if self.service.publish_not_ready else tuple(e for e in found if e.ready)


class Workload(Record):
    """What runs at an address: a pod, or what a WorkloadEntry tells of. `ports` are its named ports.

    The address of a WorkloadEntry may be a host name, or a socket's path after "unix://".
    """

    namespace: str
    name: str
    address: str
    labels: Labels = ()
    ports: tuple[tuple[str, int], ...] = ()
    service_account: str = ""
    locality: str = ""
    ready: bool = False
    kind: WorkloadKind = WorkloadKind.POD
    weight: int = 1
    network: str = ""
    owner: str = ""
    """The Deployment or other object that it belongs to: itself where it stands alone, none of an inline endpoint."""
    mutual_tls: bool = False
    """Whether a proxy in front of it takes the mesh's mutual TLS."""

    @property
    def peer(self) -> Labels:
        """What it is called in metrics (see api.peer), for those who call it; nothing without an owner."""
        return _peer(self.owner, self.namespace, self.labels) if self.owner else ()

    @property
    def key(self) -> WorkloadKey:
        return WorkloadKey(self.namespace, self.name, self.kind)


class Target(Record):
    """A port on which a workload is reached, and the service port that says how it speaks."""

    number: int
    port: ServicePort
    service: Service
