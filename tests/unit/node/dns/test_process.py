"""The whole process with real namespaces: pods are served inside theirs, also after it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dnslib
import pytest
from dnstools import answers, external, query, read, resolv_conf, service, tcp_frame, tcp_receive
from pyroute2 import IPRoute

from pilotfish.home import Home, Settings
from pilotfish.node import netns
from pilotfish.node.dns import process, snapshot
from pilotfish.node.dns.control import DnsControl, DnsError, PodDns
from pilotfish.node.dns.listeners import CAPTURE_ADDRESS, CAPTURE_PORT

pytestmark = pytest.mark.root

RUN = """
import asyncio, sys
from pathlib import Path
from pilotfish.home import Home
from pilotfish.node.dns import process
home = Home(Path(sys.argv[1]))
asyncio.run(process.run(home, home.settings(), resolv_conf=Path(sys.argv[2])))
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose gateway address is a loopback one, different for each test."""
    made = Home(tmp_path)
    octets = f"{secrets.randbelow(250) + 2}.{secrets.randbelow(250)}"
    made.save_settings(
        Settings(node_name="n", api_port=1, xds_port=1, pod_cidr=f"127.{octets}.0/24", service_cidr="10.96.0.0/20")
    )
    made.run.mkdir()
    snapshot.save(process.names_file(made), [service("web", "shop", "10.0.0.1"), external("api.mesh", "240.240.0.1")])
    return made


@pytest.fixture
def namespace() -> Iterator[Path]:
    with made_namespace() as path:
        yield path


@contextlib.contextmanager
def made_namespace() -> Iterator[Path]:
    name = f"pf-test-{secrets.token_hex(4)}"
    path = netns.create(name)
    try:
        netns.run_in(path, _loopback_up)
        yield path
    finally:
        netns.delete(name)


def _loopback_up() -> None:
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")


@contextlib.contextmanager
def running(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    conf = resolv_conf(home.path, f"nameserver {home.settings().gateway_ip}")
    child = subprocess.Popen([sys.executable, "-c", RUN, str(home.path), str(conf)])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def ask_in(path: Path, packet: bytes, *, tcp: bool = False) -> bytes:
    """The answer that a program in the namespace gets."""
    return netns.run_in(path, lambda: ask(packet, (CAPTURE_ADDRESS, CAPTURE_PORT), tcp=tcp))


def ask(packet: bytes, to: tuple[str, int], *, tcp: bool = False) -> bytes:
    with socket.socket(type=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.connect(to)
        sock.sendall(tcp_frame(packet) if tcp else packet)
        return tcp_receive(sock) if tcp else sock.recv(65535)


@contextlib.asynccontextmanager
async def agent(home: Home) -> AsyncIterator[DnsControl]:
    control = DnsControl(home.dns_socket)
    task = asyncio.create_task(control.run())
    try:
        yield control
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def pod(path: Path, name: str = "shop") -> PodDns:
    return PodDns(uid=path.name, netns=str(path), namespace=name)


def test_pods_are_answered_in_their_namespaces_with_their_names(home: Home, namespace: Path) -> None:
    async def test() -> None:
        with running(home), made_namespace() as other:
            async with agent(home) as control:
                await control.sync([pod(namespace), pod(other, "default")])
                for tcp in (False, True):
                    assert answers(ask_in(namespace, query("web"), tcp=tcp)) == [("web.", "A", "10.0.0.1")]
                    assert read(ask_in(other, query("web"), tcp=tcp)).header.rcode == dnslib.RCODE.NXDOMAIN
                stats = await control.stats()
                assert set(stats["pods"]) == {namespace.name, other.name}
                assert stats["counters"]["tcpQueries"] == 2
                assert stats["upstream"] == {}, "our own address in resolv.conf is not asked"

    asyncio.run(test())


def test_clients_without_a_sidecar_get_kubernetes_names_at_the_gateway(home: Home) -> None:
    async def test() -> None:
        gateway = (home.settings().gateway_ip, 53)
        with running(home):
            async with agent(home) as control:
                await control.stats()
                found = ask(query("web.shop.svc.cluster.local"), gateway)
                assert answers(found) == [("web.shop.svc.cluster.local.", "A", "10.0.0.1")]
                assert read(ask(query("api.mesh"), gateway, tcp=True)).header.rcode == dnslib.RCODE.NXDOMAIN

    asyncio.run(test())


def test_a_killed_process_is_told_its_pods_and_knows_its_names(home: Home, namespace: Path) -> None:
    async def test() -> None:
        async with agent(home) as control:
            with running(home) as child:
                await control.add(pod(namespace))
                assert answers(ask_in(namespace, query("api.mesh")))
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
                with pytest.raises(OSError, match="refused"):
                    ask_in(namespace, query("api.mesh"))
            with running(home):
                assert answers(await _first_answer(namespace, query("api.mesh")))

    asyncio.run(test())


async def _first_answer(path: Path, packet: bytes) -> bytes:
    deadline = time.monotonic() + 10
    while True:
        try:
            return ask_in(path, packet)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


def test_a_namespace_that_vanishes_takes_its_sockets_only(home: Home, namespace: Path) -> None:
    async def test() -> None:
        with running(home):
            async with agent(home) as control:
                with made_namespace() as doomed:
                    await control.sync([pod(namespace), pod(doomed)])
                served: list[str] = [doomed.name]
                deadline = time.monotonic() + 8
                while doomed.name in served and time.monotonic() < deadline:
                    served = (await control.stats())["pods"]
                    await asyncio.sleep(0.05)
                assert served == [namespace.name]
                assert answers(ask_in(namespace, query("api.mesh")))

    asyncio.run(test())


def test_what_keeps_a_pod_from_being_served_is_said(home: Home, namespace: Path) -> None:
    async def test() -> None:
        def occupy() -> socket.socket:
            sock = socket.socket(type=socket.SOCK_DGRAM)
            sock.bind((CAPTURE_ADDRESS, CAPTURE_PORT))
            return sock

        with running(home), netns.run_in(namespace, occupy):
            async with agent(home) as control:
                with pytest.raises(DnsError, match="something in the pod listens"):
                    await control.add(pod(namespace))
                with pytest.raises(DnsError, match="does not exist"):
                    await control.add(pod(Path("/run/netns/pf-none")))

    asyncio.run(test())


def test_pods_are_served_on_without_an_agent(home: Home, namespace: Path) -> None:
    async def test() -> None:
        with running(home):
            async with agent(home) as control:
                await control.add(pod(namespace))
            assert answers(ask_in(namespace, query("web")))
            async with agent(home) as anew:
                await anew.sync([])
                with pytest.raises(OSError, match="refused"):
                    ask_in(namespace, query("web"))

    asyncio.run(test())
