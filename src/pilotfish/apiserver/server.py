"""The API server: an ASGI application over a store, and its HTTPS listener in the caller's event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pilotfish import serving
from pilotfish.api.errors import ApiError
from pilotfish.apiserver import discovery, openapi_v2
from pilotfish.apiserver.auth import Authentication
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.responses import json_response, status_response
from pilotfish.apiserver.routes import Api
from pilotfish.apiserver.streams.protocol import StreamProtocol
from pilotfish.client.streamserver import StreamWebSocketProtocol
from pilotfish.serving import Listener

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_SHUTDOWN_SECONDS = 3
_KEEP_ALIVE_SECONDS = 90


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
    config = serving.config(
        app,
        listener,
        ssl.CERT_OPTIONAL,
        http=StreamProtocol,
        ws=StreamWebSocketProtocol,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    await serving.serve(config, listener, started=started, stopping=app.state.resources.watches.close)


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
