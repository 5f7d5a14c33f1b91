"""The HTTPS listener of the node agent's API: only certificates of the mesh's own authority come in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pilotfish.client.streamserver import StreamWebSocketProtocol

_SHUTDOWN_SECONDS = 2


@dataclass(frozen=True)
class Listener:
    """A listening socket, and PEM files: the node's certificate and key, and the authority of its clients."""

    socket: socket.socket
    certificate: Path
    key: Path
    client_ca: Path


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
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws=StreamWebSocketProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=listener.certificate,
        ssl_keyfile=listener.key,
        ssl_ca_certs=str(listener.client_ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        ws_per_message_deflate=False,
        # A peer whose process takes no input is not read from, and could not be heard to answer.
        ws_ping_interval=None,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener.socket]))
    try:
        # Shielded, because uvicorn closes in order when it is asked and not when it is cancelled.
        await asyncio.shield(serving)
        raise RuntimeError("the node's API ended by itself; the log says why")
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs the loop decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
