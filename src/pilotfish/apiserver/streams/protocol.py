"""uvicorn's HTTP and WebSocket protocols, made fit for streams that Kubernetes clients open."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from pilotfish.apiserver.auth import CertificateProtocol
from pilotfish.apiserver.streams.upgrade import SPDY, TAKE_OVER, TakenOverProtocol

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

    def _take_over(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.cycle.response_started = self.cycle.response_complete = True
        self.connections.discard(self)
        reader = asyncio.StreamReader(limit=_BUFFER, loop=self.loop)
        protocol = TakenOverProtocol(reader, self.connections)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        self.flow.resume_reading()
        return reader, asyncio.StreamWriter(self.transport, protocol, reader, self.loop)

    def shutdown(self) -> None:
        """End what is being streamed as if the client had gone: a followed log would never end by itself."""
        super().shutdown()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.close()


class StreamWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets whose subprotocols are the application's business alone.

    kubectl names one "SPDY/3.1+portforward.k8s.io", which the standard's grammar does not allow.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _AnySubprotocol(logger=logging.getLogger("uvicorn.error"), max_size=self.config.ws_max_size)


class _AnySubprotocol(ServerProtocol):
    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        return None
