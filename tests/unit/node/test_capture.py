import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from pilotfish.node import netns
from pilotfish.node.capture import CaptureSpec, apply_capture, render_capture
from pilotfish.node.captureannotations import AnnotationError, capture_spec
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.network import ensure_host_network
from pilotfish.node.nft import run_nft
from pilotfish.node.podnetwork import create_pod_network

OnHost = Callable[[Callable[[], None]], None]

POD = "10.77.0.2"
HOST = "10.77.0.1"
SO_ORIGINAL_DST = 80
SO_MARK = 36


# The script, as text.

DEFAULT_OUTPUT = """\
    chain output {
        type nat hook output priority -100; policy accept;
        meta mark 1337 return
        # Envoy passes a captured inbound connection on to the application from these addresses.
        oifname "lo" ip saddr 127.0.0.6 return
        oifname "lo" ip6 saddr ::6 return
        oifname "lo" ip daddr != 127.0.0.1 tcp dport != { 53, 15008 } meta skuid 1337 goto to_inbound
        oifname "lo" ip6 daddr != ::1 tcp dport != { 53, 15008 } meta skuid 1337 goto to_inbound
        oifname "lo" tcp dport != 53 meta skuid != 1337 return
        meta skuid 1337 return
        oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skgid 1337 goto to_inbound
        oifname "lo" ip6 daddr != ::1 tcp dport != 15008 meta skgid 1337 goto to_inbound
        oifname "lo" tcp dport != 53 meta skgid != 1337 return
        meta skgid 1337 return
        meta l4proto { tcp, udp } th dport 53 redirect to :15053
        ip daddr 127.0.0.1 return
        ip6 daddr ::1 return
        goto to_outbound
    }
"""


def _chain_of(script: str, name: str) -> list[str]:
    body = script.partition(f"    chain {name} {{\n")[2].partition("    }\n")[0]
    return [line.strip() for line in body.splitlines() if "hook" not in line and "#" not in line]


def test_the_default_captures_all_but_the_proxys_own() -> None:
    script = render_capture(CaptureSpec())
    assert script.startswith("table inet pilotfish\ndelete table inet pilotfish\ntable inet pilotfish {\n")
    assert DEFAULT_OUTPUT in script
    assert _chain_of(script, "prerouting") == ["meta l4proto tcp goto inbound"]
    assert _chain_of(script, "inbound") == [
        "tcp dport 15008 return",
        "tcp dport { 15020, 15021, 15090 } return",
        "goto to_inbound",
    ]


def test_without_dns_capture_no_rule_speaks_of_port_53() -> None:
    script = render_capture(CaptureSpec(dns=False))
    assert "53" not in script.replace("15053", "")
    assert "15053" not in script
    assert 'oifname "lo" meta skuid != 1337 return' in _chain_of(script, "output")


