"""Port-forward: one connection to a port of a pod over one WebSocket.

The channels are those of remote commands: STDIN goes to the port, STDOUT comes from it, the closing of either is passed
on by itself, and ERROR carries a text when the port cannot be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from functools import partial

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.client.stream import Channel
from pilotfish.client.streamserver import AcceptedStream
from pilotfish.node import netns
from pilotfish.node.bootstrap import ADMIN_PORT
from pilotfish.node.kubelet.pods import RunningPod
from pilotfish.node.proxy import ADMIN_SOCKET

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
_CHUNK = 64 * 1024
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def forward(stream: AcceptedStream, pod: RunningPod, port: int) -> None:
    """Connect and carry bytes both ways until both have ended or the client is gone."""
    try:
        reader, writer = await connect(pod, port)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "it does not answer"
        reason = f"failed to connect to localhost:{port} inside the pod: {why}"
        with contextlib.suppress(ServiceUnavailable):
            await stream.send(Channel.ERROR, reason.encode())
            await stream.close()
        return
    half_closed = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_from_port(reader, stream, half_closed)),
                group.create_task(_to_port(stream, writer, half_closed)),
                group.create_task(stream.gone()),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except* (ServiceUnavailable, ConnectionError) as broken:
        log.debug("a forwarded connection to port %d broke off: %s", port, broken.exceptions[0])
    finally:
        writer.close()
    await stream.close()


async def connect(pod: RunningPod, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a port on the pod's loopback; in a pod on the host's network the port of Envoy's admin interface
    stands for the socket that Envoy has instead. Raises OSError (TimeoutError is one).
    """
    if pod.attachment is None:
        raise OSError(errno.ENETDOWN, "the pod has no network yet")
    path = pod.attachment.netns
    if path is None and port == ADMIN_PORT and (pod.folder.proxy / ADMIN_SOCKET).exists():
        return await _connect_to_admin(pod)
    failure: OSError | None = None
    for family, address in _LOOPBACK:
        open_socket = partial(socket.socket, family, socket.SOCK_STREAM)
        inside = partial(netns.run_in, path, open_socket) if path is not None else open_socket
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


async def _connect_to_admin(pod: RunningPod) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    # By way of a descriptor: the path may be longer than a socket's address.
    folder = os.open(pod.folder.proxy, os.O_PATH | os.O_DIRECTORY)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{ADMIN_SOCKET}", limit=_CHUNK)
    finally:
        os.close(folder)


async def _from_port(reader: asyncio.StreamReader, stream: AcceptedStream, half_closed: asyncio.Event) -> None:
    """Ends when both sides have said that they send no more."""
    while data := await reader.read(_CHUNK):
        await stream.send(Channel.STDOUT, data)
    await stream.close_channel(Channel.STDOUT)
    await half_closed.wait()


async def _to_port(stream: AcceptedStream, writer: asyncio.StreamWriter, half_closed: asyncio.Event) -> None:
    """Ends when the client is gone."""
    async for frame in stream:
        if frame.channel == Channel.STDIN:
            writer.write(frame.data)
            await writer.drain()
        elif frame.channel == Channel.CLOSE:
            writer.write_eof()
            half_closed.set()
