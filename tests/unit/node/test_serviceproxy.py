import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilotfish.api.core import LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus
from pilotfish.api.discovery import SERVICE_NAME_LABEL, Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from pilotfish.api.meta import ObjectMeta
from pilotfish.node import netns
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.network import ensure_host_network
from pilotfish.node.nft import run_nft
from pilotfish.node.podnetwork import PodNetwork, create_pod_network
from pilotfish.node.serviceproxy import Backends, Frontend, ServiceProxy, render, render_changes, translations

OnHost = Callable[[Callable[[], None]], None]

VIP = "10.96.0.10"
MESH = MeshNetwork("abc123", IPv4Network("10.77.0.0/16"), IPv4Network("10.96.0.0/20"))


def _service(name: str = "web", cluster_ip: str = VIP, protocol: str = "TCP", **spec: Any) -> Service:
    ports = (ServicePort(name="main", port=80, protocol=protocol),)
    return Service(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ServiceSpec(**{"ports": ports, "cluster_ip": cluster_ip, **spec}),
    )


def _endpoints(
    *addresses: str, name: str = "web", protocol: str = "TCP", port: int = 8080, **conditions: Any
) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(name=f"{name}-{len(addresses)}", namespace="default", labels={SERVICE_NAME_LABEL: name}),
        endpoints=tuple(
            Endpoint(addresses=(address,), conditions=EndpointConditions(**conditions)) for address in addresses
        ),
        ports=(EndpointPort(name="main", protocol=protocol, port=port),),
    )


def _to(*addresses: str, port: int = 8080) -> tuple[tuple[IPv4Address, int], ...]:
    return tuple((IPv4Address(address), port) for address in addresses)


WEB = Frontend("default/web", IPv4Address(VIP), "tcp", 80)


# What goes where.


def test_ready_endpoints_of_all_slices_serve_in_one_order() -> None:
    slices = [_endpoints("10.77.0.9", ready=True), _endpoints("10.77.0.3"), _endpoints("10.77.0.4", ready=False)]
    assert translations([_service()], slices) == {WEB: Backends(_to("10.77.0.3", "10.77.0.9"))}
    assert translations([_service()], reversed(slices)) == {WEB: Backends(_to("10.77.0.3", "10.77.0.9"))}


def test_ending_endpoints_serve_only_while_none_is_ready() -> None:
    ending = _endpoints("10.77.0.9", ready=False, serving=True, terminating=True)
    starting = _endpoints("10.77.0.8", ready=False, serving=False)
    assert translations([_service()], [ending, starting]) == {WEB: Backends(_to("10.77.0.9"))}
    assert translations([_service()], [ending, _endpoints("10.77.0.3")]) == {WEB: Backends(_to("10.77.0.3"))}


def test_a_load_balancers_address_goes_where_the_cluster_ip_goes() -> None:
    ingress = LoadBalancerIngress(ip="10.96.15.1")
    status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=(ingress,)))
    balanced = msgspec.structs.replace(_service(), status=status)
    found = translations([balanced], [_endpoints("10.77.0.3")])
    balancer = Frontend("default/web", IPv4Address("10.96.15.1"), "tcp", 80, balancer=True)
    assert found == {WEB: Backends(_to("10.77.0.3")), balancer: Backends(_to("10.77.0.3"))}
    assert len({frontend.chain for frontend in found}) == 2


@pytest.mark.parametrize(
    "service",
    [_service(cluster_ip="None"), _service(cluster_ip=""), _service(type="ExternalName"), _service(protocol="SCTP")],
    ids=["headless", "no address yet", "ExternalName", "SCTP"],
)
def test_services_without_anything_to_translate_are_left_out(service: Service) -> None:
    assert translations([service], [_endpoints("10.77.0.3"), _endpoints("10.77.0.3", protocol="SCTP")]) == {}


