"""A port that tells protocols apart by their first bytes: HTTP/2, HTTP/1.1 with WebSocket, and plain TCP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

from echo import connection, http1, http2, proxyprotocol
from echo.instructions import HEADER, Server

GREETING = b"hello from "
_HTTP1 = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")


async def serve(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection on which the client speaks first."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        first = await reader.read(connection.MAX_READ)
        proxied, first = proxyprotocol.strip(first)
        told = {**connection.describe(writer), **proxied}
        if proxied and not first:
            first = await reader.read(connection.MAX_READ)
        if first.startswith(b"CONNECT "):
            target, first = await _tunnel(reader, writer, first)
            told["tunnel"] = target
        if not first:
            pass
        elif http2.PREFACE.startswith(first[: len(http2.PREFACE)]):
            await http2.serve(server, told, reader, writer, first)
        elif _HTTP1.match(first):
            await http1.serve(server, told, reader, writer, first)
        else:
            await _echo(server, told, reader, writer, first)
    await _close(writer)


async def serve_first(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection on which the server speaks first, and then does as any TCP server here."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(GREETING + server.version.encode() + b"\n")
        if first := await reader.read(connection.MAX_READ):
            await _echo(server, connection.describe(writer), reader, writer, first)
    await _close(writer)


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> tuple[str, bytes]:
    """Accept a CONNECT: its target, and the first bytes inside."""
    head, _, rest = first.partition(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    return head.split()[1].decode(), rest or await reader.read(connection.MAX_READ)


async def _echo(
    server: Server, told: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
) -> None:
    """A report a line: instructions come as the line `x-echo {…}`."""
    pending = first
    while pending:
        line, newline, rest = pending.partition(b"\n")
        if not newline:
            more = await reader.read(connection.MAX_READ)
            if more:
                pending += more
                continue
        text = line.decode(errors="replace")
        instructions = text.removeprefix(HEADER).strip() if text.startswith(HEADER) else None
        wanted = server.instructed(instructions)
        await asyncio.sleep(wanted.delay)
        if wanted.reset:
            connection.reset(writer)
            return
        writer.write(json.dumps(server.report("TCP", told, body=text)).encode() + b"\n")
        await writer.drain()
        if wanted.close:
            return
        pending = rest or await reader.read(connection.MAX_READ)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
