"""uvicorn's HTTP and WebSocket protocols, made fit for streams that Kubernetes clients open."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from pilotfish.apiserver.auth import CertificateProtocol


class StreamProtocol(CertificateProtocol):
    """HTTP with client certificates, whose streams end when the server does."""

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
