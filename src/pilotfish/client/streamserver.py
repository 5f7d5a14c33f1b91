"""The server's end of `stream`: what the API server accepts from kubectl, and a node agent from the API server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from pilotfish.api.errors import BadRequest, ServiceUnavailable
from pilotfish.client.peer import Peer
from pilotfish.client.stream import Channel, Frame

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
"""What is spoken, best first. Version 4 is version 5 without `Channel.CLOSE`."""


def choose_protocol(offered: Sequence[str]) -> str:
    """The best protocol that the client offers too. Raises BadRequest when there is none."""
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    raise BadRequest(
        f"the client offers the protocols [{' '.join(offered)}]; one of [{' '.join(PROTOCOLS)}] is needed: "
        "use a newer client"
    )


class AcceptedStream:
    """The same as `ChannelStream`, accepted: iterate for the client's frames until it goes away."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, channel: int, data: bytes) -> None:
        """Returns when there is room for more. Raises ServiceUnavailable when the client is gone."""
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            raise ServiceUnavailable("the stream is closed: the client is gone")
        try:
            await self._websocket.send_bytes(bytes([channel]) + data)
        except WebSocketDisconnect as error:
            raise ServiceUnavailable("the stream is closed: the client is gone") from error

    async def close_channel(self, channel: int) -> None:
        """Tell the client that nothing more comes on a channel."""
        await self.send(Channel.CLOSE, bytes([channel]))

    async def gone(self) -> None:
        """Returns when the client is known to be gone, also while it is not being read from."""
        await peer_of(self._websocket).gone()

    async def close(self) -> None:
        """End the stream in order; nothing happens when the client is gone already."""
        if self._websocket.application_state is WebSocketState.CONNECTED:
            try:
                await self._websocket.close()
            except WebSocketDisconnect:
                return

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data: bytes = message.get("bytes") or (message.get("text") or "").encode()
            if data:
                yield Frame(data[0], data[1:])


_PEER = "stream_peer"


def peer_of(websocket: WebSocket) -> Peer:
    """The client of a WebSocket. Only servers that use `StreamWebSocketProtocol` know it."""
    peer: Peer = websocket.scope["state"][_PEER]
    return peer


class StreamWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, for streams: they know of a lost client while nobody receives, and end with the server.

    Subprotocols are the application's business alone: kubectl names one "SPDY/3.1+portforward.k8s.io", which the
    standard's grammar does not allow.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._peer = Peer(transport)
        self.app_state = {**self.app_state, _PEER: self._peer}
        self.conn = _AnySubprotocol(logger=logging.getLogger("uvicorn.error"), max_size=self.config.ws_max_size)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.lost()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._peer.lost()
        try:
            super().shutdown()
        except InvalidState:  # the closing handshake is under way, which uvicorn does not expect
            self.transport.abort()


class _AnySubprotocol(ServerProtocol):
    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        return None
