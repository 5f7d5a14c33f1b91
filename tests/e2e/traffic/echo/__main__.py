"""`python -m echo --name b --version v1 --jobs /path`: serve on every port, and take jobs, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import functools
import signal
from pathlib import Path
from typing import Any

import uvloop

from echo import connection, jobs, streams
from echo.instructions import Server

HTTP, HTTP2, GRPC, TCP, SERVER_FIRST, AUTO, TLS = 8080, 8081, 8082, 8083, 8084, 8085, 8443


async def main(options: argparse.Namespace) -> None:
    server = Server(options.name, options.version)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    servers: list[Any] = []  # a gRPC server stops when nobody refers to it
    if options.serve:
        speak = functools.partial(streams.serve, server)
        tls = connection.server_tls(*(str(options.pki / name) for name in ("server.pem", "server-key.pem", "ca.pem")))
        for port in (HTTP, HTTP2, TCP, AUTO):
            servers.append(await asyncio.start_server(speak, options.bind, port + options.offset))
        greet = functools.partial(streams.serve_first, server)
        servers.append(await asyncio.start_server(greet, options.bind, SERVER_FIRST + options.offset))
        servers.append(await asyncio.start_server(speak, options.bind, TLS + options.offset, ssl=tls))
        if options.unix:
            servers.append(await asyncio.start_unix_server(speak, options.unix))
            options.unix.chmod(0o666)
        servers.append(await _grpc_server(server, options))
    async with asyncio.TaskGroup() as group:
        client = group.create_task(jobs.serve(str(options.jobs)))
        await stop.wait()
        client.cancel()


async def _grpc_server(server: Server, options: argparse.Namespace) -> Any:
    import grpc

    from echo import rpc

    port = GRPC + options.offset
    found = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    found.add_generic_rpc_handlers((rpc.service(server, port),))
    found.add_insecure_port(f"{options.bind or '[::]'}:{port}")
    await found.start()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--jobs", type=Path, required=True, help="the Unix socket at which to take jobs")
    parser.add_argument("--pki", type=Path, required=True, help="the folder of server.pem, server-key.pem and ca.pem")
    parser.add_argument("--serve", action="store_true", help="serve, and not only take jobs")
    parser.add_argument("--bind", default=None, help="the address to serve on; all by default")
    parser.add_argument("--unix", type=Path, help="a Unix socket to serve on as well")
    parser.add_argument("--offset", type=int, default=0, help="is added to every port")
    uvloop.run(main(parser.parse_args()))
