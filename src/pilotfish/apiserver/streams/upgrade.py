"""From an HTTP request to a bare stream of bytes: an upgraded connection, or a WebSocket that stands for one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from pilotfish.api.errors import BadRequest
from pilotfish.client.peer import Peer
from pilotfish.client.streamserver import peer_of

TAKE_OVER = "take_over"
"""The entry in a request's state that hands over its connection; there when the client asks for an upgrade to SPDY."""
SPDY = "SPDY/3.1"
_CHUNK = 64 * 1024


class Connection:
    """The bytes of a connection that speaks HTTP no more (a `spdy.session.Wire`)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        self._reader, self._writer, self._peer = reader, writer, peer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(_CHUNK)
        except OSError:  # a connection that breaks has ended
            return b""

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        await self._peer.gone()

    async def close(self, patience: float) -> None:
        """Let the client close first, for so many seconds: it might lose what it has not read yet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while await self.read():
                    pass
        self._writer.close()


class Tunnel:
    """A WebSocket whose messages are pieces of a stream of bytes (a `spdy.session.Wire`)."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def read(self) -> bytes:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return b""
            if data := message.get("bytes"):
                return bytes(data)

    async def write(self, data: bytes) -> None:
        try:
            await self._websocket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError) as error:  # RuntimeError: another write found the client gone
            raise ConnectionResetError("the client is gone") from error

    async def gone(self) -> None:
        await peer_of(self._websocket).gone()


class TakenOver:
    """The response to a request whose connection is no longer HTTP's: nothing more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


def negotiate(request: Request, supported: str) -> str:
    """The stream protocol to speak after the upgrade. Raises BadRequest when the client does not offer it."""
    if TAKE_OVER not in request.scope["state"]:
        raise BadRequest(f"Upgrade request required: this takes {SPDY} or a WebSocket")
    offered = [
        name.strip() for value in request.headers.getlist("x-stream-protocol-version") for name in value.split(",")
    ]
    if supported not in offered:
        raise BadRequest(f"unable to negotiate protocol: client supports [{' '.join(offered)}], server [{supported}]")
    return supported


async def upgrade(request: Request, protocol: str) -> Connection:
    """Answer with 101 and take the connection. The handler must return `TakenOver` afterwards."""
    connection: Connection = request.scope["state"][TAKE_OVER]()
    head = (
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        f"Upgrade: {SPDY}",
        f"X-Stream-Protocol-Version: {protocol}",
    )
    await connection.write("".join(f"{line}\r\n" for line in (*head, "")).encode())
    return connection


class TakenOverProtocol(asyncio.StreamReaderProtocol):
    """What uvicorn keeps of a connection that was taken over: that it must be closed when the server ends."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.Transport, connections: set[Any]) -> None:
        super().__init__(reader)
        self.peer = Peer(transport)
        self._taken = transport
        self._connections = connections
        connections.add(self)
        self.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.peer.lost()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self.peer.lost()
        self._taken.close()
