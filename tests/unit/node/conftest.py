"""A host for tests that is thrown away: a network namespace in which the mesh's host side is made.

Threads inherit the namespace of the thread that starts them, so everything that a test body calls takes that namespace
for the host's own. Only the pods' names in /run/netns are the machine's; they carry a random home id and are removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network

import pytest
from pyroute2 import IPRoute

from pilotfish.node import netns
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.network import remove_host_network

OnHost = Callable[[Callable[[], None]], None]


@pytest.fixture
def mesh_network() -> Iterator[MeshNetwork]:
    mesh = MeshNetwork(secrets.token_hex(3), IPv4Network("10.77.0.0/16"), IPv4Network("10.96.0.0/20"))
    yield mesh
    remove_host_network(mesh.home_id)


@pytest.fixture
def on_throwaway_host() -> OnHost:
    """Runs a test's body as if on a host that has nothing but its loopback."""

    def run(body: Callable[[], None]) -> None:
        def with_loopback() -> None:
            with IPRoute() as netlink:
                netlink.link("set", index=1, state="up")
            body()

        netns.run_in_new(with_loopback)

    return run
