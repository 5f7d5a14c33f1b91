"""Port-forward over a WebSocket without SPDY: two channels for each port, one for its data and one for its errors.

Kubernetes' kubelet speaks it as `v4.channel.k8s.io` (pkg/kubelet portforward: websocket.go), clients other than kubectl
use it. The ports are named in the query; each channel begins with its port's number, little end first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from pilotfish.api.errors import ApiError, BadRequest, ServiceUnavailable
from pilotfish.apiserver.streams.nodes import Nodes
from pilotfish.apiserver.streams.remotecommand import relay
from pilotfish.apiserver.streams.target import Target
from pilotfish.client.stream import Channel, Frame
from pilotfish.client.streamserver import AcceptedStream

log = logging.getLogger(__name__)

PROTOCOL = "v4.channel.k8s.io"
_QUEUED = 16
"""Messages that wait for one port. A slow port then holds up the others of the same client."""


def wanted_ports(request: HTTPConnection) -> tuple[int, ...]:
    """The ports that a query names, as `ports=80&ports=81` or `ports=80,81`. Raises BadRequest."""
    words = [word for value in request.query_params.getlist("ports") for word in value.split(",")]
    if not words:
        raise BadRequest('you must specify "ports"')
    for word in words:
        if not word.isdecimal() or not 0 < int(word) < 1 << 16:
            raise BadRequest(f'ports has "{word}": it takes numbers from 1 to 65535')
    return tuple(map(int, words))


async def forward_channels(client: AcceptedStream, nodes: Nodes, target: Target, ports: tuple[int, ...]) -> None:
    """Serve one client, until all of its ports' connections have ended or it goes away."""
    connections = [ChannelPort(client, 2 * position, port) for position, port in enumerate(ports)]

    async def receive() -> None:
        async for frame in client:
            position, is_error = divmod(frame.channel, 2)
            if not is_error and position < len(connections):
                await connections[position].received(frame.data)

    async def carry_all() -> None:
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(_carry(connection, nodes, target))

    try:
        async with asyncio.TaskGroup() as both:
            tasks = [both.create_task(work) for work in (carry_all(), receive())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except* ServiceUnavailable as gone:
        log.debug("the client of a port-forward to %s/%s went away: %s", *target.pod.key, gone.exceptions[0])


async def _carry(connection: ChannelPort, nodes: Nodes, target: Target) -> None:
    await connection.greet()
    try:
        async with nodes.stream(target.node, target.path("portForward"), [("port", str(connection.port))]) as node:
            await relay(connection, node)
    except ApiError as error:
        with contextlib.suppress(ServiceUnavailable):
            await connection.send(Channel.ERROR, error.message.encode())


@dataclass(eq=False)
class ChannelPort:
    """`remotecommand.Streams` of one forwarded connection: STDIN to the port, STDOUT from it, ERROR a text."""

    client: AcceptedStream
    channel: int
    port: int
    _received: asyncio.Queue[Frame] = field(default_factory=lambda: asyncio.Queue(_QUEUED))

    async def greet(self) -> None:
        """Tell the client which port the channels are for."""
        number = self.port.to_bytes(2, "little")
        await self.client.send(self.channel, number)
        await self.client.send(self.channel + 1, number)

    async def received(self, data: bytes) -> None:
        """Data from the client; returns when there is room for more."""
        await self._received.put(Frame(Channel.STDIN, data))

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while True:
            yield await self._received.get()

    async def send(self, channel: int, data: bytes) -> None:
        if channel == Channel.ERROR:
            text = f"error forwarding port {self.port}: {data.decode(errors='replace')}"
            await self.client.send(self.channel + 1, text.encode())
        elif channel == Channel.STDOUT:
            await self.client.send(self.channel, data)

    async def close_channel(self, channel: int) -> None:
        """The end of one direction cannot be told in this protocol; what has ended on both sides, the node ends."""

    async def gone(self) -> None:
        await self.client.gone()
