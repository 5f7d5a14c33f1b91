"""The client: jobs come as JSON lines over a Unix socket, so that a request costs no start of a process."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from echo import connection


class TLS(msgspec.Struct, frozen=True):
    """TLS of the application's own: files in PEM, and what name and protocols to ask for."""

    ca: str = ""
    """Without it any certificate is taken."""
    certificate: str = ""
    key: str = ""
    sni: str = ""
    alpn: tuple[str, ...] = ()
    versions: tuple[str, str] = ("TLSv1_2", "TLSv1_3")
    """The oldest and the newest to offer."""
    ciphers: str = ""
    """Of TLS 1.2, as OpenSSL names them."""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to send, `count` times, `concurrency` of them at once. Times are seconds."""

    protocol: str
    """HTTP/1.1, HTTP/2, gRPC, gRPC-stream, TCP, websocket, or resolve (the name of `url`)."""
    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    """TCP: what to send; lines are answered one by one. gRPC stream and WebSocket: a message a line."""
    tls: TLS | None = None
    count: int = 1
    concurrency: int = 8
    timeout: float = 10.0
    reuse: bool = True
    """Whether requests share connections."""
    address: str = ""
    """Connect here (host:port) and not to where the URL says."""
    listen_first: bool = False
    """TCP: say nothing before the server has spoken."""
    source: str = ""
    """Connect from this address."""


Answer = dict[str, Any]
Send = Callable[[Job], Awaitable[Answer]]


async def serve(path: str) -> None:
    """Take jobs at a Unix socket until cancelled."""
    server = await asyncio.start_unix_server(_session, path, limit=1 << 24)
    await server.serve_forever()


async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        job = msgspec.json.decode(line, type=Job)
        writer.write(json.dumps(await run(job)).encode() + b"\n")
        await writer.drain()
    writer.close()


async def run(job: Job) -> list[Answer]:
    """Every answer, in the order in which the requests began."""
    from echo import senders

    places = asyncio.Semaphore(job.concurrency)

    async def once(send: Send) -> Answer:
        async with places:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(job.timeout):
                    answer = await send(job)
            except TimeoutError:
                answer = {"error": f"no answer within {job.timeout} s"}
            except senders.FAILURES as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            return {**answer, "took": time.perf_counter() - began}

    async with senders.sender(job) as send:
        return list(await asyncio.gather(*(once(send) for _ in range(job.count))))


@functools.cache
def client_tls(tls: TLS) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if tls.ca:
        context.load_verify_locations(tls.ca)
    else:
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    context.minimum_version, context.maximum_version = (ssl.TLSVersion[version] for version in tls.versions)
    if tls.ciphers:
        context.set_ciphers(tls.ciphers)
    if tls.alpn:
        context.set_alpn_protocols(list(tls.alpn))
    return context


async def connect(job: Job, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of the job, with TLS where it wants that."""
    name, _, number = job.address.rpartition(":")
    options: dict[str, Any] = {"local_addr": (job.source, 0)} if job.source else {}
    if job.tls is not None:
        options |= {"ssl": client_tls(job.tls), "server_hostname": job.tls.sni}
    # The pods' names have one address of each family at most: what cannot be reached there cannot be reached.
    found = await asyncio.get_running_loop().getaddrinfo(name or host, int(number or port), type=socket.SOCK_STREAM)
    return await asyncio.open_connection(*found[0][4][:2], limit=connection.MAX_READ, **options)
