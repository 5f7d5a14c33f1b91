"""uvicorn's HTTP protocol, made fit for streams that Kubernetes clients open."""

from __future__ import annotations

import asyncio

from pilotfish.apiserver.auth import CertificateProtocol
from pilotfish.apiserver.streams.upgrade import SPDY, TAKE_OVER, Connection, TakenOverProtocol

_BUFFER = 64 * 1024


class StreamProtocol(CertificateProtocol):
    """HTTP with client certificates, whose streams end when the server does, and which can be upgraded to SPDY.

    A request for that upgrade runs through the application like any other. Its handler may take the connection over
    (`upgrade.upgrade`), or answer it in HTTP, which is how a client learns what is wrong.
    """

    def on_headers_complete(self) -> None:
        wanted = self._wants_spdy()
        if wanted:
            self.scope["state"][TAKE_OVER] = self._take_over
        super().on_headers_complete()
        if wanted:
            self.cycle.keep_alive = False  # the parser takes no second request after an upgrade

    def _wants_spdy(self) -> bool:
        return (self._get_upgrade() or b"").lower() == SPDY.lower().encode()

    def _unsupported_upgrade_warning(self) -> None:
        if not self._wants_spdy():
            super()._unsupported_upgrade_warning()

    def _take_over(self) -> Connection:
        self.cycle.response_started = self.cycle.response_complete = True
        self.connections.discard(self)
        reader = asyncio.StreamReader(limit=_BUFFER, loop=self.loop)
        protocol = TakenOverProtocol(reader, self.transport, self.connections)
        self.transport.set_protocol(protocol)
        self.flow.resume_reading()
        writer = asyncio.StreamWriter(self.transport, protocol, reader, self.loop)
        return Connection(reader, writer, protocol.peer)

    def shutdown(self) -> None:
        """End what is being streamed as if the client had gone: a followed log would never end by itself."""
        super().shutdown()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.close()
