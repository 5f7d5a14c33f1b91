"""DNS over TCP (RFC 7766): many queries on a connection, answered as their answers come."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from dataclasses import dataclass, field

from pilotfish.node.dns.counters import Counters
from pilotfish.node.dns.responder import Later, Responder, View

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""How long a connection may say nothing, or not take its answers."""
MAX_CONNECTIONS = 256
"""For one socket, so one pod."""
MAX_PIPELINED = 64
"""Queries of one connection that wait for an upstream answer or for a proxy; more are not read meanwhile."""
_RETRY_SECONDS = 1.0
_length = struct.Struct(">H")


@dataclass(slots=True)
class _Listener:
    view: View
    accepting: asyncio.Task[None]
    connections: set[asyncio.Task[None]] = field(default_factory=set)


class TcpServer:
    """Serves listening TCP sockets, each with the view of its pod's namespace. Its tasks belong to `group`."""

    def __init__(self, group: asyncio.TaskGroup, responder: Responder, counters: Counters) -> None:
        self._group = group
        self._responder = responder
        self._counters = counters
        self._listeners: dict[socket.socket, _Listener] = {}

    def add(self, sock: socket.socket, view: View) -> None:
        """Serve a listening socket, until `remove`."""
        sock.setblocking(False)
        self._listeners[sock] = _Listener(view, self._group.create_task(self._accept(sock)))

    def remove(self, sock: socket.socket) -> None:
        """Stop serving a socket; it and its connections are closed by the tasks that wait at them."""
        listener = self._listeners.pop(sock)
        for task in (listener.accepting, *listener.connections):
            task.cancel()

    def close(self) -> None:
        """Stop serving and close all sockets."""
        for sock in list(self._listeners):
            self.remove(sock)

    async def _accept(self, sock: socket.socket) -> None:
        with sock:
            await self._accept_connections(sock)

    async def _accept_connections(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(sock)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:
                    log.warning("cannot accept a DNS connection: %s; next try in a second", error.strerror)
                    await asyncio.sleep(_RETRY_SECONDS)
                continue
            listener = self._listeners[sock]
            if len(listener.connections) >= MAX_CONNECTIONS:
                self._counters.overloaded += 1
                connection.close()
                continue
            self._counters.tcp_connections += 1
            task = self._group.create_task(self._serve(connection, listener.view))
            listener.connections.add(task)
            task.add_done_callback(listener.connections.discard)

    async def _serve(self, connection: socket.socket, view: View) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
        except OSError:
            connection.close()
            return
        try:
            async with asyncio.TaskGroup() as resolving:
                await self._converse(reader, writer, view, resolving)
        except* (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, or was silent for too long; TimeoutError is an OSError
        finally:
            writer.close()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, view: View, resolving: asyncio.TaskGroup
    ) -> None:
        room = asyncio.Semaphore(MAX_PIPELINED)
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                (size,) = _length.unpack(await reader.readexactly(_length.size))
                packet = await reader.readexactly(size)
            self._counters.queries += 1
            self._counters.tcp_queries += 1
            outcome = self._responder.respond(view, packet, tcp=True)
            if outcome is None:
                return  # nothing may be said to this, and nothing sensible follows it
            if isinstance(outcome, Later):
                await room.acquire()
                resolving.create_task(self._resolve(writer, outcome, room))
            else:
                await _write(writer, packet[:2] + outcome)

    async def _resolve(self, writer: asyncio.StreamWriter, query: Later, room: asyncio.Semaphore) -> None:
        try:
            body = await self._responder.resolve(query, tcp=True)
            await _write(writer, query.packet[:2] + body)
        finally:
            room.release()


async def _write(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(_length.pack(len(message)) + message)
    async with asyncio.timeout(IDLE_SECONDS):
        await writer.drain()
