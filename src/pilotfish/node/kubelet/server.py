"""The HTTPS listener of the node agent's API: only certificates of the mesh's own authority come in."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pilotfish import serving
from pilotfish.client.streamserver import StreamWebSocketProtocol
from pilotfish.serving import Listener

_SHUTDOWN_SECONDS = 2


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which notes the client certificate's common name in each request's `state["peer"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.app_state = {**self.app_state, "peer": common_name(tls.getpeercert() if tls else None)}

    def shutdown(self) -> None:
        """End what is being streamed as if the client had gone: a followed log would never end by itself."""
        super().shutdown()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.close()


def common_name(certificate: Any) -> str:
    """The common name of a verified certificate, "" where it has none."""
    subject = [pair for entry in (certificate or {}).get("subject", ()) for pair in entry]
    return next((value for key, value in subject if key == "commonName"), "")


async def serve(app: Starlette, listener: Listener) -> None:
    """Serve until cancelled; then end all streams and close. Raises RuntimeError when the server ends by itself."""
    config = serving.config(
        app,
        listener,
        ssl.CERT_REQUIRED,
        http=PeerProtocol,
        ws=StreamWebSocketProtocol,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    await serving.serve(config, listener)
