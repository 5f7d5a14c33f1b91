"""The virtual hosts that a host wants: under which names requests for it come, at which port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pilotfish.mesh.imports import SOCKET
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Age, Service, ServicePort
from pilotfish.mesh.seen import Seen
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.build.http_routes import HttpRoute
from pilotfish.xds.build.routes import Route
from pilotfish.xds.request_routes import routes_of, written

UNREGISTERED_PORT = 80
"""At which port names are routed that no registry has."""


class WantedHost(NamedTuple):
    """A virtual host as its host wants it: `own` domains are its name, `short` ones come after other hosts' own."""

    port: int
    name: str
    age: Age
    own: tuple[str, ...]
    short: tuple[str, ...]
    addresses: tuple[str, ...]
    routes: tuple[Route | HttpRoute, ...]

    @property
    def fallback(self) -> str:
        """The cluster of requests of which its routes say nothing in particular; "" where there is none."""
        return next((cluster for route in reversed(self.routes) for cluster in route.clusters), "")


def unregistered(seen: Seen, audience: Audience) -> Iterator[WantedHost]:
    """A name that no registry has and a VirtualService routes: requests for it to port 80 (Istio)."""
    routes = written(seen, UNREGISTERED_PORT, audience)
    if routes and seen.hostname != "*":  # what is for nobody has its own virtual host
        age = seen.routings[0][0].age
        name = f"{seen.hostname}:{UNREGISTERED_PORT}"
        yield WantedHost(UNREGISTERED_PORT, name, age, (seen.hostname,), (), (), routes)


def of_alias(seen: Seen, alias: Service, audience: Audience) -> Iterator[WantedHost]:
    """An alias that a VirtualService routes: requests by that name to the ports of what it stands for, or to port 80 of
    what nobody knows. They go before the domains that the alias has with its host.
    """
    ports = seen.stands_for.ports if seen.stands_for else ()
    http = (port.number for port in ports if port.protocol.is_http or port.protocol is Protocol.AUTO)
    domains = (alias.hostname, f"{alias.hostname}.", *short_names(alias.hostname, audience))
    for number in http if seen.stands_for else (UNREGISTERED_PORT,):
        if routes := written(seen, number, audience):
            yield WantedHost(number, f"{alias.hostname}:{number}", alias.age, domains, (), (), routes)


def virtual_host(seen: Seen, service: Service, port: ServicePort, audience: Audience) -> WantedHost:
    """Requests for a port of a host, by all of its names and addresses."""
    own = [service.hostname] if "*" in service.hostname else [service.hostname, f"{service.hostname}."]
    short = short_names(service.hostname, audience)
    for alias in service.aliases:
        short += [alias, f"{alias}.", *short_names(alias, audience)]
    if service.headless:
        own += [f"*.{name}" for name in own]
        short += [f"*.{name}" for name in short]
    addresses = (f"[{a}]" if ":" in a else a for a in single_addresses(service, audience))
    return WantedHost(
        port=port.number,
        name=route_name(service, port),
        age=service.age,
        own=tuple(own),
        short=tuple(short),
        addresses=tuple(addresses),
        routes=routes_of(seen, service, port, audience),
    )


def on_sockets(
    seen: Seen, service: Service, http: list[ServicePort], audience: Audience
) -> Iterator[tuple[str, WantedHost]]:
    """The virtual hosts of a host where requests tell the port: on the sockets of its Sidecar, and as an HTTP proxy.

    There is one for each port: a request says the port in its authority, or means port 80, or the first where there is
    none.
    """
    numbers = [port.number for port in http]
    for port in http:
        places = [names.HTTP_PROXY] if audience.settings.http_proxy_port else []
        for binding in audience.viewer.bindings(service, port.number) if audience.egress else ():
            spoken = port.protocol if binding.protocol is Protocol.AUTO else binding.protocol
            if binding.address.startswith(SOCKET) and spoken.is_http:
                places.append(binding.address)
        if places:
            wanted = virtual_host(seen, service, port, audience)
            implied = port.number == (80 if 80 in numbers else numbers[0])
            own, short, addresses = (
                tuple(form for name in forms for form in ((name,) if implied else ()) + (f"{name}:{port.number}",))
                for forms in (wanted.own, wanted.short, wanted.addresses)
            )
            yield from ((place, wanted._replace(own=own, short=short, addresses=addresses)) for place in places)


def server_names(service: Service, audience: Audience) -> tuple[str, ...]:
    """What TLS clients call a service by: its name, and those that stand for it in every form."""
    short = (name for alias in service.aliases for name in short_names(alias, audience))
    return service.hostname.lower(), *service.aliases, *short


def short_names(hostname: str, audience: Audience) -> list[str]:
    """The shorter names of a Kubernetes service, as a pod's search domains complete them; of a wildcard below them no
    "*", which would be every name.
    """
    suffix = f".svc.{audience.settings.cluster_domain}"
    if not hostname.endswith(suffix):
        return []
    short = hostname.removesuffix(suffix)
    name, _, namespace = short.rpartition(".")
    alone = [name] if namespace == audience.namespace and name != "*" else []
    return [*alone, f"{short}.svc", short]


def single_addresses(service: Service, audience: Audience) -> tuple[str, ...]:
    """The single addresses at which a service has listeners of its own."""
    return tuple(a for a in audience.addresses(service) if "/" not in a and audience.reaches(a))


def route_name(service: Service, port: ServicePort) -> str:
    """What the virtual host of a port is called, and the routes of a listener that stands for it alone."""
    return f"{service.hostname}:{port.number}"
