"""The routes of a pod's streams, for `server.build_app`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pilotfish.api.errors import ApiError, BadRequest
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.responses import status_response
from pilotfish.apiserver.streams.logs import Logs
from pilotfish.apiserver.streams.nodes import Nodes
from pilotfish.apiserver.streams.remotecommand import Wanted, relay
from pilotfish.apiserver.streams.target import Target, find_container, find_pod, node_address
from pilotfish.client.streamserver import AcceptedStream, choose_protocol

POD = "/api/v1/namespaces/{namespace}/pods/{name}"


def stream_routes(resources: Resources, nodes: Nodes) -> list[BaseRoute]:
    """Logs, exec, attach and port-forward of the pods in `resources`, by way of their nodes."""
    logs = Logs(resources, nodes)
    commands = Commands(resources, nodes)
    return [
        Route(f"{POD}/log", logs.get, methods=["GET"]),
        WebSocketRoute(f"{POD}/exec", partial(commands.websocket, "exec")),
        WebSocketRoute(f"{POD}/attach", partial(commands.websocket, "attach")),
    ]


@dataclass(frozen=True, eq=False)
class Commands:
    """Exec and attach."""

    resources: Resources
    nodes: Nodes

    async def websocket(self, operation: str, websocket: WebSocket) -> None:
        await websocket.receive()
        async with AsyncExitStack() as stack:
            try:
                protocol = choose_protocol(websocket.scope["subprotocols"])
                target, wanted = self._target(operation, websocket)
                node = await stack.enter_async_context(
                    self.nodes.stream(target.node, target.path(operation), wanted.query)
                )
            except ApiError as error:
                await websocket.send_denial_response(status_response(error))
                return
            await websocket.accept(subprotocol=protocol)
            client = AcceptedStream(websocket)
            await relay(client, node)
            await client.close()

    def _target(self, operation: str, request: HTTPConnection) -> tuple[Target, Wanted]:
        pod = find_pod(self.resources, request.path_params["namespace"], request.path_params["name"])
        if pod.status.phase in ("Succeeded", "Failed"):
            raise BadRequest(
                f"cannot {operation} into a container in a completed pod; current phase is {pod.status.phase}"
            )
        container = find_container(pod, request.query_params.get("container", ""))
        wanted = Wanted.of(request, with_command=operation == "exec")
        return Target(pod, container, node_address(self.resources, pod)), wanted
