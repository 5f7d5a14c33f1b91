"""The node agent's API: which URL does what, and who may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from pilotfish.api.errors import ApiError, BadRequest, Forbidden, NotFound
from pilotfish.api.meta import parse_timestamp
from pilotfish.client.streamserver import AcceptedStream, choose_protocol
from pilotfish.node import logs
from pilotfish.node.kubelet import portforward
from pilotfish.node.kubelet.pods import Pods, RunningPod, has_ended, record_of, require
from pilotfish.node.kubelet.remotecommand import Session, attach, converse, execute
from pilotfish.node.logs import LogOptions

CLIENT = "pilotfish-apiserver"
"""The common name of the one client that is let in: every pod has a certificate of the same authority."""

Upgraded = Callable[[AcceptedStream], Awaitable[None]]


def build_app(pods: Pods) -> Starlette:
    """The application. The connection's peer is expected in the state of each request (`server.PeerProtocol`)."""
    handlers = _Handlers(pods)
    return Starlette(
        routes=[
            Route("/containerLogs/{namespace}/{pod}/{container}", handlers.logs),
            WebSocketRoute("/exec/{namespace}/{pod}/{container}", partial(handlers.command, execute)),
            WebSocketRoute("/attach/{namespace}/{pod}/{container}", partial(handlers.command, attach)),
            WebSocketRoute("/portForward/{namespace}/{pod}", handlers.port_forward),
        ],
        middleware=[Middleware(_OnlyTheApiServer)],
        exception_handlers={ApiError: _api_error},
    )


@dataclass(frozen=True)
class _Handlers:
    pods: Pods

    async def logs(self, request: Request) -> Response:
        pod = require(self.pods, request.path_params["namespace"], request.path_params["pod"])
        container, query = request.path_params["container"], request.query_params
        previous = query.get("previous") == "true"
        attempt = logs.latest_attempt(pod.folder, container, previous=previous)
        if attempt is None:
            raise NotFound(f'container "{container}" has no {"earlier " if previous else ""}log')
        return StreamingResponse(_log(pod, container, attempt, log_options(request)), media_type="text/plain")

    async def command(self, begin: Callable[[RunningPod, str, WebSocket], Session], websocket: WebSocket) -> None:
        async def prepare() -> Upgraded:
            pod = require(self.pods, websocket.path_params["namespace"], websocket.path_params["pod"])
            return partial(converse, session=begin(pod, websocket.path_params["container"], websocket))

        await _upgrade(websocket, prepare)

    async def port_forward(self, websocket: WebSocket) -> None:
        async def prepare() -> Upgraded:
            pod = require(self.pods, websocket.path_params["namespace"], websocket.path_params["pod"])
            return partial(portforward.forward, pod=pod, port=_number("port", websocket.query_params.get("port")) or 0)

        await _upgrade(websocket, prepare)


async def _upgrade(websocket: WebSocket, prepare: Callable[[], Awaitable[Upgraded]]) -> None:
    """Accept the WebSocket and go on with what was prepared, or refuse it with the Status of what is wrong."""
    await websocket.receive()
    try:
        upgraded = await prepare()
        protocol = choose_protocol(websocket.scope["subprotocols"])
    except ApiError as error:
        await websocket.send_denial_response(_status_response(error))
        return
    await websocket.accept(subprotocol=protocol)
    await upgraded(AcceptedStream(websocket))


def log_options(request: Request) -> LogOptions:
    """Kubernetes' PodLogOptions from a query, times being absolute. Raises BadRequest."""
    query = request.query_params
    stream = query.get("stream", "All")
    since = query.get("sinceTime")
    try:
        return LogOptions(
            follow=query.get("follow") == "true",
            timestamps=query.get("timestamps") == "true",
            tail_lines=_number("tailLines", query.get("tailLines")),
            since=parse_timestamp(since) if since else None,
            limit_bytes=_number("limitBytes", query.get("limitBytes")),
            stream=None if stream == "All" else stream.lower(),
        )
    except ValueError as error:
        raise BadRequest(f'sinceTime is "{since}": {error}') from error


def _number(name: str, text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError as error:
        raise BadRequest(f'{name} is "{text}": it takes a whole number') from error


async def _log(pod: RunningPod, container: str, attempt: int, options: LogOptions) -> AsyncIterator[bytes]:
    def ended() -> bool:
        run = record_of(pod, container)
        return run is None or run.attempt != attempt or has_ended(pod, run)

    async for piece in logs.read(pod.folder.log(container, attempt), options, ended):
        yield piece


class _OnlyTheApiServer:
    """ASGI middleware: 403 for everyone else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("state", {}).get("peer")
        if scope["type"] == "lifespan" or peer == CLIENT:
            await self._app(scope, receive, send)
            return
        refusal = _status_response(Forbidden(f'only "{CLIENT}" may ask a node, and this certificate is of "{peer}"'))
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            await refusal(scope, receive, send)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _status_response(error)


def _status_response(error: ApiError) -> Response:
    return Response(msgspec.json.encode(error.status()), error.code, media_type="application/json")
