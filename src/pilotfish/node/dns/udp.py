"""DNS over UDP for many sockets at once: batches in, batches out, and nothing is read where bytes suffice.

All sockets hang on one epoll instance, which hangs on the event loop: while there is work it is done here, a batch
for each socket that has some in turn, so that no pod waits for another; then the loop gets a share.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import time

from pilotfish.node.dns.counters import Counters
from pilotfish.node.dns.hot import Buffer, pinned
from pilotfish.node.dns.mmsg import Batch
from pilotfish.node.dns.responder import Later, Responder, View

log = logging.getLogger(__name__)

SHARE_SECONDS = 0.005
"""How long batches are served before the event loop's other work gets a turn."""
MAX_PENDING = 4096
"""Queries that wait for an upstream answer or for a proxy."""


class UdpServer:
    """Serves UDP sockets, each with the view of its pod's namespace. Its tasks belong to `group`."""

    def __init__(self, group: asyncio.TaskGroup, responder: Responder, counters: Counters) -> None:
        self._group = group
        self._responder = responder
        self._counters = counters
        self._batch = Batch()
        self._sockets: dict[int, tuple[socket.socket, View]] = {}
        self._pending = 0
        self._epoll = select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._serve)

    def add(self, sock: socket.socket, view: View) -> None:
        """Serve a bound socket, until `remove`."""
        self._sockets[sock.fileno()] = (sock, view)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def remove(self, sock: socket.socket) -> None:
        """Stop serving a socket and close it."""
        self._epoll.unregister(sock.fileno())
        del self._sockets[sock.fileno()]
        sock.close()

    def close(self) -> None:
        """Stop serving and close all sockets."""
        self._loop.remove_reader(self._epoll.fileno())
        for sock, _ in list(self._sockets.values()):
            self.remove(sock)
        self._epoll.close()

    def _serve(self) -> None:
        until = time.monotonic() + SHARE_SECONDS
        while ready := self._epoll.poll(0):
            for fd, _ in ready:
                self._serve_batch(fd, *self._sockets[fd])
            if time.monotonic() > until:
                return

    def _serve_batch(self, fd: int, sock: socket.socket, view: View) -> None:
        batch = self._batch
        try:
            sizes = batch.receive(fd)
        except OSError as error:
            # Errors of the socket are read by this; one that stays would show as a count that runs away.
            self._counters.receive_failures += 1
            log.debug("receiving at fd %d: %s", fd, error)
            return
        count = len(sizes)
        memory, find = batch.memory, view.hot.iovecs.get
        found = [
            find(memory[body : slot + size]) for body, slot, size in zip(batch.bodies, batch.slots, sizes, strict=False)
        ]
        misses = found.count(None)
        self._counters.queries += count
        self._counters.hits += count - misses
        # What the misses' vectors point to has to live until it is sent.
        kept = self._fill(sock, view, sizes, found) if misses else ()
        self._counters.send_failures += batch.send(fd, found)
        del kept
        if misses:
            view.hot.trim()

    def _fill(self, sock: socket.socket, view: View, sizes: list[int], found: list[bytes | None]) -> list[Buffer]:
        """Put answers where the query's bytes found none; those that must be asked upstream come later."""
        kept: list[Buffer] = []
        for position, size in enumerate(sizes):
            if found[position] is not None:
                continue
            slot = self._batch.slots[position]
            packet = self._batch.memory[slot : slot + size]
            if rotation := view.hot.rotating.get(packet[2:]):
                self._counters.hits += 1
                found[position] = next(rotation)
                continue
            outcome = self._responder.respond(view, packet, tcp=False)
            if isinstance(outcome, Later):
                self._later(sock, outcome, self._batch.sender(position))
            elif outcome is not None:
                buffer, found[position] = pinned(outcome)
                kept.append(buffer)
        return kept

    def _later(self, sock: socket.socket, query: Later, sender: tuple[str, int]) -> None:
        if self._pending >= MAX_PENDING:
            self._counters.overloaded += 1
            return
        self._pending += 1
        self._group.create_task(self._resolve(sock, query, sender))

    async def _resolve(self, sock: socket.socket, query: Later, sender: tuple[str, int]) -> None:
        try:
            body = await self._responder.resolve(query, tcp=False)
            sock.sendto(query.packet[:2] + body, socket.MSG_DONTWAIT, sender)
        except OSError as error:  # among them that the pod is gone by now
            self._counters.send_failures += 1
            log.debug("answering %s: %s", sender, error)
        finally:
            self._pending -= 1
