"""The consumer: `GET /demo` on port 7171 calls `meshgrpc.Mesher` at AppMeshClient.mesh:50000."""

import logging

import grpc
import hello_pb2
import hello_pb2_grpc
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

TARGET = "dns:///AppMeshClient.mesh:50000"
log = logging.getLogger("mesha")


async def demo(request):
    async with grpc.aio.insecure_channel(TARGET) as channel:
        try:
            reply = await hello_pb2_grpc.MesherStub(channel).SayHello(hello_pb2.HelloRequest(name="mesh demo!"))
        except grpc.aio.AioRpcError as error:
            log.warning("call to %s failed: %s: %s", TARGET, error.code().name, error.details())
            return PlainTextResponse(f"{error.code().name}: {error.details()}\n", status_code=500)
    print(reply.message, flush=True)
    return PlainTextResponse(reply.message)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvicorn.run(Starlette(routes=[Route("/demo", demo)]), host="0.0.0.0", port=7171, log_config=None)
