"""Cluster IPs and load balancers: what kube-proxy does, as one nft table of the host.

It serves pods without a sidecar, what a sidecar passes through unrouted, and the host itself. A connection to a port of
a cluster IP, or of a load balancer's address in the service network, is translated once to an endpoint, chosen at
random or, with sessionAffinity ClientIP, by the client's address. What is not translated (no ready endpoint, undeclared
port) is refused by the host's table. Node ports are the node gateway's.

The rules are data first: `translations` says what goes where, `render` and `render_changes` write it down.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from pyroute2.netlink.exceptions import NetlinkError

from pilotfish.api.core import Service, ServicePort
from pilotfish.api.discovery import SERVICE_NAME_LABEL, Endpoint, EndpointPort, EndpointSlice
from pilotfish.node.conntrack import Flow, forget_udp_flows
from pilotfish.node.meshnetwork import MeshNetwork, services_table
from pilotfish.node.nft import NftError, replace_table, run_nft

log = logging.getLogger(__name__)

_PROTOCOLS = {"TCP": "tcp", "UDP": "udp"}


@dataclass(frozen=True)
class Frontend:
    """One port of an address. `service` is "namespace/name"; the protocol is "tcp" or "udp"; `balancer` says
    whether the address is its load balancer's.
    """

    service: str
    address: IPv4Address
    protocol: str
    port: int
    balancer: bool = False

    @property
    def chain(self) -> str:
        return f"{'balancer' if self.balancer else 'service'}-{self.service}/{self.protocol}/{self.port}"

    @property
    def key(self) -> str:
        return f"{self.address} . {self.protocol} . {self.port}"


@dataclass(frozen=True)
class Backends:
    """Where a frontend's connections go: (address, port) in order, at least one."""

    endpoints: tuple[tuple[IPv4Address, int], ...]
    client_affinity: bool = False


Translations = Mapping[Frontend, Backends]


