"""An HTTPS server in the caller's event loop: uvicorn that stops when its task is cancelled. Belongs to no room."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn


@dataclass(frozen=True)
class Listener:
    """Where to listen, and with which certificates (PEM files). Clients are known by certificates of `client_ca`."""

    socket: socket.socket
    certificate: Path
    key: Path
    client_ca: Path

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it answers wait 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{error.strerror}: {host}:{port}") from None
    return listener


def config(app: Any, listener: Listener, client_certificates: ssl.VerifyMode, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for a listener. `options` are uvicorn's own."""
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        # At its level "info" it tells of every WebSocket, with the commands that people run in containers.
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=listener.certificate,
        ssl_keyfile=listener.key,
        ssl_ca_certs=str(listener.client_ca),
        ssl_cert_reqs=client_certificates,
        # Who is not read from, because a process takes no input, could not be heard to answer a ping.
        ws_ping_interval=None,
        **options,
    )


async def serve(
    config: uvicorn.Config,
    listener: Listener,
    *,
    started: asyncio.Event | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve until cancelled; then call `stopping`, let running requests finish for a moment, and close.

    `started` is set when requests are taken. Raises RuntimeError when the server ends by itself.
    """
    server = _Server(config, started or asyncio.Event())
    serving = asyncio.create_task(server.serve(sockets=[listener.socket]))
    try:
        # Shielded, because uvicorn closes in order when it is asked and not when it is cancelled.
        await asyncio.shield(serving)
        raise RuntimeError(f"the server on port {listener.port} ended by itself; the log says why")
    finally:
        stopping()
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs the loop decides when to stop. Tells when it takes requests."""

    def __init__(self, config: uvicorn.Config, taking_requests: asyncio.Event) -> None:
        super().__init__(config)
        self._taking_requests = taking_requests

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._taking_requests.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
