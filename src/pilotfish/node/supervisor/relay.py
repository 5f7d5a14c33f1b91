"""The xDS relay: from an abstract Unix socket inside the pod to the control plane's TCP address, byte for byte.

Istio's agent does more here (it terminates TLS and parses the stream); our Envoys speak TLS to the control plane
themselves, and this only carries it, so that the control plane's address can be reached whatever is captured.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable
from typing import Any

SO_MARK = 36
PROXY_MARK = 1337
"""Packets with this mark are not captured (Istio: the mark of Envoy's own upstream connections)."""

CHUNK = 64 * 1024
SERVER = "istiod.istio-system.svc:15012"
"""What the log calls the control plane, whatever its address is here."""


class Relay:
    """Accepts on `@name` and relays each connection to (host, port). `log` takes the finished text of a log line."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        name: str,
        address: tuple[str, int],
        log: Callable[[str, str], None],
        *,
        mark: int = PROXY_MARK,
    ) -> None:
        self._selector = selector
        self._address = address
        self._log = log
        self._mark = mark
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("\0" + name)
        self._listener.listen(16)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            downstream, _peer = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        _Connection(self._selector, downstream, self._address, self._log, self._mark)

    def close(self) -> None:
        self._selector.unregister(self._listener)
        self._listener.close()


class _Connection:
    """One proxy's connection and its counterpart; what was read from one and not yet taken by the other is bounded."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        downstream: socket.socket,
        address: tuple[str, int],
        log: Callable[[str, str], None],
        mark: int,
    ) -> None:
        self._selector = selector
        self._log = log
        self._down = downstream
        self._up = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        self._pending: dict[socket.socket, bytes] = {self._down: b"", self._up: b""}  # by where it is to go
        self._ended: set[socket.socket] = set()  # which side will send no more
        self._closed = False
        self._down.setblocking(False)
        self._up.setblocking(False)
        self._up.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if mark:
            self._up.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        result = self._up.connect_ex(address)
        if result not in (0, errno.EINPROGRESS):
            self._fail(result)
            return
        selector.register(self._up, selectors.EVENT_WRITE, self._connect)

    def _connect(self, _: int) -> None:
        self._selector.unregister(self._up)
        result = self._up.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            self._fail(result)
            return
        self._log("info", f"connected to upstream XDS server: {SERVER}")
        self._watch()

    def _fail(self, number: int) -> None:
        self._log("warning", f"failed to connect to upstream XDS server: {SERVER}: {os.strerror(number)}")
        self._down.close()
        self._up.close()

    def _watch(self) -> None:
        """Ask for exactly those events that can be served now."""
        for side, other in ((self._down, self._up), (self._up, self._down)):
            events = 0
            if side not in self._ended and not self._pending[other]:
                events |= selectors.EVENT_READ
            if self._pending[side]:
                events |= selectors.EVENT_WRITE
            known: Any = self._selector.get_map().get(side)
            if known is None and events:
                self._selector.register(side, events, self._handler(side, other))
            elif known is not None and not events:
                self._selector.unregister(side)
            elif known is not None and known.events != events:
                self._selector.modify(side, events, known.data)

    def _handler(self, side: socket.socket, other: socket.socket) -> Callable[[int], None]:
        def handle(events: int) -> None:
            if self._closed:
                return  # by the other side's handler, after this event was collected
            try:
                if events & selectors.EVENT_WRITE:
                    sent = side.send(self._pending[side])
                    self._pending[side] = self._pending[side][sent:]
                    self._half_close(other, side)
                if events & selectors.EVENT_READ:
                    self._pending[other] = side.recv(CHUNK)
                    if not self._pending[other]:
                        self._ended.add(side)
                        self._half_close(side, other)
            except BlockingIOError:
                pass
            except OSError:
                self._close()
                return
            if len(self._ended) == 2 and not any(self._pending.values()):
                self._close()
                return
            self._watch()

        return handle

    def _half_close(self, side: socket.socket, other: socket.socket) -> None:
        """Once all that an ended side sent has gone out, tell the other that no more comes."""
        if side in self._ended and not self._pending[other]:
            other.shutdown(socket.SHUT_WR)

    def _close(self) -> None:
        self._closed = True
        for side in (self._down, self._up):
            if side in self._selector.get_map():
                self._selector.unregister(side)
            side.close()