def translations(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> dict[Frontend, Backends]:
    """Where each address's ports go; ports without a usable endpoint are left out, and so are headless Services."""
    slices_of: dict[tuple[str, str], list[EndpointSlice]] = defaultdict(list)
    for endpoint_slice in slices:
        if endpoint_slice.address_type == "IPv4":
            service_name = endpoint_slice.metadata.labels.get(SERVICE_NAME_LABEL, "")
            slices_of[endpoint_slice.namespace, service_name].append(endpoint_slice)
    found: dict[Frontend, Backends] = {}
    for service in sorted(services, key=lambda each: each.key):
        for address, balancer in _addresses(service):
            for port in service.spec.ports:
                protocol = _PROTOCOLS.get(port.protocol)
                endpoints = _endpoints(port, slices_of[service.key])
                if protocol and endpoints:
                    frontend = Frontend(f"{service.namespace}/{service.name}", address, protocol, port.port, balancer)
                    found[frontend] = Backends(endpoints, service.spec.session_affinity == "ClientIP")
    return found


def render(mesh: MeshNetwork, wanted: Translations) -> str:
    """The script that replaces the mesh's service table, whatever it holds, in one transaction."""
    elements = ", ".join(_element(frontend) for frontend in wanted)
    hairpins = ", ".join(sorted(_hairpins(wanted)))
    chains = "".join(f"    chain {f.chain} {{\n        {_rule(f, b)}\n    }}\n\n" for f, b in wanted.items())
    body = f"""\
{chains}\
    map services {{
        type ipv4_addr . inet_proto . inet_service : verdict
        {f"elements = {{ {elements} }}" if elements else ""}
    }}

    # A pod that reaches itself must see another's address, or it drops the packets as forged.
    set hairpins {{
        type ipv4_addr . ipv4_addr
        {f"elements = {{ {hairpins} }}" if hairpins else ""}
    }}

    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr . meta l4proto . th dport vmap @services
    }}

    chain output {{
        type nat hook output priority -100; policy accept;
        ip daddr . meta l4proto . th dport vmap @services
    }}

    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr . ip daddr @hairpins snat ip to {mesh.gateway}
    }}
"""
    return replace_table(services_table(mesh.home_id), body)


def render_changes(mesh: MeshNetwork, present: Translations, wanted: Translations) -> str:
    """The script that turns one state of the service table into another; "" where they are equal."""
    return "".join(f"{line}\n" for line in _changes(f"inet {services_table(mesh.home_id)}", present, wanted))


class ServiceProxy:
    """Keeps a mesh's service table as the API says; it remembers what it last put there, to apply only what changed."""

    def __init__(self, mesh: MeshNetwork) -> None:
        self._mesh = mesh
        self._present: Translations | None = None

    def sync(self, services: Iterable[Service], slices: Iterable[EndpointSlice], *, replace: bool = False) -> None:
        """Puts these Services and EndpointSlices in force; blocks for some ten milliseconds where there is a change.

        The first call replaces the whole table, and so does `replace`, which repairs what others did to it. Raises
        NftError.
        """
        wanted = translations(services, slices)
        present, self._present = self._present, None  # unknown, should this fail
        if present is None or replace or not self._change(present, wanted):
            run_nft(render(self._mesh, wanted))
        if _udp(present or {}) != _udp(wanted):
            self._move_udp_clients(_udp(wanted))
        self._present = wanted

    def _change(self, present: Translations, wanted: Translations) -> bool:
        """Whether the table could be changed; it could not if somebody else did, as `nft flush ruleset` does."""
        script = render_changes(self._mesh, present, wanted)
        try:
            if script:
                run_nft(script)
        except NftError as error:
            log.warning("the service table is not as it was left, making it anew: %s", error)
            return False
        return True

    def _move_udp_clients(self, wanted: Translations) -> None:
        """Lets clients whose endpoint is gone be translated again. The rules are in force whether or not this works."""
        endpoints = {
            (frontend.address, frontend.port): set(backends.endpoints) for frontend, backends in wanted.items()
        }

        def stale(flow: Flow) -> bool:
            address = flow.destination[0]
            return address in self._mesh.service_cidr and flow.answered_by not in endpoints.get(flow.destination, ())

        try:
            forget_udp_flows(stale)
        except (OSError, NetlinkError) as error:
            log.warning("UDP clients stay with endpoints that are gone until they pause for two minutes: %s", error)


def _udp(state: Translations) -> Translations:
    return {frontend: backends for frontend, backends in state.items() if frontend.protocol == "udp"}


def _addresses(service: Service) -> Iterator[tuple[IPv4Address, bool]]:
    """Its addresses, each with whether it is its load balancer's."""
    if service.spec.type == "ExternalName" or service.headless:
        return
    texts = service.spec.cluster_ips or (service.spec.cluster_ip,)
    yield from ((IPv4Address(text), False) for text in texts if text and ":" not in text)
    for ingress in service.status.load_balancer.ingress:
        if ingress.ip and ":" not in ingress.ip:
            yield IPv4Address(ingress.ip), True


def _endpoints(port: ServicePort, slices: Iterable[EndpointSlice]) -> tuple[tuple[IPv4Address, int], ...]:
    """The endpoints that a port's connections may go to, in order.

    They are the ready ones, or else those that end but still serve (Kubernetes: ProxyTerminatingEndpoints).
    """
    candidates = [
        (endpoint, target)
        for endpoint_slice in slices
        if (target := _target(port, endpoint_slice.ports)) is not None
        for endpoint in endpoint_slice.endpoints
    ]
    usable = [each for each in candidates if _ready(each[0])] or [each for each in candidates if _still_serves(each[0])]
    return tuple(sorted({(IPv4Address(address), target) for e, target in usable for address in e.addresses[:1]}))


def _target(port: ServicePort, ports: Iterable[EndpointPort]) -> int | None:
    return next((each.port for each in ports if (each.name, each.protocol) == (port.name, port.protocol)), None)


def _ready(endpoint: Endpoint) -> bool:
    return endpoint.conditions.ready is not False


def _still_serves(endpoint: Endpoint) -> bool:
    return endpoint.conditions.terminating is True and endpoint.conditions.serving is not False


def _changes(table: str, present: Translations, wanted: Translations) -> Iterator[str]:
    gone = [frontend for frontend in present if frontend not in wanted]
    new = [frontend for frontend in wanted if frontend not in present]
    # Elements go before the chains that they lead to, and come after them.
    if gone:
        yield f"delete element {table} services {{ {', '.join(frontend.key for frontend in gone)} }}"
    for frontend in gone:
        yield f"delete chain {table} {frontend.chain}"
    for frontend, backends in wanted.items():
        if backends != present.get(frontend):
            yield f"{'flush' if frontend in present else 'add'} chain {table} {frontend.chain}"
            yield f"add rule {table} {frontend.chain} {_rule(frontend, backends)}"
    if new:
        yield f"add element {table} services {{ {', '.join(map(_element, new))} }}"
    before, after = _hairpins(present), _hairpins(wanted)
    if before - after:
        yield f"delete element {table} hairpins {{ {', '.join(sorted(before - after))} }}"
    if after - before:
        yield f"add element {table} hairpins {{ {', '.join(sorted(after - before))} }}"


def _rule(frontend: Frontend, backends: Backends) -> str:
    endpoints = backends.endpoints
    match = f"meta l4proto {frontend.protocol} dnat ip to"
    if len(endpoints) == 1:
        return f"{match} {endpoints[0][0]}:{endpoints[0][1]}"
    choice = "jhash ip saddr" if backends.client_affinity else "numgen random"
    places = ", ".join(f"{place} : {address} . {port}" for place, (address, port) in enumerate(endpoints))
    return f"{match} {choice} mod {len(endpoints)} map {{ {places} }}"


def _element(frontend: Frontend) -> str:
    return f"{frontend.key} : goto {frontend.chain}"


def _hairpins(state: Translations) -> set[str]:
    return {f"{address} . {address}" for backends in state.values() for address, _ in backends.endpoints}
