"""Port-forward: one connection to a port of a pod over one WebSocket.

The channels are those of remote commands: STDIN goes to the port, STDOUT comes from it, the closing of either is passed
on by itself, and ERROR carries a text when the port cannot be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.client.stream import Channel
from pilotfish.client.streamserver import AcceptedStream
from pilotfish.node import netns
from pilotfish.node.kubelet.pods import RunningPod

CONNECT_SECONDS = 5.0
_CHUNK = 64 * 1024
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def forward(stream: AcceptedStream, pod: RunningPod, port: int) -> None:
    """Connect and carry bytes both ways until both have ended or the client is gone."""
    try:
        reader, writer = await connect(pod, port)
    except OSError as error:
        reason = f"failed to connect to localhost:{port} inside the pod: {error or 'it does not answer'}"
        with contextlib.suppress(ServiceUnavailable):
            await stream.send(Channel.ERROR, reason.encode())
            await stream.close()
        return
    try:
        async with asyncio.TaskGroup() as group:
            receiving = group.create_task(_from_port(reader, stream))
            sending = group.create_task(_to_port(stream, writer))
            await asyncio.wait([receiving, sending], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                receiving.cancel()
            else:
                await stream.close_channel(Channel.STDOUT)
    except* (ServiceUnavailable, ConnectionError):
        pass  # one of the two broke off, and so ends the other
    finally:
        writer.close()
    await stream.close()


async def connect(pod: RunningPod, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a port on the pod's loopback. Raises OSError (TimeoutError is one)."""
    failure: OSError | None = None
    for family, address in _LOOPBACK:
        open_socket = partial(socket.socket, family, socket.SOCK_STREAM)
        inside = partial(netns.run_in, pod.netns, open_socket) if pod.netns is not None else open_socket
        connection = await asyncio.to_thread(inside)
        try:
            connection.setblocking(False)
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
            return await asyncio.open_connection(sock=connection, limit=_CHUNK)
        except OSError as error:
            connection.close()
            failure = failure or error
        except BaseException:
            connection.close()
            raise
    assert failure is not None
    raise failure


async def _from_port(reader: asyncio.StreamReader, stream: AcceptedStream) -> None:
    while data := await reader.read(_CHUNK):
        await stream.send(Channel.STDOUT, data)


async def _to_port(stream: AcceptedStream, writer: asyncio.StreamWriter) -> None:
    """Ends only when the client is gone: that it sends no more is told to the port alone."""
    async for frame in stream:
        if frame.channel == Channel.STDIN:
            writer.write(frame.data)
            await writer.drain()
        elif frame.channel == Channel.CLOSE:
            writer.write_eof()
