"""The configuration of a node's DNS process: a name table for each host (Istio: pkg/dns/server BuildNameTable)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pilotfish.mesh.hosts import choose, is_ip
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Endpoint, Host, Registry, Resolution
from pilotfish.xds.build.name_table import NameSpec
from pilotfish.xds.parts import NO_AGE, ContestedPart

EVERYONE = "*"


class NameTables(ContestedPart):
    """What every DNS process has, for pods of every namespace, with addresses of one IP family."""

    def __init__(self, model: Model, *, ipv6: bool) -> None:
        super().__init__()
        self._model = model
        self.ipv6 = ipv6
        self.update(model.host_names())
        self.take_changes()

    def anew(self, model: Model) -> NameTables:
        return NameTables(model, ipv6=self.ipv6)

    def update(self, hostnames: Iterable[str]) -> None:
        """Look again at hosts by name (in lower case)."""
        for hostname in hostnames:
            ages = [host.service.age for host in self._model.definitions(hostname)]
            self.claim(hostname, min(ages, default=NO_AGE), self._specs(hostname))

    def _specs(self, hostname: str) -> Iterator[NameSpec]:
        """A table for everyone, and one for each namespace that sees something else under this name."""
        definitions = self._model.definitions(hostname)
        general = choose(definitions, EVERYONE)
        if general is not None:
            yield from self._tables(EVERYONE, general)
        for namespace in sorted({n for host in definitions for n in _audience(host)}):
            seen = choose(definitions, namespace)
            if seen is not None and seen is not general:
                yield from self._tables(namespace, seen)

    def _tables(self, scope: str, host: Host) -> Iterator[NameSpec]:
        service = host.service
        kubernetes = service.registry is Registry.KUBERNETES
        # What a ServiceEntry's author has listed is given as it is: a name of ours is never an unknown one.
        listed = tuple(a for a in service.addresses if not kubernetes and is_ip(a))
        addresses = tuple(a for a in service.addresses if self._usable(a)) or listed
        found = service.resolution is Resolution.PASSTHROUGH and not service.addresses
        pods = [e for e in _endpoints(host) if self._usable(e.address)] if found else []
        addresses = addresses or tuple(dict.fromkeys(e.address for e in pods))
        if addresses or service.canonical:
            yield NameSpec(
                scope,
                service.hostname,
                addresses,
                service.registry.value,
                service.name if kubernetes else "",
                service.namespace if kubernetes else "",
                service.canonical,
            )
        for name in sorted({e.hostname for e in pods if e.hostname}):
            own = tuple(dict.fromkeys(e.address for e in pods if e.hostname == name))
            yield NameSpec(
                scope,
                f"{name}.{service.hostname}",
                own,
                service.registry.value,
                f"{name}.{service.name}",
                service.namespace,
            )

    def _usable(self, address: str) -> bool:
        """Whether it is an address of our family; ranges and host names are no answers."""
        return is_ip(address) and (":" in address) is self.ipv6


def _audience(host: Host) -> set[str]:
    """The namespaces that may see another host than everyone does: the host's own, and those it names."""
    return {host.service.namespace, *host.service.export_to} - {EVERYONE, ".", "~"}


def _endpoints(host: Host) -> list[Endpoint]:
    return [e for port in host.service.ports for e in host.serving(port)]
