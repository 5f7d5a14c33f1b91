"""gRPC, both sides: the service `echo.Echo`, whose messages are JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc

from echo.instructions import HEADER, Server, received_request

SERVICE = "echo.Echo"


def service(server: Server, port: int) -> grpc.GenericRpcHandler:
    """Unary answers with a report, Stream with one for each message as it comes (without `headers` instructed)."""

    async def report(message: bytes, context: Any, method: str) -> bytes:
        headers = [(name, str(value)) for name, value in context.invocation_metadata()]
        told = received_request("POST", f"/{SERVICE}/{method}", "", headers, message)
        wanted = server.instructed(told["headers"].get(HEADER), told["attempt"])
        await asyncio.sleep(wanted.delay)
        if wanted.headers:
            await context.send_initial_metadata(tuple(wanted.headers.items()))
        context.set_trailing_metadata(tuple(wanted.trailers.items()))
        if wanted.grpc_status:
            code = next(code for code in grpc.StatusCode if code.value[0] == wanted.grpc_status)
            await context.abort(code, f"instructed by {HEADER}")
        connection = {"peer": context.peer(), "port": port}
        return json.dumps(server.report("gRPC", connection, **told)).encode()

    async def unary(message: bytes, context: Any) -> bytes:
        return await report(message, context, "Unary")

    async def stream(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            yield await report(message, context, "Stream")

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)
