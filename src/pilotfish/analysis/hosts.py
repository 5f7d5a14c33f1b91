"""Which service a host name means, seen from a namespace (Istio: pkg/config/analysis/analyzers/util)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.core import Service
from pilotfish.api.kinds import SERVICE, SERVICE_ENTRY
from pilotfish.api.meta import Object
from pilotfish.api.networking import ServiceEntry

EVERYWHERE = "*"
DOMAIN = "svc.cluster.local"
EXPORT_TO = "networking.istio.io/exportTo"


@dataclass(frozen=True)
class Host:
    """One host of a Service or ServiceEntry. `scopes` are the namespaces that see it, or EVERYWHERE."""

    name: str
    scopes: frozenset[str]
    ports: tuple[int, ...]
    source: Object

    def seen_by(self, namespaces: frozenset[str]) -> bool:
        return EVERYWHERE in self.scopes or not self.scopes.isdisjoint(namespaces)


class Hosts:
    """All hosts of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._exact: dict[str, list[Host]] = {}
        self._wildcard: list[Host] = []
        for service in snapshot.of(SERVICE):
            self._add(_of_service(service))
        for entry in snapshot.of(SERVICE_ENTRY):
            scopes = scopes_of(entry.spec.export_to, entry.namespace)
            for name in entry.spec.hosts:
                ports = tuple(port.number for port in entry.spec.ports)
                self._add(Host(qualified(name, entry.namespace).lower(), scopes, ports, entry))

    def find(self, name: str, namespace: str, export_to: Sequence[str] = ()) -> Host | None:
        """The host that a name means in an object of a namespace that is exported to others; None for none."""
        wanted = qualified(name, namespace).lower()
        namespaces = scopes_of(export_to, namespace) - {EVERYWHERE} if export_to else frozenset({namespace})
        candidates = [*self._exact.get(wanted, ()), *(host for host in self._wildcard if _within(wanted, host.name))]
        return next((host for host in candidates if host.seen_by(namespaces)), None)

    def _add(self, host: Host) -> None:
        self._exact.setdefault(host.name, []).append(host)
        if host.name.startswith("*"):
            self._wildcard.append(host)


def _of_service(service: Service) -> Host:
    annotated = service.metadata.annotations.get(EXPORT_TO, "")
    listed = [name.strip() for name in annotated.split(",")] if annotated else []
    ports = tuple(port.port for port in service.spec.ports)
    return Host(
        qualified(service.name, service.namespace).lower(), scopes_of(listed, service.namespace), ports, service
    )


def qualified(name: str, namespace: str) -> str:
    """A short name in full; one with a dot or a star is what it is."""
    return name if "." in name or name.startswith("*") else f"{name}.{namespace}.{DOMAIN}"


def scopes_of(export_to: Sequence[str], namespace: str) -> frozenset[str]:
    """The namespaces that see something: "." is its own; nothing said is EVERYWHERE."""
    if not export_to or EVERYWHERE in export_to:
        return frozenset({EVERYWHERE})
    return frozenset(namespace if name == "." else name for name in export_to)


def matches(one: str, other: str) -> bool:
    """Whether two host names, either with a wildcard in front, have a name in common (Istio: host.Matches)."""
    one, other = one.lower(), other.lower()
    if one.startswith("*") and other.startswith("*"):
        return one[1:].endswith(other[1:]) or other[1:].endswith(one[1:])
    if one.startswith("*"):
        return other.endswith(one[1:])
    return one.endswith(other[1:]) if other.startswith("*") else one == other


def workload_labels(host: Host) -> Mapping[str, str]:
    """The labels by which a host selects its workloads; {} where it does not."""
    match host.source:
        case Service():
            return host.source.spec.selector
        case ServiceEntry() if host.source.spec.workload_selector is not None:
            return host.source.spec.workload_selector.labels
    return {}


def _within(name: str, wildcard: str) -> bool:
    return name.removeprefix("*").endswith(wildcard.removeprefix("*"))
