"""Traffic capture in a pod with a sidecar: which connections the kernel hands to Envoy and to the DNS process.

The rules are those of Istio's `istio-iptables` (tools/istio-iptables/pkg/capture/run.go), one nft table in place of its
iptables chains. Two things differ. Packets with the mark 1337 leave freely: the pod supervisor, which runs as root,
relays the proxy's connection to the control plane with it. And DNS has no connection tracking zones of its own: Istio
needs them because its agent asks upstream servers from inside the pod, where its queries can collide with those of
applications; ours asks from the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from pathlib import Path

from pilotfish.node.nft import replace_table, run_nft

Network = IPv4Network | IPv6Network

TABLE = "pilotfish"
PROXY_ID = 1337
"""Envoy's uid and gid, and the mark of sockets that are never captured (Istio: constants.DefaultProxyUID)."""
DNS_PORT = 15053
_TUNNEL_PORT = 15008  # HBONE arrives here and is Envoy's own


@dataclass(frozen=True)
class CaptureSpec:
    """What is captured in a pod. `None` for a set of includes means all; an empty set means nothing.

    `exclude_inbound_ports` counts only where all inbound ports are captured, and `virtual_interfaces` are interfaces
    inside the pod whose arriving traffic is outbound traffic (of virtual machines), both as in Istio.
    """

    dns: bool = True
    include_outbound_ranges: tuple[Network, ...] | None = None
    exclude_outbound_ranges: tuple[Network, ...] = ()
    include_outbound_ports: tuple[int, ...] = ()
    exclude_outbound_ports: tuple[int, ...] = ()
    include_inbound_ports: tuple[int, ...] | None = None
    exclude_inbound_ports: tuple[int, ...] = (15020, 15021, 15090)
    exclude_interfaces: tuple[str, ...] = ()
    virtual_interfaces: tuple[str, ...] = ()
    proxy_uid: int = PROXY_ID
    proxy_gid: int = PROXY_ID
    outbound_port: int = 15001
    inbound_port: int = 15006


def apply_capture(spec: CaptureSpec, netns: Path) -> None:
    """Puts a pod's capture rules in force in one transaction, in place of earlier ones. Raises NftError. Blocks."""
    run_nft(render_capture(spec), netns)


def render_capture(spec: CaptureSpec) -> str:
    """The nft script that replaces a pod's capture rules by those of the spec."""
    chains = [
        _chain("to_outbound", [f"meta l4proto tcp redirect to :{spec.outbound_port}"]),
        _chain("to_inbound", [f"meta l4proto tcp redirect to :{spec.inbound_port}"]),
        _chain("inbound", _inbound(spec)),
        _chain("prerouting", _prerouting(spec), "type nat hook prerouting priority dstnat; policy accept;"),
        _chain("output", _output(spec), "type nat hook output priority -100; policy accept;"),
    ]
    return replace_table(TABLE, "\n".join(chains))


def _prerouting(spec: CaptureSpec) -> Iterator[str]:
    if spec.virtual_interfaces:
        interfaces = f"iifname {_names(spec.virtual_interfaces)}"
        yield from (f"{interfaces} {match}goto to_outbound" for match in _included_destinations(spec))
        yield f"{interfaces} return"
    if spec.exclude_interfaces:
        yield f"iifname {_names(spec.exclude_interfaces)} return"
    yield "meta l4proto tcp goto inbound"


def _inbound(spec: CaptureSpec) -> Iterator[str]:
    yield f"tcp dport {_TUNNEL_PORT} return"
    if spec.include_inbound_ports is None:
        if spec.exclude_inbound_ports:
            yield f"tcp dport {_ports(spec.exclude_inbound_ports)} return"
        yield "goto to_inbound"
    elif spec.include_inbound_ports:
        yield f"tcp dport {_ports(spec.include_inbound_ports)} goto to_inbound"


def _output(spec: CaptureSpec) -> Iterator[str]:
    yield f"meta mark {PROXY_ID} return"
    if spec.exclude_interfaces:
        yield f"oifname {_names(spec.exclude_interfaces)} return"
    if spec.exclude_outbound_ports:
        yield f"meta l4proto {{ tcp, udp }} th dport {_ports(spec.exclude_outbound_ports)} return"
    yield "# Envoy passes a captured inbound connection on to the application from these addresses."
    yield 'oifname "lo" ip saddr 127.0.0.6 return'
    yield 'oifname "lo" ip6 saddr ::6 return'
    yield from _own_address(spec, f"skuid {spec.proxy_uid}", f"skuid != {spec.proxy_uid}", dns_excepted=spec.dns)
    yield from _own_address(spec, f"skgid {spec.proxy_gid}", f"skgid != {spec.proxy_gid}", dns_excepted=False)
    if spec.dns:
        yield f"meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS_PORT}"
    yield "ip daddr 127.0.0.1 return"
    yield "ip6 daddr ::1 return"
    for match in _destinations(spec.exclude_outbound_ranges):
        yield f"{match}return"
    if spec.include_outbound_ports:
        yield f"tcp dport {_ports(spec.include_outbound_ports)} goto to_outbound"
    for match in _included_destinations(spec):
        yield f"{match}goto to_outbound"


def _own_address(spec: CaptureSpec, is_proxy: str, is_other: str, *, dns_excepted: bool) -> Iterator[str]:
    """What the pod sends to itself, and then all that the proxy sends.

    The proxy calling its own pod's address is an application that called itself through a service: it goes through the
    inbound side like anyone's call. An application that calls its own pod's address directly is left alone, and so is
    all else that the proxy sends.
    """
    uncaptured = f"{{ 53, {_TUNNEL_PORT} }}" if dns_excepted else str(_TUNNEL_PORT)
    yield f'oifname "lo" ip daddr != 127.0.0.1 tcp dport != {uncaptured} meta {is_proxy} goto to_inbound'
    yield f'oifname "lo" ip6 daddr != ::1 tcp dport != {uncaptured} meta {is_proxy} goto to_inbound'
    if not any(network.is_loopback for network in spec.include_outbound_ranges or ()):
        # A DNS server of the application's choice may be on the loopback, and it is captured all the same.
        protocol = "tcp dport != 53 " if spec.dns else ""
        yield f'oifname "lo" {protocol}meta {is_other} return'
    yield f"meta {is_proxy} return"


def _included_destinations(spec: CaptureSpec) -> list[str]:
    return [""] if spec.include_outbound_ranges is None else _destinations(spec.include_outbound_ranges)


def _destinations(networks: Iterable[Network]) -> list[str]:
    """A match for the networks of each family that there are any of; each ends in a blank."""
    found = list(networks)
    # Collapsed, because nft refuses sets whose members overlap.
    v4 = list(collapse_addresses(network for network in found if isinstance(network, IPv4Network)))
    v6 = list(collapse_addresses(network for network in found if isinstance(network, IPv6Network)))
    return [*([f"ip daddr {_set(v4)} "] if v4 else []), *([f"ip6 daddr {_set(v6)} "] if v6 else [])]


def _ports(ports: Iterable[int]) -> str:
    return _set(sorted(set(ports)))


def _names(names: Iterable[str]) -> str:
    return _set(f'"{name}"' for name in names)


def _set(members: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, members))} }}"


def _chain(name: str, rules: Iterable[str], hook: str = "") -> str:
    lines = [*([hook] if hook else []), *rules]
    return "".join([f"    chain {name} {{\n", *(f"        {line}\n" for line in lines), "    }\n"])
