"""Queries over real TCP connections: framed, pipelined, bounded in time and number."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import dnslib
import pytest
from dnstools import FakeResolver, Node, answers, external, node, query, read, resolv_conf, resolver_reply, tcp_frame

from pilotfish.node.dns import tcp
from pilotfish.node.dns.listeners import open_sockets
from pilotfish.node.dns.table import NameRecord
from pilotfish.node.dns.tcp import TcpServer


@contextlib.asynccontextmanager
async def serving(
    *records: NameRecord, resolv: Path = Path("/nonexistent"), port: int = 53
) -> AsyncIterator[tuple[Node, TcpServer, socket.socket]]:
    async with node(*records, resolv_conf=resolv, port=port) as dns:
        server = TcpServer(dns.group, dns.responder, dns.counters)
        sockets = open_sockets("127.0.0.1", 0)
        sockets.udp.close()
        server.add(sockets.tcp, dns.responder.view("default"))
        try:
            yield dns, server, sockets.tcp
        finally:
            server.close()


@contextlib.asynccontextmanager
async def connected(to: socket.socket) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*to.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()


async def receive(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))


def test_pipelined_queries_are_all_answered_in_full() -> None:
    async def test() -> None:
        many = external("many.mesh", *(f"10.0.{n // 250}.{n % 250}" for n in range(1000)))
        async with serving(many) as (_, _, listening), connected(listening) as (reader, writer):
            stream = b"".join(tcp_frame(query("many.mesh", ident=n)) for n in range(20))
            for at in range(0, len(stream), 7):  # cut across frames
                writer.write(stream[at : at + 7])
            for n in range(20):
                response = await receive(reader)
                assert read(response).header.id == n
                assert len(answers(response)) == 1000

    asyncio.run(test())


def test_a_slow_upstream_does_not_hold_up_our_own_names(tmp_path: Path) -> None:
    let_go = threading.Event()

    def reply(asked: dnslib.DNSRecord, over_tcp: bool) -> bytes:
        if str(asked.q.qname) != ".":
            let_go.wait(5)
        return resolver_reply("www.example.com 30 IN A 192.0.2.80")(asked, over_tcp)

    async def test() -> None:
        with FakeResolver(reply).running() as resolver:
            path = resolv_conf(tmp_path, "nameserver 127.0.0.1")
            async with (
                serving(external("api.mesh", "1.1.1.1"), resolv=path, port=resolver.port) as (_, _, listening),
                connected(listening) as (reader, writer),
            ):
                writer.write(tcp_frame(query("www.example.com", ident=1)) + tcp_frame(query("api.mesh", ident=2)))
                assert read(await receive(reader)).header.id == 2
                let_go.set()
                assert answers(await receive(reader)) == [("www.example.com.", "A", "192.0.2.80")]

    asyncio.run(test())


def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "IDLE_SECONDS", 0.05)

    async def test() -> None:
        async with serving() as (_, _, listening), connected(listening) as (reader, writer):
            writer.write(b"\0\x20only a part")
            async with asyncio.timeout(5):
                assert await reader.read() == b""

    asyncio.run(test())


def test_too_many_connections_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_CONNECTIONS", 2)

    async def test() -> None:
        async with (
            serving(external("api.mesh", "1.1.1.1")) as (dns, _, listening),
            connected(listening) as one,
            connected(listening) as two,
        ):
            for reader, writer in (one, two):
                writer.write(tcp_frame(query("api.mesh")))
                assert answers(await receive(reader))
            async with connected(listening) as (reader, _):
                async with asyncio.timeout(5):
                    assert await reader.read() == b""
            assert dns.counters.overloaded == 1

    asyncio.run(test())


def test_removing_a_listener_ends_its_connections_only() -> None:
    async def test() -> None:
        async with serving(external("api.mesh", "1.1.1.1")) as (dns, server, first):
            sockets = open_sockets("127.0.0.1", 0)
            sockets.udp.close()
            server.add(sockets.tcp, dns.responder.view("default"))
            async with connected(first) as (reader, writer), connected(sockets.tcp) as (other, other_writer):
                writer.write(tcp_frame(query("api.mesh")))
                assert answers(await receive(reader))
                address = first.getsockname()
                server.remove(first)
                async with asyncio.timeout(5):
                    assert await reader.read() == b""
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(*address)
                other_writer.write(tcp_frame(query("api.mesh")))
                assert answers(await receive(other))

    asyncio.run(test())


@pytest.mark.parametrize("junk", [b"\0\0", b"\0\3abc", b"GET / HTTP/1.1\r\n\r\n" * 2000, tcp_frame(b"\xff" * 40)])
def test_junk_ends_the_connection_and_nothing_else(junk: bytes) -> None:
    async def test() -> None:
        async with serving(external("api.mesh", "1.1.1.1")) as (dns, _, listening):
            async with connected(listening) as (reader, writer):
                writer.write(junk)
                writer.write_eof()
                async with asyncio.timeout(5):
                    await reader.read()
            async with connected(listening) as (reader, writer):
                writer.write(tcp_frame(query("api.mesh")))
                assert answers(await receive(reader))
            assert dns.counters.internal_errors == 0

    asyncio.run(test())
