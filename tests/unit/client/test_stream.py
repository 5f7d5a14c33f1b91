from __future__ import annotations

import asyncio
import http
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from pilotfish.api.errors import BadRequest, NotFound, ServiceUnavailable
from pilotfish.client.kubeconfig import Kubeconfig
from pilotfish.client.stream import PROTOCOL, Channel, Frame, exit_code, open_stream

EXEC = "/api/v1/namespaces/default/pods/web/exec"
SUCCESS = b'{"metadata":{},"status":"Success"}'


async def echo(connection: ServerConnection) -> None:
    """A FakeProcess: repeats its standard input on standard output until that is closed."""
    async for message in connection:
        assert isinstance(message, bytes)
        if message == bytes([Channel.CLOSE, Channel.STDIN]):
            await connection.send(bytes([Channel.ERROR]) + SUCCESS)
            return
        if message[0] == Channel.RESIZE:
            await connection.send(bytes([Channel.STDERR]) + message[1:])
        elif message[1:] == b"die":
            connection.transport.abort()
        else:
            await connection.send(bytes([Channel.STDOUT]) + message[1:])


def refuse_unknown(connection: ServerConnection, request: Request) -> Response | None:
    if "/pods/web/" in request.path:
        return None
    response = connection.respond(http.HTTPStatus.NOT_FOUND, "")
    status = {"kind": "Status", "reason": "NotFound", "message": 'pods "none" not found'}
    response.body = msgspec.json.encode(status)
    del response.headers["Content-Length"]
    response.headers["Content-Length"] = str(len(response.body))
    return response


@asynccontextmanager
async def serving(**options: object) -> AsyncIterator[tuple[Kubeconfig, list[str]]]:
    asked: list[str] = []

    def note(connection: ServerConnection, request: Request) -> Response | None:
        asked.append(f"{request.path} {request.headers.get('Authorization', '')}")
        return refuse_unknown(connection, request)

    async with serve(echo, "127.0.0.1", 0, process_request=note, **options) as server:  # type: ignore[arg-type]
        port = next(iter(server.sockets)).getsockname()[1]
        yield Kubeconfig(f"http://127.0.0.1:{port}", token="secret"), asked


def test_frames_go_both_ways_until_the_process_ends() -> None:
    async def run() -> None:
        async with serving(subprotocols=[PROTOCOL]) as (config, asked):
            params = [("command", "ls"), ("command", "-l a"), ("stdin", "true")]
            async with open_stream(config, EXEC, params) as stream:
                await stream.send(Channel.STDIN, b"hello")
                await stream.resize(80, 24)
                await stream.close_channel(Channel.STDIN)
                frames = [frame async for frame in stream]
            assert frames == [
                Frame(Channel.STDOUT, b"hello"),
                Frame(Channel.STDERR, b'{"Width":80,"Height":24}'),
                Frame(Channel.ERROR, SUCCESS),
            ]
            assert asked == [f"{EXEC}?command=ls&command=-l+a&stdin=true Bearer secret"]

    asyncio.run(run())


def test_a_stream_that_breaks_off_is_an_error() -> None:
    async def run() -> None:
        async with serving(subprotocols=[PROTOCOL]) as (config, _), open_stream(config, EXEC, []) as stream:
            await stream.send(Channel.STDIN, b"die")
            with pytest.raises(ServiceUnavailable, match="broke off"):
                _ = [frame async for frame in stream]
            with pytest.raises(ServiceUnavailable, match="closed"):
                await stream.send(Channel.STDIN, b"more")

    asyncio.run(run())


def test_refusals() -> None:
    async def run() -> None:
        async with serving(subprotocols=[PROTOCOL]) as (config, _):
            with pytest.raises(NotFound, match='pods "none" not found'):
                async with open_stream(config, EXEC.replace("web", "none"), []):
                    pass
        with pytest.raises(ServiceUnavailable, match="cannot open a stream to http://127"):
            async with open_stream(config, EXEC, []):
                pass
        async with serving() as (config, _):
            with pytest.raises(ServiceUnavailable, match="does not speak v5"):
                async with open_stream(config, EXEC, []):
                    pass

    asyncio.run(run())


def test_exit_codes() -> None:
    assert exit_code(SUCCESS) == 0
    causes = [{"reason": "ExitCode", "message": "7"}]
    failed = {"kind": "Status", "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    assert exit_code(msgspec.json.encode(failed)) == 7
    refused = {"kind": "Status", "status": "Failure", "reason": "BadRequest", "message": "no such container"}
    with pytest.raises(BadRequest, match="no such container"):
        exit_code(msgspec.json.encode(refused))
