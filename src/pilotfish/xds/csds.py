"""Envoy's client status discovery service (CSDS): what each connected proxy was sent, and what it made of it.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol; it is served beside ADS, to administrators and nodes.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import grpc
from envoy.admin.v3 import config_dump_shared_pb2
from envoy.config.core.v3 import base_pb2
from envoy.service.status.v3 import csds_pb2
from google.protobuf.message import DecodeError

from pilotfish.xds.matchers import matches_any
from pilotfish.xds.node import Refused, require_operator
from pilotfish.xds.server import Connection
from pilotfish.xds.status import ResourceState, TypeState

log = logging.getLogger("pilotfish.xds")

SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"

_CONFIG = csds_pb2.ConfigStatus
_CLIENT = config_dump_shared_pb2.ClientResourceStatus
_STATES = {
    "ACKED": (_CONFIG.Value("SYNCED"), _CLIENT.Value("ACKED")),
    "SENT": (_CONFIG.Value("STALE"), _CLIENT.Value("REQUESTED")),
    "NACKED": (_CONFIG.Value("ERROR"), _CLIENT.Value("NACKED")),
}

Connections = Callable[[], Iterable[Connection]]
Context = grpc.aio.ServicerContext[bytes, bytes]


def status_service(connections: Connections, *, open_to_all: bool = False) -> grpc.GenericRpcHandler:
    """The service, to be added to a gRPC server. `open_to_all` asks nobody for a certificate (for tests)."""

    async def fetch(message: bytes, context: Context) -> bytes:
        try:
            if not open_to_all:
                require_operator(context)
            return answer(message, connections())
        except Refused as refused:
            log.warning("refused %s: %s", context.peer(), refused)
            await context.abort(refused.code, str(refused))

    async def stream(messages: AsyncIterator[bytes], context: Context) -> None:
        async for message in messages:
            await context.write(await fetch(message, context))

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "FetchClientStatus": grpc.unary_unary_rpc_method_handler(fetch),
        "StreamClientStatus": grpc.stream_stream_rpc_method_handler(stream),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def answer(message: bytes, connections: Iterable[Connection]) -> bytes:
    """The serialised `ClientStatusResponse` to a serialised `ClientStatusRequest`. Raises Refused."""
    try:
        request = csds_pb2.ClientStatusRequest.FromString(message)
    except DecodeError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"not a ClientStatusRequest: {error}") from error
    response = csds_pb2.ClientStatusResponse()
    for connection in connections:
        if matches_any(request.node_matchers, connection.state.node):
            response.config.append(client_config(connection, contents=not request.exclude_resource_contents))
    body: bytes = response.SerializeToString()
    return body


def client_config(connection: Connection, *, contents: bool = True) -> Any:
    """An `envoy.service.status.v3.ClientConfig`; `contents`: with each resource as it stands now."""
    node = connection.state.node
    config = csds_pb2.ClientConfig(node=base_pb2.Node(id=node.id))
    config.node.metadata.update(dict(node.metadata))
    for of_type in connection.state.types.values():
        config.generic_xds_configs.extend(_configs(connection, of_type, contents=contents))
    return config


def _configs(connection: Connection, of_type: TypeState, *, contents: bool) -> Iterator[Any]:
    available = connection.config.resources(of_type.type_url) if contents else {}
    for state in of_type.resources:
        told, made_of_it = _status_of(state)
        config = csds_pb2.ClientConfig.GenericXdsConfig(
            type_url=of_type.type_url,
            name=state.name,
            version_info=state.version or "",
            config_status=told,
            client_status=made_of_it,
        )
        if state.name in available:
            config.xds_config.type_url = of_type.type_url
            config.xds_config.value = available[state.name].body
        if of_type.sent_at is not None:
            config.last_updated.FromDatetime(of_type.sent_at)
        if state.state == "NACKED" and of_type.rejection is not None:
            config.error_state.details = of_type.rejection.message
            config.error_state.version_info = state.version or ""
            config.error_state.last_update_attempt.FromDatetime(of_type.rejection.at.astimezone(dt.UTC))
        yield config


def _status_of(state: ResourceState) -> tuple[int, int]:
    if state.version is None and state.state == "ACKED":
        return _CONFIG.Value("SYNCED"), _CLIENT.Value("DOES_NOT_EXIST")
    return _STATES[state.state]
