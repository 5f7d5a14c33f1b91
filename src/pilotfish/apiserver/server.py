"""The API server: an ASGI application over a store, and its HTTPS listener in the caller's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pilotfish.api.errors import ApiError
from pilotfish.apiserver import discovery, openapi_v2
from pilotfish.apiserver.auth import Authentication
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.responses import json_response, status_response
from pilotfish.apiserver.routes import Api
from pilotfish.apiserver.streams.protocol import StreamProtocol
from pilotfish.client.streamserver import StreamWebSocketProtocol

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_SHUTDOWN_SECONDS = 3
_KEEP_ALIVE_SECONDS = 90


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
    except OSError:
        listener.close()
        raise
    return listener


def build_app(resources: Resources, *, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The application. `routes` come before the general ones: streams of pods and the like.

    A route finds who asks in `request.state.user`.
    """
    api = Api(resources)
    app = Starlette(
        routes=[
            *routes,
            *(Route(path, _healthy) for path in ("/healthz", "/livez", "/readyz")),
            Route("/version", _version),
            Route("/api", api.core_versions),
            Route("/apis", api.groups),
            Route("/openapi/v2", _openapi_v2),
            Route("/openapi/v3", api.openapi_index),
            Route("/openapi/v3/api/{version}", api.openapi),
            Route("/openapi/v3/apis/{group}/{version}", api.openapi),
            Route("/api/{path:path}", api.handle, methods=_METHODS),
            Route("/apis/{path:path}", api.handle, methods=_METHODS),
        ],
        middleware=[Middleware(Authentication)],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _unexpected},
    )
    app.state.resources = resources
    return app


async def serve(app: Starlette, listener: Listener, started: asyncio.Event | None = None) -> None:
    """Serve until cancelled; then end all watches, let running requests finish for a moment, and close.

    `started` is set when requests are taken. Raises RuntimeError when the server ends by itself.
    """
    server = _Server(_config(app, listener), started or asyncio.Event())
    serving = asyncio.create_task(server.serve(sockets=[listener.socket]))
    try:
        # Shielded, because uvicorn closes in order when it is asked and not when it is cancelled.
        await asyncio.shield(serving)
        raise RuntimeError("the API server ended by itself; the log says why")
    finally:
        app.state.resources.watches.close()
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


def _config(app: Starlette, listener: Listener) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=StreamProtocol,
        ws=StreamWebSocketProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=listener.certificate,
        ssl_keyfile=listener.key,
        ssl_ca_certs=str(listener.client_ca),
        ssl_cert_reqs=ssl.CERT_OPTIONAL,
        # Who is not read from, because a process takes no input, could not be heard to answer a ping.
        ws_ping_interval=None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _version(request: Request) -> Response:
    return json_response(discovery.version_info())


async def _openapi_v2(request: Request) -> Response:
    if openapi_v2.PROTOBUF in request.headers.get("accept", ""):
        return Response(openapi_v2.protobuf(), media_type=openapi_v2.PROTOBUF_ANSWER)
    return json_response(openapi_v2.document())


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return status_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return status_response(ApiError(str(error.detail), code=error.status_code, reason="NotFound"))


async def _unexpected(request: Request, error: Exception) -> Response:
    """Starlette raises the error again after this answer, and uvicorn logs it with its traceback."""
    return status_response(ApiError(f"Internal error occurred: {error}"))
