"""Queries over real UDP sockets: in batches, for many sockets, whatever arrives."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import dnslib
import pytest
from dnstools import (
    FakeResolver,
    Node,
    answers,
    external,
    node,
    query,
    read,
    resolv_conf,
    resolver_reply,
    service,
    until,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.node.dns import hot, udp
from pilotfish.node.dns.listeners import open_sockets
from pilotfish.node.dns.mmsg import BATCH
from pilotfish.node.dns.table import NameRecord
from pilotfish.node.dns.udp import UdpServer


def bound_udp() -> socket.socket:
    sockets = open_sockets("127.0.0.1", 0)
    sockets.tcp.close()
    return sockets.udp


@contextlib.asynccontextmanager
async def serving(
    *records: NameRecord, resolv: Path = Path("/nonexistent"), port: int = 53
) -> AsyncIterator[tuple[Node, UdpServer, socket.socket]]:
    async with node(*records, resolv_conf=resolv, port=port) as dns:
        server = UdpServer(dns.group, dns.responder, dns.counters)
        listening = bound_udp()
        server.add(listening, dns.responder.view("default"))
        try:
            yield dns, server, listening
        finally:
            server.close()


@contextlib.contextmanager
def client(to: socket.socket):  # type: ignore[no-untyped-def]
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(to.getsockname())
        yield sock


async def receive(sock: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 65535)


def test_the_second_answer_is_found_by_bytes_and_has_its_own_id() -> None:
    async def test() -> None:
        async with serving(external("api.mesh", "1.1.1.1")) as (dns, _, listening):
            with client(listening) as sock:
                for ident in (1, 2, 3):
                    sock.send(query("API.mesh", ident=ident))
                    response = await receive(sock)
                    assert read(response).header.id == ident
                    assert answers(response) == [("API.mesh.", "A", "1.1.1.1")]
            assert (dns.counters.queries, dns.counters.hits, dns.counters.built) == (3, 2, 1)

    asyncio.run(test())


def test_a_burst_is_answered_each_to_its_sender() -> None:
    """Hits, first questions, turns and what gets no answer, mixed in one batch and beyond it."""

    async def test() -> None:
        names = [external(f"n{n}.mesh", f"10.0.0.{n}") for n in range(50)]
        async with serving(*names, service("db", "default", "1.1.1.1", "2.2.2.2")) as (dns, _, listening):
            with contextlib.ExitStack() as stack:
                senders = [stack.enter_context(client(listening)) for _ in range(10)]
                for turn in range(3):
                    for n in range(BATCH * 3):
                        sender = senders[n % 10]
                        sender.send(query("db" if n % 7 == 0 else f"n{n % 50}.mesh", ident=n))
                        if n % 5 == 0:
                            sender.send(b"\xff" * 12)
                    for n in range(BATCH * 3):
                        response = await receive(senders[n % 10])
                        assert read(response).header.id == n
                        expected = 2 if n % 7 == 0 else 1
                        got = answers(response)
                        assert len(got) == expected, (turn, n)
                        if expected == 1:
                            assert got[0][2] == f"10.0.0.{n % 50}"
            assert dns.counters.send_failures == 0

    asyncio.run(test())


@pytest.mark.root
def test_a_failing_send_leaves_the_others() -> None:
    """An answer to port 0 cannot be sent; those before and after it are."""

    async def test() -> None:
        async with serving(external("api.mesh", "1.1.1.1")) as (dns, _, listening):
            with client(listening) as sock:
                sock.send(query("api.mesh", ident=4))
                _send_from_port_zero(listening, query("api.mesh"))
                sock.send(query("api.mesh", ident=5))
                assert [read(await receive(sock)).header.id for _ in range(2)] == [4, 5]
            assert (dns.counters.queries, dns.counters.send_failures) == (3, 1)

    asyncio.run(test())


def _send_from_port_zero(to: socket.socket, payload: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        port = to.getsockname()[1]
        header = b"\0\0" + port.to_bytes(2) + (8 + len(payload)).to_bytes(2) + b"\0\0"
        raw.sendto(header + payload, ("127.0.0.1", 0))


def test_upstream_answers_come_when_they_come(tmp_path: Path) -> None:
    async def test() -> None:
        with FakeResolver(resolver_reply("www.example.com 30 IN A 192.0.2.80")).running() as resolver:
            path = resolv_conf(tmp_path, "nameserver 127.0.0.1")
            async with serving(external("api.mesh", "1.1.1.1"), resolv=path, port=resolver.port) as (_, _, listening):
                with client(listening) as sock:
                    sock.send(query("www.example.com", ident=1))
                    assert answers(await receive(sock)) == [("www.example.com.", "A", "192.0.2.80")]

    asyncio.run(test())


def test_a_client_that_is_gone_by_then_hurts_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        with FakeResolver(resolver_reply()).running() as resolver:
            path = resolv_conf(tmp_path, "nameserver 127.0.0.1")
            async with serving(external("api.mesh", "1.1.1.1"), resolv=path, port=resolver.port) as (
                dns,
                server,
                first,
            ):
                second = bound_udp()
                server.add(second, dns.responder.view("default"))
                with client(first) as one, client(second) as two:
                    one.send(query("www.example.com"))
                    await until(lambda: dns.counters.queries == 1, "the query is in")
                    server.remove(first)
                    two.send(query("api.mesh"))
                    assert answers(await receive(two))

    asyncio.run(test())


def test_one_busy_pod_does_not_starve_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round serves one batch of each socket; here the event loop has its turn after each round."""
    monkeypatch.setattr(udp, "SHARE_SECONDS", 0.0)

    async def test() -> None:
        async with serving(external("api.mesh", "1.1.1.1")) as (dns, server, busy):
            quiet = bound_udp()
            server.add(quiet, dns.responder.view("default"))
            with client(busy) as flood, client(quiet) as asking:
                for n in range(2000):
                    with contextlib.suppress(BlockingIOError):
                        flood.send(query("api.mesh", ident=n))
                asking.send(query("api.mesh", ident=9))
                response = await receive(asking)
                assert read(response).header.id == 9
                assert dns.counters.queries <= 3 * BATCH + 1

    asyncio.run(test())


def test_letters_at_random_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolvers that vary the case of letters (0x20) ask the same in many ways."""
    monkeypatch.setattr(hot, "CAPACITY", 8)

    async def test() -> None:
        async with serving(external("abcdefgh.mesh", "1.1.1.1")) as (dns, _, listening):
            with client(listening) as sock:
                for n in range(200):
                    name = "".join(c.upper() if n >> i & 1 else c for i, c in enumerate("abcdefgh")) + ".mesh"
                    sock.send(query(name, ident=n))
                    assert answers(await receive(sock)) == [(f"{name}.", "A", "1.1.1.1")]
                    assert len(dns.responder.view("default").hot) <= 8 + 1

    asyncio.run(test())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_any_datagrams_leave_it_serving(packets: list[bytes]) -> None:
    async def test() -> None:
        async with serving(external("api.mesh", "1.1.1.1")) as (dns, _, listening):
            with client(listening) as sock:
                for packet in packets:
                    sock.send(packet)
                sock.send(query("api.mesh", ident=0xBEEF))
                while read_id(response := await receive(sock)) != 0xBEEF:
                    assert response[2] & 0x80
                assert dnslib.DNSRecord.parse(response).rr
            assert dns.counters.internal_errors == 0

    asyncio.run(test())


def read_id(packet: bytes) -> int:
    return int.from_bytes(packet[:2])