def test_includes_and_excludes_in_istios_order() -> None:
    spec = CaptureSpec(
        dns=False,
        include_outbound_ranges=(ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16"), ip_network("fd00::/8")),
        exclude_outbound_ranges=(ip_network("10.2.0.0/16"),),
        include_outbound_ports=(3306,),
        exclude_outbound_ports=(9042, 7),
        include_inbound_ports=(8080, 8443),
        exclude_inbound_ports=(15020,),
        exclude_interfaces=("eth1",),
        virtual_interfaces=("net1", "net2"),
    )
    script = render_capture(spec)
    output = _chain_of(script, "output")
    assert output[:3] == [
        "meta mark 1337 return",
        'oifname { "eth1" } return',
        "meta l4proto { tcp, udp } th dport { 7, 9042 } return",
    ]
    assert output[-4:] == [
        "ip daddr { 10.2.0.0/16 } return",
        "tcp dport { 3306 } goto to_outbound",
        "ip daddr { 10.0.0.0/8 } goto to_outbound",
        "ip6 daddr { fd00::/8 } goto to_outbound",
    ]
    assert _chain_of(script, "inbound") == ["tcp dport 15008 return", "tcp dport { 8080, 8443 } goto to_inbound"]
    assert _chain_of(script, "prerouting") == [
        'iifname { "net1", "net2" } ip daddr { 10.0.0.0/8 } goto to_outbound',
        'iifname { "net1", "net2" } ip6 daddr { fd00::/8 } goto to_outbound',
        'iifname { "net1", "net2" } return',
        'iifname { "eth1" } return',
        "meta l4proto tcp goto inbound",
    ]


def test_loopback_named_as_a_range_is_captured_too() -> None:
    script = render_capture(CaptureSpec(include_outbound_ranges=(ip_network("127.0.0.0/8"),)))
    assert "skuid != 1337" not in script
    assert "skgid != 1337" not in script


def test_empty_includes_capture_nothing() -> None:
    script = render_capture(CaptureSpec(dns=False, include_outbound_ranges=(), include_inbound_ports=()))
    assert _chain_of(script, "output")[-1] == "ip6 daddr ::1 return"
    assert _chain_of(script, "inbound") == ["tcp dport 15008 return"]


# Annotations.


DNS = {"ISTIO_META_DNS_CAPTURE": "true"}
"""What a proxy's environment says."""


def test_no_annotation_means_istios_defaults() -> None:
    spec = capture_spec({}, DNS)
    assert spec == replace(CaptureSpec(), exclude_inbound_ports=(15090, 15021, 15020))


def test_every_annotation_has_its_effect() -> None:
    traffic = "traffic.sidecar.istio.io/"
    spec = capture_spec(
        {
            f"{traffic}includeOutboundIPRanges": "10.0.0.0/8, 192.168.0.1/16",
            f"{traffic}excludeOutboundIPRanges": "10.1.0.0/16",
            f"{traffic}includeOutboundPorts": "80,443",
            f"{traffic}excludeOutboundPorts": "9042",
            f"{traffic}includeInboundPorts": "",
            f"{traffic}excludeInboundPorts": "22",
            f"{traffic}excludeInterfaces": "eth1,eth2",
            f"{traffic}kubevirtInterfaces": "net1",
            "status.sidecar.istio.io/port": "15099",
            "sidecar.istio.io/interceptionMode": "REDIRECT",
        },
        {},
        proxy_uid=2000,
    )
    assert spec == CaptureSpec(
        dns=False,
        include_outbound_ranges=(ip_network("10.0.0.0/8"), ip_network("192.168.0.0/16")),
        exclude_outbound_ranges=(ip_network("10.1.0.0/16"),),
        include_outbound_ports=(80, 443),
        exclude_outbound_ports=(9042,),
        include_inbound_ports=(),
        exclude_inbound_ports=(15090, 15021, 15099, 22),
        exclude_interfaces=("eth1", "eth2"),
        virtual_interfaces=("net1",),
        proxy_uid=2000,
    )
    assert capture_spec({f"{traffic}includeInboundPorts": "*", f"{traffic}includeOutboundIPRanges": "*"}, DNS)


def test_interception_none_means_no_capture() -> None:
    assert capture_spec({"sidecar.istio.io/interceptionMode": "NONE"}, DNS) is None
    of_mesh = {"ISTIO_META_INTERCEPTION_MODE": "NONE"}
    assert capture_spec({}, of_mesh) is None
    assert capture_spec({"sidecar.istio.io/interceptionMode": "REDIRECT"}, of_mesh) is not None


def test_ports_that_the_mesh_chooses() -> None:
    chosen = {"ISTIO_META_ENVOY_PORT": "16001", "ISTIO_META_INBOUND_CAPTURE_PORT": "16006"}
    spec = capture_spec({}, {**chosen, "PROXY_CONFIG": '{"statusPort": 16020}'})
    assert spec is not None
    assert spec.exclude_inbound_ports == (15090, 15021, 16020)
    script = render_capture(spec)
    assert "redirect to :16001" in script and "redirect to :16006" in script
    assert "15001" not in script and "15006" not in script


def test_all_bad_annotations_are_named_with_what_was_expected() -> None:
    with pytest.raises(AnnotationError) as caught:
        capture_spec(
            {
                "sidecar.istio.io/interceptionMode": "TPROXY",
                "traffic.sidecar.istio.io/excludeInboundPorts": "80,http",
                "traffic.sidecar.istio.io/excludeOutboundPorts": "*",
                "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.1",
                "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.0.0.0/33",
                "traffic.sidecar.istio.io/excludeInterfaces": 'eth0"; flush ruleset',
            },
            DNS,
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert any(line.startswith("annotation sidecar.istio.io/interceptionMode:") for line in lines)
    assert (
        'annotation traffic.sidecar.istio.io/excludeInboundPorts: "80,http": '
        'expected ports from 1 to 65535 separated by commas, found "http"'
    ) in lines


# The rules at work, in a pod.


def _as_user(uid: int) -> None:
    """The calling thread's sockets are from now on this user's and group's. Threads of `run_in` end after one call."""
    libc = ctypes.CDLL(None)
    libc.setfsuid(uid)
    libc.setfsgid(uid)


def _ask(
    to: tuple[str, int], *, uid: int = 0, mark: int = 0, source: str = "", kind: int = socket.SOCK_STREAM
) -> Callable[[], str]:
    """A client that sends a byte and returns the answer, or why there is none. Its UDP socket is connected: an answer
    from any other address does not count."""

    def ask() -> str:
        _as_user(uid)
        with socket.socket(socket.AF_INET, kind) as client:
            client.settimeout(1)
            if mark:
                client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            if source:
                client.bind((source, 0))
            try:
                client.connect(to)
                client.send(b"?")
                return client.recv(100).decode()
            except OSError as error:
                return type(error).__name__

    return ask


def _original_destination(connection: socket.socket) -> str:
    raw = connection.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
    _, port, address = struct.unpack_from("!HH4s", raw)
    return f"{IPv4Address(address)}:{port}"


@contextlib.contextmanager
def _answering(namespace: Path, ports: list[int], udp: list[tuple[str, int]]) -> Iterator[None]:
    """Servers on all addresses; a TCP client is told the port and where it wanted to go, a UDP client the port."""
    stop = threading.Event()
    listeners = [netns.run_in(namespace, lambda port=port: socket.create_server(("", port))) for port in ports]
    datagrams = [netns.run_in(namespace, lambda address=address: _udp_socket(address)) for address in udp]

    def serve_stream(listener: socket.socket) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(1)
                    connection.recv(1)
                    connection.sendall(f"{listener.getsockname()[1]} {_original_destination(connection)}".encode())

    def serve_datagram(server: socket.socket) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                _, peer = server.recvfrom(100)
                server.sendto(str(server.getsockname()[1]).encode(), peer)

    threads = [threading.Thread(target=serve_stream, args=(each,)) for each in listeners]
    threads += [threading.Thread(target=serve_datagram, args=(each,)) for each in datagrams]
    for each in (*listeners, *datagrams):
        each.settimeout(0.05)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for each in (*listeners, *datagrams):
            each.close()


def _udp_socket(address: tuple[str, int]) -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(address)
    return server


def _in_captured_pod(
    mesh: MeshNetwork, on_host: OnHost, spec: CaptureSpec, check: Callable[[Callable[[Callable[[], str]], str]], None]
) -> None:
    """Runs `check` on a host with one captured pod; it is given a function that runs a client inside the pod."""

    def body() -> None:
        ensure_host_network(mesh)
        pod = create_pod_network(mesh, "0a0a0a0a", IPv4Address(POD))
        apply_capture(spec, pod.path)
        apply_capture(spec, pod.path)
        host = Path("/proc/thread-self/ns/net")
        app_ports = [8080, 8081, 15001, 15006, 15008, 15020, 15021, 15053, 15090]
        dns = [("127.0.0.1", 15053)]  # on all addresses it would answer from the pod's, which nobody asked
        with _answering(pod.path, app_ports, dns), _answering(host, [8080, 53], [(HOST, 53), (HOST, 8080)]):
            check(lambda client: netns.run_in(pod.path, client))

    on_host(body)


@pytest.mark.root
def test_outbound_connections_reach_15001_with_their_destination(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def check(in_pod: Callable[[Callable[[], str]], str]) -> None:
        assert in_pod(_ask(("9.9.9.9", 1234))) == "15001 9.9.9.9:1234"
        assert in_pod(_ask(("240.240.0.63", 50000), uid=1000)) == "15001 240.240.0.63:50000"
        assert in_pod(_ask((HOST, 8080))) == f"15001 {HOST}:8080"
        assert in_pod(_ask((HOST, 8080), uid=1337)) == f"8080 {HOST}:8080"
        assert in_pod(_ask((HOST, 8080), mark=1337)) == f"8080 {HOST}:8080"
        assert in_pod(_ask((HOST, 8080), mark=1338)) == f"15001 {HOST}:8080"

    _in_captured_pod(mesh_network, on_throwaway_host, CaptureSpec(), check)


@pytest.mark.root
def test_inbound_connections_reach_15006_but_the_proxys_own_ports(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def check(_: Callable[[Callable[[], str]], str]) -> None:
        assert _ask((POD, 8080))() == f"15006 {POD}:8080"
        assert _ask((POD, 8081))() == f"8081 {POD}:8081"
        for port in (15008, 15020, 15021, 15090):
            assert _ask((POD, port))() == f"{port} {POD}:{port}"

    spec = capture_spec({"traffic.sidecar.istio.io/excludeInboundPorts": "8081"}, DNS)
    assert spec
    _in_captured_pod(mesh_network, on_throwaway_host, spec, check)


@pytest.mark.root
def test_what_a_pod_sends_to_itself(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    def check(in_pod: Callable[[Callable[[], str]], str]) -> None:
        assert in_pod(_ask(("127.0.0.1", 8080))) == "8080 127.0.0.1:8080"
        assert in_pod(_ask(("127.0.0.1", 8080), uid=1337)) == "8080 127.0.0.1:8080"
        assert in_pod(_ask((POD, 8080))) == f"8080 {POD}:8080"
        # The application called itself through a service, and Envoy chose this very pod.
        assert in_pod(_ask((POD, 8080), uid=1337)) == f"15006 {POD}:8080"
        # Envoy passes an inbound connection on to the application.
        assert in_pod(_ask((POD, 8080), uid=1337, source="127.0.0.6")) == f"8080 {POD}:8080"

    _in_captured_pod(mesh_network, on_throwaway_host, CaptureSpec(), check)


@pytest.mark.root
def test_excluded_destinations_leave_uncaptured(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    def check(in_pod: Callable[[Callable[[], str]], str]) -> None:
        assert in_pod(_ask((HOST, 8080))) == f"8080 {HOST}:8080"
        assert in_pod(_ask((HOST, 53))) == f"53 {HOST}:53"
        assert in_pod(_ask(("9.9.9.9", 80))) == "15001 9.9.9.9:80"

    spec = CaptureSpec(exclude_outbound_ranges=(ip_network(f"{HOST}/32"),), exclude_outbound_ports=(53,))
    _in_captured_pod(mesh_network, on_throwaway_host, spec, check)


@pytest.mark.root
def test_dns_to_any_server_is_answered_as_if_by_that_server(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    def check(in_pod: Callable[[Callable[[], str]], str]) -> None:
        for server in ("8.8.8.8", "10.9.9.9", HOST, "127.0.0.1", "127.0.0.53"):
            assert in_pod(_ask((server, 53), kind=socket.SOCK_DGRAM)) == "15053"
            assert in_pod(_ask((server, 53))) == f"15053 {server}:53"
        assert in_pod(_ask((HOST, 53), kind=socket.SOCK_DGRAM, uid=1337)) == "53"
        assert in_pod(_ask((HOST, 53), uid=1337)) == f"53 {HOST}:53"
        assert in_pod(_ask((HOST, 8080), kind=socket.SOCK_DGRAM)) == "8080"

    _in_captured_pod(mesh_network, on_throwaway_host, CaptureSpec(), check)


@pytest.mark.root
def test_one_socket_that_asks_several_dns_servers_gets_each_ones_answer(
    mesh_network: MeshNetwork, on_throwaway_host: OnHost
) -> None:
    """As glibc does. Istio splits such queries into conntrack zones; ours need none: nobody asks on from inside."""

    def ask_all() -> str:
        servers = ["8.8.8.8", "8.8.4.4", "10.9.9.9"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            for server in servers * 20:
                client.sendto(b"?", (server, 53))
            answered = [client.recvfrom(100)[1] for _ in range(60)]
        return " ".join(f"{server}:{answered.count((server, 53))}" for server in servers)

    def check(in_pod: Callable[[Callable[[], str]], str]) -> None:
        assert in_pod(ask_all) == "8.8.8.8:20 8.8.4.4:20 10.9.9.9:20"

    _in_captured_pod(mesh_network, on_throwaway_host, CaptureSpec(), check)


@pytest.mark.root
def test_without_dns_capture_queries_leave(mesh_network: MeshNetwork, on_throwaway_host: OnHost) -> None:
    def check(in_pod: Callable[[Callable[[], str]], str]) -> None:
        assert in_pod(_ask((HOST, 53), kind=socket.SOCK_DGRAM)) == "53"
        assert in_pod(_ask((HOST, 53))) == f"15001 {HOST}:53"

    _in_captured_pod(mesh_network, on_throwaway_host, CaptureSpec(dns=False), check)


@pytest.mark.root
@pytest.mark.parametrize(
    "spec",
    [
        CaptureSpec(include_outbound_ranges=(ip_network("::/0"), ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16"))),
        CaptureSpec(include_outbound_ranges=(), include_inbound_ports=(), exclude_inbound_ports=()),
        CaptureSpec(exclude_interfaces=("eth1", "a.b"), virtual_interfaces=("net1",), include_outbound_ports=(1, 1)),
    ],
)
def test_nft_takes_every_form_of_spec(spec: CaptureSpec) -> None:
    assert "chain output" in netns.run_in_new(lambda: run_nft(render_capture(spec) + "list ruleset\n"))
