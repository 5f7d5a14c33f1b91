"""Addresses: networks that nobody on this host uses, and a pod's address out of the mesh's network."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from pyroute2 import IPRoute

_PRIVATE = IPv4Network("10.0.0.0/8")
_POD_BITS = 16
_SERVICE_BITS = 20


class OutOfAddresses(Exception):
    """The host leaves no free network, or the pod network no free address."""


def choose_networks(home_id: str) -> tuple[IPv4Network, IPv4Network]:
    """A pod network (/16) and a service network (/20) in 10.0.0.0/8 that overlap no address and no route of this host.

    The same home gets the same networks as long as they are free. Raises OutOfAddresses when none are: a default
    route takes nothing, a route to 10.0.0.0/8 takes everything.
    """
    return choose_free_networks(home_id, networks_of_host())


def choose_free_networks(home_id: str, taken: Iterable[IPv4Network]) -> tuple[IPv4Network, IPv4Network]:
    """`choose_networks` for a host that uses these networks."""
    used = list(taken)
    chosen = []
    for use, bits in (("pods", _POD_BITS), ("services", _SERVICE_BITS)):
        network = next((n for n in _candidates(f"{home_id} {use}", bits) if not any(map(n.overlaps, used))), None)
        if network is None:
            raise OutOfAddresses(
                f"no free /{bits} for {use} in {_PRIVATE}: this host's routes and addresses take all of it; "
                "name networks of your own in settings.json (podCidr, serviceCidr)"
            )
        chosen.append(network)
        used.append(network)
    return chosen[0], chosen[1]


def networks_of_host() -> list[IPv4Network]:
    """Every IPv4 network that an address or a route of this network namespace names, the default route left out."""
    found = set()
    with IPRoute() as netlink:
        for address in netlink.get_addr(family=2):
            text = address.get("address") or address.get("local")
            found.add(IPv4Network(f"{text}/{address['prefixlen']}", strict=False))
        for route in netlink.get_routes(family=2):
            if route["dst_len"] > 0:
                found.add(IPv4Network(f"{route.get('dst') or '0.0.0.0'}/{route['dst_len']}", strict=False))
    return sorted(found)


def _candidates(seed: str, bits: int) -> Iterator[IPv4Network]:
    """Every network of that size in 10.0.0.0/8 once, in an order that the seed decides."""
    count = 1 << (bits - _PRIVATE.prefixlen)
    size = 1 << (32 - bits)
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % count
    stride = 2 * (start // 2) + 1  # odd, so that it visits every one of a power of two
    for step in range(count):
        yield IPv4Network((int(_PRIVATE.network_address) + (start + step * stride) % count * size, bits))


class AddressPool:
    """A mesh's pod addresses. What is in use is told once, from what exists on the host; the pool keeps no file.

    It goes round the network, so that an address that was given back is the last to be given out again: connection
    tables and caches elsewhere have forgotten it by then. Where pods exist already, it starts at a random place:
    it cannot know which addresses were given back just before.
    """

    def __init__(self, network: IPv4Network, in_use: Iterable[IPv4Address] = ()) -> None:
        self._network = network
        self._in_use = set(in_use)
        self._next = random.randrange(self._first, self._last + 1) if self._in_use else self._first

    @property
    def _first(self) -> int:
        return 2  # after the network's own address and the gateway's

    @property
    def _last(self) -> int:
        return self._network.num_addresses - 2  # before the broadcast address

    def take(self) -> IPv4Address:
        """An address that no pod has. Raises OutOfAddresses when every one is taken."""
        for _ in range(self._first, self._last + 1):
            address = self._network[self._next]
            self._next = self._next + 1 if self._next < self._last else self._first
            if address not in self._in_use:
                self._in_use.add(address)
                return address
        raise OutOfAddresses(f"all {len(self._in_use)} addresses of the pod network {self._network} are in use")

    def give_back(self, address: IPv4Address) -> None:
        """Frees an address; one that is free already is no error."""
        self._in_use.discard(address)
