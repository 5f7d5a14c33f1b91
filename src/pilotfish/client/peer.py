"""Whether the other end of a served connection is still there, also while nothing is read from it."""

from __future__ import annotations

import asyncio
import socket

_LOOK_SECONDS = 0.5
_ESTABLISHED = 1  # the kernel's TCP_ESTABLISHED, the first byte of TCP_INFO

# A peer that vanished without a word is noticed after some 30 seconds.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class Peer:
    """The client of one connection. Whoever serves it calls `lost` when the connection ends."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._lost = asyncio.Event()
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                self._socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def lost(self) -> None:
        self._lost.set()

    async def gone(self) -> None:
        """Returns when the peer is known to be gone.

        A connection that is not read from, because its data waits for a slow reader, tells nothing to its event loop.
        The kernel knows: so it is asked now and then.
        """
        while not self._lost.is_set() and self._established():
            try:
                await asyncio.wait_for(self._lost.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue

    def _established(self) -> bool:
        if self._socket is None:
            return True
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
        except OSError:
            return False
