"""The server's end of `stream`: what the API server accepts from kubectl, and a node agent from the API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from pilotfish.api.errors import BadRequest, ServiceUnavailable
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
