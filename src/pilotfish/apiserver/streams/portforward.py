"""`kubectl port-forward`: connections to a pod's ports, two SPDY streams each, told apart by the header `requestID`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pilotfish.api.errors import ApiError, ServiceUnavailable
from pilotfish.apiserver.streams.nodes import Nodes
from pilotfish.apiserver.streams.remotecommand import relay
from pilotfish.apiserver.streams.spdy.frames import REFUSED_STREAM, Data, ProtocolError, RstStream, SynStream
from pilotfish.apiserver.streams.spdy.session import Session
from pilotfish.apiserver.streams.target import Target
from pilotfish.client.stream import Channel, Frame

log = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = f"SPDY/3.1+{PROTOCOL}"
"""The WebSocket subprotocol of newer clients, which carries the same SPDY connection."""

_QUEUED = 16
"""Pieces of data that wait for one port. A slow port then holds up the others of the same kubectl, as with Kubernetes:
the protocol's clients know no flow control for each stream."""


async def forward_ports(session: Session, nodes: Nodes, target: Target) -> None:
    """Serve one client until it goes away."""
    pending: dict[str, SynStream] = {}
    connections: dict[int, PortStreams] = {}

    async def carry(connection: PortStreams) -> None:
        try:
            await _carry(connection, nodes, target)
        finally:
            connections.pop(connection.data_stream, None)

    async def receive(group: asyncio.TaskGroup) -> None:
        async for event in session:
            match event:
                case SynStream():
                    connection = await _opened(session, event, pending)
                    if connection is not None:
                        connections[connection.data_stream] = connection
                        group.create_task(carry(connection))
                case Data(stream, data, fin) if stream in connections:
                    await connections[stream].received(data, fin=fin)
                case RstStream(stream) if stream in connections:
                    await connections[stream].reset()

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            await receive(group)
            raise _ClientGone

    try:
        async with asyncio.TaskGroup() as both:
            tasks = [both.create_task(serve()), both.create_task(session.gone())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except* _ClientGone:
        log.debug("the client of a port-forward to %s/%s went away", *target.pod.key)
    except* (ProtocolError, ServiceUnavailable) as group:
        log.info("port-forward to %s/%s ended: %s", *target.pod.key, group.exceptions[0])


class _ClientGone(Exception):
    """Ends the tasks of a client's connections together."""


async def _opened(session: Session, opened: SynStream, pending: dict[str, SynStream]) -> PortStreams | None:
    """The connection that this stream completes, if it is the second of the two."""
    headers = dict(opened.headers)
    kind, port, request = headers.get("streamtype"), headers.get("port", ""), headers.get("requestid", "")
    if kind not in ("data", "error") or not port.isdigit() or not 0 < int(port) < 1 << 16:
        await session.reset(opened.stream, REFUSED_STREAM)
        return None
    await session.accept(opened.stream)
    other = pending.pop(request, None)
    if other is None:
        pending[request] = opened
        return None
    data, error = (opened, other) if kind == "data" else (other, opened)
    return PortStreams(session, int(port), data.stream, error.stream)


async def _carry(connection: PortStreams, nodes: Nodes, target: Target) -> None:
    """One connection to one port, from its opening to its end."""
    query = [("port", str(connection.port))]
    try:
        try:
            async with nodes.stream(target.node, target.path("portForward"), query) as node:
                await relay(connection, node)
        except ApiError as error:
            await connection.send(Channel.ERROR, error.message.encode())
        await connection.finish()
    except ServiceUnavailable as gone:
        log.debug("the client of a forwarded port went away: %s", gone)


@dataclass(eq=False)
class PortStreams:
    """`remotecommand.Streams` of one forwarded connection: STDIN to the port, STDOUT from it, ERROR a text."""

    session: Session
    port: int
    data_stream: int
    error_stream: int
    _received: asyncio.Queue[Frame | None] = field(default_factory=lambda: asyncio.Queue(_QUEUED))
    _finished: bool = False
    _over: bool = False

    async def received(self, data: bytes, *, fin: bool) -> None:
        """Data from the client; returns when there is room for more."""
        if data and not self._over:
            await self._received.put(Frame(Channel.STDIN, data))
        if fin and not self._over:
            await self._received.put(Frame(Channel.CLOSE, bytes([Channel.STDIN])))

    async def reset(self) -> None:
        """The client is done with this connection."""
        if not self._over:
            await self._received.put(None)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while frame := await self._received.get():
            yield frame

    async def send(self, channel: int, data: bytes) -> None:
        if channel == Channel.ERROR:
            text = f"error forwarding port {self.port}: {data.decode(errors='replace')}"
            await self.session.send(self.error_stream, text.encode())
        elif channel == Channel.STDOUT:
            await self.session.send(self.data_stream, data)

    async def close_channel(self, channel: int) -> None:
        """Nothing more comes from the port, and so no error either: kubectl waits for the end of both."""
        if not self._finished:
            self._finished = True
            await self.session.finish(self.data_stream)
            await self.session.finish(self.error_stream)

    async def gone(self) -> None:
        await self.session.gone()

    async def finish(self) -> None:
        """End the connection towards the client. What it still sends is let go."""
        self._over = True
        while not self._received.empty():
            self._received.get_nowait()
        await self.close_channel(Channel.STDOUT)
