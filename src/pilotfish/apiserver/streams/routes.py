"""The routes of a pod's streams, for `server.build_app`."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pilotfish.api.errors import ApiError, BadRequest, ServiceUnavailable
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.responses import status_response
from pilotfish.apiserver.streams import portchannels, portforward, spdycommand, upgrade
from pilotfish.apiserver.streams.logs import Logs
from pilotfish.apiserver.streams.nodes import Nodes
from pilotfish.apiserver.streams.remotecommand import Wanted, run_command
from pilotfish.apiserver.streams.spdy.frames import ProtocolError
from pilotfish.apiserver.streams.spdy.session import Session
from pilotfish.apiserver.streams.spdycommand import SpdyStreams
from pilotfish.apiserver.streams.target import Target, find_container, find_pod, node_address
from pilotfish.apiserver.streams.upgrade import TakenOver, Tunnel
from pilotfish.client.streamserver import AcceptedStream, choose_protocol

log = logging.getLogger(__name__)

POD = "/api/v1/namespaces/{namespace}/pods/{name}"
LAST_SECONDS = 5.0
"""How long a client may take to close a SPDY connection after all has been said."""


def stream_routes(resources: Resources, nodes: Nodes) -> list[BaseRoute]:
    """Logs, exec, attach and port-forward of the pods in `resources`, by way of their nodes."""
    logs, streams = Logs(resources, nodes), _Streams(resources, nodes)
    routes: list[BaseRoute] = [Route(f"{POD}/log", logs.get, methods=["GET"])]
    for operation in ("exec", "attach"):
        path = f"{POD}/{operation}"
        routes += [
            WebSocketRoute(path, partial(streams.command_over_websocket, operation)),
            Route(path, partial(streams.command_over_spdy, operation), methods=["GET", "POST"]),
        ]
    path = f"{POD}/portforward"
    return [
        *routes,
        WebSocketRoute(path, streams.forward_over_websocket),
        Route(path, streams.forward_over_spdy, methods=["GET", "POST"]),
    ]


@dataclass(frozen=True, eq=False)
class _Streams:
    """The handlers. Each finds out all that may be wrong while it can still answer in HTTP, and then upgrades."""

    resources: Resources
    nodes: Nodes

    async def command_over_websocket(self, operation: str, websocket: WebSocket) -> None:
        await websocket.receive()
        async with AsyncExitStack() as stack:
            try:
                protocol = choose_protocol(websocket.scope["subprotocols"])
                target, wanted = self._command(operation, websocket)
                node = await stack.enter_async_context(
                    self.nodes.stream(target.node, target.path(operation), wanted.query)
                )
            except ApiError as error:
                await websocket.send_denial_response(status_response(error))
                return
            await websocket.accept(subprotocol=protocol)
            client = AcceptedStream(websocket)
            await run_command(client, node)
            await client.close()

    async def command_over_spdy(self, operation: str, request: Request) -> TakenOver:
        protocol = upgrade.negotiate(request, spdycommand.PROTOCOL)
        target, wanted = self._command(operation, request)
        async with self.nodes.stream(target.node, target.path(operation), wanted.query) as node:
            connection = await upgrade.upgrade(request, protocol)
            client = SpdyStreams(Session(connection))
            try:
                await client.open(spdycommand.expected_channels(wanted))
                await run_command(client, node)
                await client.finish()
            except (ProtocolError, TimeoutError, ServiceUnavailable) as error:
                log.info("%s in %s/%s ended: %s", operation, *target.pod.key, error or "the client was too slow")
            finally:
                await connection.close(LAST_SECONDS)
        return TakenOver()

    async def forward_over_spdy(self, request: Request) -> TakenOver:
        protocol = upgrade.negotiate(request, portforward.PROTOCOL)
        target = self._forward(request)
        connection = await upgrade.upgrade(request, protocol)
        try:
            await portforward.forward_ports(Session(connection), self.nodes, target)
        finally:
            await connection.close(0)
        return TakenOver()

    async def forward_over_websocket(self, websocket: WebSocket) -> None:
        await websocket.receive()
        offered = websocket.scope["subprotocols"]
        ports: tuple[int, ...] = ()
        try:
            if portforward.TUNNEL_PROTOCOL not in offered:
                if portchannels.PROTOCOL not in offered:
                    known = f"{portforward.TUNNEL_PROTOCOL} or {portchannels.PROTOCOL}"
                    raise BadRequest(f"port-forward over a WebSocket takes the protocol {known}")
                ports = portchannels.wanted_ports(websocket)
            target = self._forward(websocket)
        except ApiError as error:
            await websocket.send_denial_response(status_response(error))
            return
        client = AcceptedStream(websocket)
        if ports:
            await websocket.accept(subprotocol=portchannels.PROTOCOL)
            await portchannels.forward_channels(client, self.nodes, target, ports)
        else:
            await websocket.accept(subprotocol=portforward.TUNNEL_PROTOCOL)
            await portforward.forward_ports(Session(Tunnel(websocket)), self.nodes, target)
        await client.close()

    def _command(self, operation: str, request: HTTPConnection) -> tuple[Target, Wanted]:
        pod = find_pod(self.resources, request.path_params["namespace"], request.path_params["name"])
        phase = pod.status.phase
        if phase in ("Succeeded", "Failed"):
            raise BadRequest(f"cannot {operation} into a container in a completed pod; current phase is {phase}")
        container = find_container(pod, request.query_params.get("container", ""))
        wanted = Wanted.of(request, with_command=operation == "exec")
        return Target(pod, container, node_address(self.resources, pod)), wanted

    def _forward(self, request: HTTPConnection) -> Target:
        pod = find_pod(self.resources, request.path_params["namespace"], request.path_params["name"])
        return Target(pod, "", node_address(self.resources, pod))