def test_endpoints_of_other_services_ports_and_families_do_not_count() -> None:
    slices = [_endpoints("10.77.0.3", name="other"), _endpoints("10.77.0.3", protocol="UDP")]
    v6 = EndpointSlice(
        metadata=_endpoints().metadata, address_type="IPv6", endpoints=(Endpoint(addresses=("fd00::1",)),)
    )
    assert translations([_service()], [*slices, v6]) == {}


# The script.


def test_the_table_as_text() -> None:
    state = {
        WEB: Backends(_to("10.77.0.3", "10.77.0.4")),
        Frontend("default/dns", IPv4Address("10.96.0.11"), "udp", 53): Backends(_to("10.77.0.3", port=5353), True),
    }
    assert render(MESH, state) == (Path(__file__).parent / "testdata/services.nft").read_text()


def test_only_what_changed_is_written() -> None:
    one, two = {WEB: Backends(_to("10.77.0.3"))}, {WEB: Backends(_to("10.77.0.4"), True)}
    table = "inet pilotfish-abc123-services"
    chain = "service-default/web/tcp/80"
    assert render_changes(MESH, one, one) == ""
    assert render_changes(MESH, one, two).splitlines() == [
        f"flush chain {table} {chain}",
        f"add rule {table} {chain} meta l4proto tcp dnat ip to 10.77.0.4:8080",
        f"delete element {table} hairpins {{ 10.77.0.3 . 10.77.0.3 }}",
        f"add element {table} hairpins {{ 10.77.0.4 . 10.77.0.4 }}",
    ]
    assert render_changes(MESH, two, {}).splitlines() == [
        f"delete element {table} services {{ {VIP} . tcp . 80 }}",
        f"delete chain {table} {chain}",
        f"delete element {table} hairpins {{ 10.77.0.4 . 10.77.0.4 }}",
    ]


# At work.


@contextlib.contextmanager
def _answering(pod: PodNetwork, name: str) -> Iterator[None]:
    """TCP and UDP servers on port 8080 of the pod that say who they are and whom they see."""
    tcp = netns.run_in(pod.path, lambda: socket.create_server(("", 8080)))
    udp = netns.run_in(pod.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("", 8080))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, peer = tcp.accept()
                with connection:
                    connection.sendall(f"{name} {peer[0]}".encode())

    def serve_udp() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                _, peer = udp.recvfrom(10)
                udp.sendto(f"{name} {peer[0]}".encode(), peer)

    threads = [threading.Thread(target=serve), threading.Thread(target=serve_udp)]
    for server in (tcp, udp):
        server.settimeout(0.05)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        tcp.close()
        udp.close()


def _ask(address: str = VIP, port: int = 80, kind: int = socket.SOCK_STREAM) -> str:
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(1)
        try:
            client.connect((address, port))
            client.send(b"?")
            return client.recv(100).decode()
        except OSError as error:
            return type(error).__name__


def _with_three_pods(
    mesh: MeshNetwork, on_host: OnHost, check: Callable[[ServiceProxy, list[PodNetwork]], None]
) -> None:
    """Runs `check` on a host with three pods, of which the second ("b") and the third ("c") answer."""

    def body() -> None:
        ensure_host_network(mesh)
        pods = [create_pod_network(mesh, f"0000000{i}", mesh.pod_cidr[2 + i]) for i in range(3)]
        with _answering(pods[1], "b"), _answering(pods[2], "c"):
            check(ServiceProxy(mesh), pods)

    on_host(body)


