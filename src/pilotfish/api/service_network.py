"""How a mesh's service network is divided: addresses of Services, and at its end those of load balancers.

The two are given out by different hands, so neither can give out what the other just gave.
"""

from __future__ import annotations

import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESERVED = 16
"""How many of the first addresses are kept for what asks for them by number: .1 for kubernetes, .10 for DNS."""

_SHARE = 16
"""One address in so many is a load balancer's."""


def cluster_addresses(network: Network) -> range:
    """The positions in a network from which Services get an address by default."""
    size = network.num_addresses
    return range(min(RESERVED, size // 2), size - 1 - size // _SHARE)


def load_balancer_addresses(network: Network) -> range:
    """The positions in a network from which load balancers get one; the address after them is for broadcasts."""
    size = network.num_addresses
    return range(size - 1 - size // _SHARE, size - 1)
