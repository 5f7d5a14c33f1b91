import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from socket import create_server, socket

import pytest

from pilotfish.node import netns
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.network import ensure_host_network, remove_host_network
from pilotfish.node.nft import run_nft, tables
from pilotfish.node.podnetwork import PodNetwork, create_pod_network, delete_pod_network, list_pod_networks
from pilotfish.node.sysctl import read_sysctl, write_sysctl

pytestmark = pytest.mark.root

OnHost = Callable[[Callable[[], None]], None]
UIDS = ["0a0a0a0a-1111-2222-3333-444444444444", "0b0b0b0b-1111-2222-3333-444444444444"]


def _run(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


def _host_state() -> tuple[str, str, str, str]:
    # An address is tentative for the moment in which the kernel looks for another like it.
    addresses = _run("ip -o addr").replace(" tentative", "")
    return _run("ip -o link"), addresses, _run("ip route"), _run("nft list ruleset")


def _connect(address: str, port: int, seconds: float = 2) -> str:
    """Who answered, as the address that it saw, or what kept us from connecting."""
    with socket() as client:
        client.settimeout(seconds)
        try:
            client.connect((address, port))
            return client.recv(100).decode()
        except OSError as error:
            return type(error).__name__


@contextlib.contextmanager
def _answering(namespace: Path | None, address: str, port: int) -> Iterator[None]:
    """A server that tells each client from which address it came."""
    listener = (
        netns.run_in(namespace, lambda: create_server((address, port))) if namespace else create_server((address, port))
    )

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listener.accept()
                with connection:
                    connection.sendall(peer[0].encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(2)
        listener.close()
        thread.join()


def _two_pods(mesh: MeshNetwork) -> list[PodNetwork]:
    ensure_host_network(mesh)
    return [create_pod_network(mesh, uid, mesh.pod_cidr[2 + place]) for place, uid in enumerate(UIDS)]


def test_everything_is_made_found_and_removed_without_a_trace(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def body() -> None:
        before, threads = _host_state(), threading.active_count()
        pods = _two_pods(mesh_network)
        ensure_host_network(mesh_network)
        assert [pod.netns for pod in pods] == [
            f"pf-{mesh_network.home_id}-0a0a0a0a",
            f"pf-{mesh_network.home_id}-0b0b0b0b",
        ]
        assert list_pod_networks(mesh_network.home_id) == pods
        assert all(len(pod.link) <= 15 for pod in pods)

        delete_pod_network(mesh_network.home_id, UIDS[0])
        delete_pod_network(mesh_network.home_id, UIDS[0])
        assert list_pod_networks(mesh_network.home_id) == pods[1:]

        remove_host_network(mesh_network.home_id)
        assert _host_state() == before
        assert list_pod_networks(mesh_network.home_id) == []
        assert threading.active_count() == threads

    on_throwaway_host(body)


def test_half_made_things_are_listed_made_anew_and_removed(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def body() -> None:
        before = _host_state()
        ensure_host_network(mesh_network)
        netns.create(mesh_network.pod_netns(UIDS[0]))
        _run(f"ip link add {mesh_network.pod_link(IPv4Address('10.77.0.2'))} type veth")
        (half,) = list_pod_networks(mesh_network.home_id)
        assert half.link == ""
        assert half.addresses == ()
        whole = create_pod_network(mesh_network, UIDS[0], IPv4Address("10.77.0.2"))
        assert list_pod_networks(mesh_network.home_id) == [whole]
        run_nft(f"table inet pilotfish-{mesh_network.home_id}-services\n")
        netns.path_of(mesh_network.pod_netns(UIDS[1])).touch()
        remove_host_network(mesh_network.home_id)
        remove_host_network(mesh_network.home_id)
        assert _host_state() == before
        assert netns.names(f"pf-{mesh_network.home_id}") == []

    on_throwaway_host(body)


def test_removal_leaves_what_others_have(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    def body() -> None:
        run_nft("table inet pilotfish-ffffff\ntable inet mine\n")
        _run("ip link add pfffffff type veth")
        before = _host_state()
        _two_pods(mesh_network)
        remove_host_network(mesh_network.home_id)
        assert _host_state() == before

    on_throwaway_host(body)


def test_pods_the_host_and_the_gateway_reach_each_other_with_their_own_addresses(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def body() -> None:
        one, two = _two_pods(mesh_network)
        with _answering(two.path, "10.77.0.3", 8080), _answering(None, "10.77.0.1", 8080):
            assert netns.run_in(one.path, lambda: _connect("10.77.0.3", 8080)) == "10.77.0.2"
            assert netns.run_in(one.path, lambda: _connect("10.77.0.1", 8080)) == "10.77.0.2"
            assert _connect("10.77.0.3", 8080) == "10.77.0.1"
        assert read_sysctl("net/ipv4/ip_forward") == 0

    on_throwaway_host(body)


def test_what_is_for_a_pod_that_is_gone_does_not_leave_the_host(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost, far_ends: tuple[Path, Path]
) -> None:
    internet, _ = far_ends

    def body() -> None:
        _run(f"ip link add up0 type veth peer name far0 netns {internet.name}")
        _run("ip addr add 198.51.100.2/24 dev up0; ip link set up0 up; ip route add default via 198.51.100.1")
        inside = "ip link set lo up; ip addr add 198.51.100.1/24 dev far0; ip link set far0 up; ip addr add {} dev lo"
        netns.run_in(internet, lambda: _run(inside.format("10.77.0.3/32")))
        one, _ = _two_pods(mesh_network)
        delete_pod_network(mesh_network.home_id, UIDS[1])
        with _answering(internet, "10.77.0.3", 8080):
            assert netns.run_in(one.path, lambda: _connect("10.77.0.3", 8080)) == "ConnectionRefusedError"
            assert _connect("10.77.0.3", 8080) == "ConnectionRefusedError"

    on_throwaway_host(body)


def test_a_pod_has_loopback_addresses_of_both_families_and_low_ports_but_no_other_ipv6(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def body() -> None:
        pod, _ = _two_pods(mesh_network)
        addresses = netns.run_in(pod.path, lambda: _run("ip -o addr"))
        assert [line.split()[1:4:2] for line in addresses.splitlines()] == [
            ["lo", "127.0.0.1/8"],
            ["lo", "::1/128"],
            ["eth0", "10.77.0.2/32"],
        ]
        assert netns.run_in(pod.path, lambda: read_sysctl("net/ipv4/ip_unprivileged_port_start")) == 0

    on_throwaway_host(body)


def test_a_connection_to_an_allocated_address_that_no_sidecar_caught_is_refused_at_once(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    """Thirty times as Envoy's user: the kernel withholds ICMP errors after a few, and then a connection hangs."""

    def body() -> None:
        pod, _ = _two_pods(mesh_network)
        call = ["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", "python3", "-c", _REFUSED_THIRTY_TIMES]
        started = time.monotonic()
        done = netns.run_in(pod.path, lambda: subprocess.run(call, capture_output=True, text=True, timeout=20))
        assert done.stdout.split() == ["refused"] * 30, done.stderr
        assert time.monotonic() - started < 2

    on_throwaway_host(body)


_REFUSED_THIRTY_TIMES = """
import socket
for _ in range(30):
    with socket.socket() as client:
        client.settimeout(3)
        try:
            client.connect(("240.240.0.63", 80))
        except ConnectionRefusedError:
            print("refused")
"""


def test_pods_pass_a_firewall_that_drops_what_it_does_not_know(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    docker = """
table ip filter {
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        ip saddr 172.17.0.0/16 accept
    }
}
"""

    def body() -> None:
        run_nft(docker)
        before = _host_state()
        one, two = _two_pods(mesh_network)
        ensure_host_network(mesh_network)
        assert _run("nft list ruleset").count(f'comment "pilotfish-{mesh_network.home_id}"') == 2
        with _answering(two.path, "10.77.0.3", 8080):
            assert netns.run_in(one.path, lambda: _connect("10.77.0.3", 8080)) == "10.77.0.2"
        remove_host_network(mesh_network.home_id)
        assert _host_state() == before

    on_throwaway_host(body)


@pytest.fixture
def far_ends() -> Iterator[tuple[Path, Path]]:
    """Two namespaces that can be what is behind a host's links."""
    names = [f"pf-test-{secrets.token_hex(4)}" for _ in range(2)]
    try:
        yield netns.create(names[0]), netns.create(names[1])
    finally:
        for name in names:
            netns.delete(name)


def test_pods_reach_the_world_behind_the_host_and_the_world_does_not_pass_through_it(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost, far_ends: tuple[Path, Path]
) -> None:
    internet, lan = far_ends
    table = f"pilotfish-{mesh_network.home_id}"

    def forwarding() -> int:
        return read_sysctl("net/ipv4/conf/up0/forwarding")

    def passing_through() -> str:
        return netns.run_in(internet, lambda: _connect("203.0.113.1", 80, seconds=0.3))

    def body() -> None:
        write_sysctl("net/ipv4/ip_forward", 0)
        for link, namespace, network in (("up0", internet, "198.51.100"), ("lan0", lan, "203.0.113")):
            _run(f"ip link add {link} type veth peer name far0 netns {namespace.name}")
            _run(f"ip addr add {network}.2/24 dev {link}; ip link set {link} up")
            inside = f"ip link set far0 up; ip addr add {network}.1/24 dev far0; ip route add default via {network}.2"
            netns.run_in(namespace, lambda command=inside: _run(command))
        _run("ip route add default via 198.51.100.1")
        netns.run_in(internet, lambda: _run("ip link set lo up; ip addr add 8.8.8.8/32 dev lo"))
        write_sysctl("net/ipv4/conf/lan0/forwarding", 1)  # for the way back, so that only our rule is in the way
        before = _host_state()

        pod, _ = _two_pods(mesh_network)
        assert forwarding() == 1
        with _answering(internet, "8.8.8.8", 80), _answering(lan, "203.0.113.1", 80):
            assert netns.run_in(pod.path, lambda: _connect("8.8.8.8", 80)) == "198.51.100.2"
            assert passing_through() == "TimeoutError"
            run_nft(f"flush chain inet {table} forward\n")
            assert passing_through() == "198.51.100.1"

        ensure_host_network(mesh_network)  # an agent that comes back must not take our own doing for the host's
        run_nft("table inet pilotfish-fffff1 { set opened { type ifname; }; }\n")
        remove_host_network(mesh_network.home_id)
        assert forwarding() == 1, "another mesh needs it"
        remove_host_network("fffff1")
        assert forwarding() == 0
        assert tables("") == []
        assert _host_state() == before

    on_throwaway_host(body)
