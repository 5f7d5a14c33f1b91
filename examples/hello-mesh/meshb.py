"""The provider: serves gRPC `meshgrpc.Mesher` on port 50000 and HTTP on port 8181."""

import asyncio
import logging

import grpc
import hello_pb2
import hello_pb2_grpc
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


class Mesher(hello_pb2_grpc.MesherServicer):
    async def SayHello(self, request, context):  # noqa: N802 - the name is the contract's
        print(f"receiver client message: {request.name}", flush=True)
        return hello_pb2.HelloReply(message=f"I'm from server {request.name}")


async def health(request):
    return PlainTextResponse("ok")


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    server = grpc.aio.server()
    hello_pb2_grpc.add_MesherServicer_to_server(Mesher(), server)
    server.add_insecure_port("0.0.0.0:50000")
    await server.start()
    print("Server started.", flush=True)
    app = Starlette(routes=[Route("/health", health)])
    await uvicorn.Server(uvicorn.Config(app, host="0.0.0.0", port=8181, log_config=None)).serve()
    await server.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(main())