@pytest.mark.root
def test_pods_and_the_host_reach_a_service_and_are_seen_as_themselves(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def check(proxy: ServiceProxy, pods: list[PodNetwork]) -> None:
        proxy.sync(
            [_service(), _service("web-udp", "10.96.0.11", "UDP")],
            [_endpoints("10.77.0.3"), _endpoints("10.77.0.3", name="web-udp", protocol="UDP")],
        )
        assert netns.run_in(pods[0].path, _ask) == "b 10.77.0.2"
        assert netns.run_in(pods[0].path, lambda: _ask("10.96.0.11", kind=socket.SOCK_DGRAM)) == "b 10.77.0.2"
        assert _ask() == "b 10.77.0.1"
        assert _ask("10.96.0.11", kind=socket.SOCK_DGRAM) == "b 10.77.0.1"
        # To itself, a pod comes from the gateway: its own address would look forged.
        assert netns.run_in(pods[1].path, _ask) == "b 10.77.0.1"

    _with_three_pods(mesh_network, on_throwaway_host, check)


@pytest.mark.root
def test_what_nobody_serves_is_refused_at_once(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    def check(proxy: ServiceProxy, pods: list[PodNetwork]) -> None:
        proxy.sync([_service()], [])
        started = time.monotonic()
        for _ in range(20):
            assert netns.run_in(pods[0].path, _ask) == "ConnectionRefusedError"
            assert _ask() == "ConnectionRefusedError"
        proxy.sync([_service()], [_endpoints("10.77.0.3")])
        assert netns.run_in(pods[0].path, lambda: _ask(port=81)) == "ConnectionRefusedError"
        assert netns.run_in(pods[0].path, lambda: _ask("10.96.0.99")) == "ConnectionRefusedError"
        assert _ask(port=81, kind=socket.SOCK_DGRAM) == "PermissionError"  # the kernel's word to its own UDP senders
        assert time.monotonic() - started < 1

    _with_three_pods(mesh_network, on_throwaway_host, check)


@pytest.mark.root
def test_connections_spread_and_follow_changes(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    def check(proxy: ServiceProxy, pods: list[PodNetwork]) -> None:
        def answers(count: int = 40) -> set[str]:
            return netns.run_in(pods[0].path, lambda: {_ask()[0] for _ in range(count)})

        both = _endpoints("10.77.0.3", "10.77.0.4")
        proxy.sync([_service()], [both])
        assert answers() == {"b", "c"}
        proxy.sync([_service(session_affinity="ClientIP")], [both])
        assert len(answers(10)) == 1
        proxy.sync([_service()], [_endpoints("10.77.0.4")])
        assert answers(10) == {"c"}
        proxy.sync([_service()], [])
        assert netns.run_in(pods[0].path, _ask) == "ConnectionRefusedError"
        proxy.sync([_service()], [_endpoints("10.77.0.3")])
        assert answers(10) == {"b"}
        proxy.sync([], [])
        assert netns.run_in(pods[0].path, _ask) == "ConnectionRefusedError"

    _with_three_pods(mesh_network, on_throwaway_host, check)


@pytest.mark.root
def test_a_table_that_others_flushed_is_made_again(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    def check(proxy: ServiceProxy, _: list[PodNetwork]) -> None:
        proxy.sync([_service()], [_endpoints("10.77.0.3")])
        run_nft("flush ruleset\n")
        proxy.sync([_service()], [_endpoints("10.77.0.4")])
        assert _ask() == "c 10.77.0.1"
        run_nft("flush ruleset\n")
        proxy.sync([_service()], [_endpoints("10.77.0.4")], replace=True)
        assert _ask() == "c 10.77.0.1"
        # And an agent that starts anew takes over what is there.
        ServiceProxy(mesh_network).sync([_service()], [_endpoints("10.77.0.3")])
        assert _ask() == "b 10.77.0.1"

    _with_three_pods(mesh_network, on_throwaway_host, check)


@pytest.mark.root
def test_a_udp_client_is_moved_when_its_endpoint_goes(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    """Connection tracking would keep a client that goes on sending from the same port at the old endpoint for ever."""
    service = _service(protocol="UDP")

    def check(proxy: ServiceProxy, pods: list[PodNetwork]) -> None:
        proxy.sync([service], [_endpoints("10.77.0.3", protocol="UDP")])
        client = netns.run_in(pods[0].path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with client:
            client.settimeout(1)
            client.connect((VIP, 80))
            for address, name in (("10.77.0.3", b"b"), ("10.77.0.4", b"c"), ("10.77.0.3", b"b")):
                proxy.sync([service], [_endpoints(address, protocol="UDP")])
                client.send(b"?")
                assert client.recv(100) == name + b" 10.77.0.2"

    _with_three_pods(mesh_network, on_throwaway_host, check)
