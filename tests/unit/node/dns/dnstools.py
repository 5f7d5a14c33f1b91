"""What the tests of the DNS process share: dnslib as an independent reader and writer, a resolver to ask."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dnslib

from pilotfish.node.dns.counters import Counters
from pilotfish.node.dns.responder import Responder
from pilotfish.node.dns.servers import Servers
from pilotfish.node.dns.table import NameRecord, Table
from pilotfish.node.dns.upstream import Upstream

DOMAIN = "cluster.local"


def service(name: str, namespace: str, *ips: str, scope: str = "*", version: str = "1") -> NameRecord:
    host = f"{name}.{namespace}.svc.{DOMAIN}"
    return NameRecord(f"{scope}/{host}", version, ips, "Kubernetes", name, namespace)


def external(host: str, *ips: str, scope: str = "*", version: str = "1") -> NameRecord:
    return NameRecord(f"{scope}/{host}", version, ips, "External")


def query(name: str, qtype: str = "A", *, ident: int = 0x1234, edns: int = 0, flags: str = "") -> bytes:
    record = dnslib.DNSRecord.question(name, qtype)
    record.header.id = ident
    if edns or flags:
        record.add_ar(dnslib.EDNS0(udp_len=edns or 1232, flags=flags))
    return pack(record)


def pack(record: dnslib.DNSRecord) -> bytes:
    return bytes(record.pack())


def read(packet: bytes) -> dnslib.DNSRecord:
    return dnslib.DNSRecord.parse(packet)


def answers(packet: bytes) -> list[tuple[str, str, str]]:
    """Owner, type and data of each answer."""
    return [(str(r.rname), dnslib.QTYPE[r.rtype], str(r.rdata)) for r in read(packet).rr]


@dataclass
class Node:
    """The parts of the DNS process without its sockets."""

    group: asyncio.TaskGroup
    servers: Servers
    upstream: Upstream
    responder: Responder
    counters: Counters
    table: Table

    def say(self, packet: bytes, namespace: str = "default", *, tcp: bool = False) -> bytes:
        """The answer that needs no upstream."""
        body = self.responder.respond(self.responder.view(namespace), packet, tcp=tcp)
        assert isinstance(body, bytes), body
        return packet[:2] + body


@contextlib.asynccontextmanager
async def node(
    *records: NameRecord, resolv_conf: Path = Path("/nonexistent"), port: int = 53, informed: bool = True
) -> AsyncIterator[Node]:
    """`informed`: the control plane has sent the records, be there none."""
    counters, table = Counters(), Table(DOMAIN)
    servers = Servers(resolv_conf, port)
    async with asyncio.TaskGroup() as group:
        upstream = Upstream(group, servers, counters, port=port)
        responder = Responder(table, upstream, DOMAIN, counters)
        if informed:
            responder.update(records, ())
        watching = group.create_task(servers.watch(responder.search_changed))
        try:
            yield Node(group, servers, upstream, responder, counters, table)
        finally:
            watching.cancel()


@dataclass
class FakeResolver:
    """A resolver on a port of this machine, UDP and TCP, that says what `reply` says; None: nothing at all.

    The one fake here: what stands behind a host's resolv.conf cannot be had on a machine without a network.
    """

    reply: Callable[[dnslib.DNSRecord, bool], bytes | None]
    queries: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def names(self) -> list[str]:
        """The names asked for, probes left out."""
        asked = [str(read(q).q.qname) for q in self.queries]
        return [name for name in asked if name != "."]

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeResolver]:
        stop = threading.Event()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(("127.0.0.1", 0))
            self.port = tcp.getsockname()[1]
            udp.bind(("127.0.0.1", self.port))
            tcp.listen()
            tcp.settimeout(0.02)
            udp.settimeout(0.02)
            threads = [
                threading.Thread(target=self._serve_udp, args=(udp, stop)),
                threading.Thread(target=self._serve_tcp, args=(tcp, stop)),
            ]
            for thread in threads:
                thread.start()
            try:
                yield self
            finally:
                stop.set()
                for thread in threads:
                    thread.join()

    def _serve_udp(self, sock: socket.socket, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                packet, peer = sock.recvfrom(65535)
            except TimeoutError:
                continue
            self.queries.append(packet)
            if response := self.reply(read(packet), False):
                sock.sendto(response, peer)

    def _serve_tcp(self, sock: socket.socket, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                connection, _ = sock.accept()
            except TimeoutError:
                continue
            with connection:
                packet = tcp_receive(connection)
                self.queries.append(packet)
                if response := self.reply(read(packet), True):
                    connection.sendall(struct.pack(">H", len(response)) + response)


def resolver_reply(*records: str, rcode: str = "NOERROR", soa: str = "") -> Callable[[dnslib.DNSRecord, bool], bytes]:
    """A reply that gives zone file lines to every question."""

    def reply(asked: dnslib.DNSRecord, tcp: bool) -> bytes:
        response = asked.reply(aa=0)
        response.header.rcode = getattr(dnslib.RCODE, rcode)
        for line in records:
            response.add_answer(*dnslib.RR.fromZone(line))
        if soa:
            response.add_auth(*dnslib.RR.fromZone(soa))
        return pack(response)

    return reply


def tcp_receive(sock: socket.socket) -> bytes:
    (size,) = struct.unpack(">H", _receive(sock, 2))
    return _receive(sock, size)


def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("closed")
        data += piece
    return data


def tcp_frame(packet: bytes) -> bytes:
    return struct.pack(">H", len(packet)) + packet


def resolv_conf(folder: Path, *lines: str) -> Path:
    path = folder / "resolv.conf"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


async def until(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)
