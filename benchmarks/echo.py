"""A server that does as little as it can: HTTP/1.1 on port 8080, gRPC on 9090 (`python -m benchmarks.echo`)."""

from __future__ import annotations

import asyncio
from typing import cast

import grpc
import uvloop

METHOD = "/benchmarks.Echo/Call"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


class _Http(asyncio.Protocol):
    """Answers each request that has no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        self._transport.write(_ANSWER * len(requests))


async def _call(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


async def main() -> None:
    server = grpc.aio.server()
    service, _, method = METHOD[1:].partition("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_call)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port("0.0.0.0:9090")
    await server.start()
    http = await asyncio.get_running_loop().create_server(_Http, "0.0.0.0", 8080)
    await http.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
