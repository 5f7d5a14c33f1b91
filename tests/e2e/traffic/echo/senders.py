"""How a job's requests are sent, protocol by protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

import grpc
import httpx
import websockets

from echo.jobs import Answer, Job, Send, client_tls, connect
from echo.rpc import SERVICE

# httpcore tries to import sniffio for each request, in vain; this is a third of the time that a request takes.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

FAILURES = (OSError, EOFError, httpx.HTTPError, websockets.WebSocketException)


@contextlib.asynccontextmanager
async def sender(job: Job) -> AsyncIterator[Send]:
    """What sends the job's requests, with the connections that they share."""
    async with contextlib.AsyncExitStack() as stack:
        url = urlsplit(job.url)
        match job.protocol:
            case "HTTP/1.1" | "HTTP/2":
                shared = await stack.enter_async_context(_http_client(job)) if job.reuse else None
                yield lambda job: _http(job, shared)
            case "gRPC" | "gRPC-stream":
                channel = await stack.enter_async_context(_channel(job, url)) if job.reuse else None
                yield lambda job: _grpc(job, url, channel)
            case "TCP":
                yield lambda job: _tcp(job, url)
            case "websocket":
                yield _websocket
            case "resolve":
                yield _resolve
            case other:
                raise ValueError(f"no such protocol: {other}")


def decoded(text: str) -> Any:
    """A report, or None where the text is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "version" in found else None


class _Elsewhere(httpx.AsyncHTTPTransport):
    """Connects to an address of its own, whatever the URL says; `Host` and SNI remain the URL's."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(**options)
        self._address = address

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._address:
            host, _, port = self._address.rpartition(":")
            request.extensions.setdefault("sni_hostname", request.url.host)
            request.url = request.url.copy_with(host=host, port=int(port))
        return await super().handle_async_request(request)


def _http_client(job: Job) -> httpx.AsyncClient:
    options: dict[str, Any] = {"verify": client_tls(job.tls) if job.tls else False, "trust_env": False}
    options |= {"http1": job.protocol == "HTTP/1.1", "http2": job.protocol == "HTTP/2"}
    options |= {"local_address": job.source or None, "limits": httpx.Limits(max_connections=job.concurrency)}
    return httpx.AsyncClient(transport=_Elsewhere(job.address, **options), timeout=job.timeout + 1, trust_env=False)


async def _http(job: Job, client: httpx.AsyncClient | None) -> Answer:
    if client is None:
        async with _http_client(job) as own:
            return await _http(job, own)
    extensions = {"sni_hostname": job.tls.sni} if job.tls and job.tls.sni else {}
    response = await client.request(
        job.method, job.url, headers=job.headers, content=job.body or None, extensions=extensions
    )
    return {
        "status": response.status_code,
        "protocol": response.http_version,
        "headers": dict(response.headers),
        "body": response.text,
        "echo": decoded(response.text),
    }


def _channel(job: Job, url: SplitResult) -> grpc.aio.Channel:
    # Global subchannels would let later jobs find what earlier ones had connected to.
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    if job.address:
        options.append(("grpc.default_authority", url.netloc))
    return grpc.aio.insecure_channel(job.address or url.netloc, options=options)


async def _grpc(job: Job, url: SplitResult, channel: grpc.aio.Channel | None) -> Answer:
    if channel is None:
        async with _channel(job, url) as own:
            return await _grpc(job, url, own)
    metadata: Sequence[tuple[str, str]] = tuple(job.headers.items())
    path = url.path.strip("/") or f"{SERVICE}/{'Unary' if job.protocol == 'gRPC' else 'Stream'}"
    try:
        if job.protocol == "gRPC":
            call = channel.unary_unary(f"/{path}")(job.body.encode(), metadata=metadata, timeout=job.timeout)
            messages = [await call]
        else:
            call = channel.stream_stream(f"/{path}")(metadata=metadata, timeout=job.timeout)
            messages = [message async for message in _converse(call, job.body.splitlines())]
        status, details = await call.code(), await call.details()
        initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    except grpc.aio.AioRpcError as error:
        messages, status, details = [], error.code(), error.details()
        initial, trailing = error.initial_metadata(), error.trailing_metadata()
    reports = [decoded(message.decode()) for message in messages]
    return {
        "status": status.value[0],
        "protocol": "gRPC",
        "details": details or "",
        "headers": {key: str(value) for key, value in initial},
        "trailers": {key: str(value) for key, value in trailing},
        "echo": reports[0] if reports else None,
        "messages": reports,
    }


async def _converse(call: Any, lines: Sequence[str]) -> AsyncIterator[bytes]:
    """One message at a time, each sent when the one before was answered: the stream is open both ways."""
    for line in lines:
        await call.write(line.encode())
        if (answer := await call.read()) is grpc.aio.EOF:
            return
        yield answer
    await call.done_writing()


async def _tcp(job: Job, url: SplitResult) -> Answer:
    reader, writer = await connect(job, url.hostname or "", url.port or 0)
    try:
        greeting = (await reader.readline()).decode() if job.listen_first else ""
        lines = []
        for line in job.body.splitlines():
            writer.write(line.encode() + b"\n")
            if not (answer := await reader.readline()):
                raise EOFError("the connection was closed without an answer")
            lines.append(answer.decode())
        reports = [decoded(line) for line in lines]
        return {
            "protocol": "TCP",
            "body": greeting + "".join(lines),
            "greeting": greeting.strip(),
            "echo": reports[0] if reports else None,
            "messages": reports,
        }
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _websocket(job: Job) -> Answer:
    # Envoy keeps a connection open for a second after the server has closed it; nobody needs to wait for that.
    options: dict[str, Any] = {
        "additional_headers": job.headers,
        "proxy": None,
        "compression": None,
        "close_timeout": 0.01,
    }
    if job.address:
        options["host"], _, port = job.address.rpartition(":")
        options["port"] = int(port)
    try:
        async with websockets.connect(job.url, **options) as connection:
            report = decoded(str(await connection.recv()))
            messages = []
            for line in job.body.splitlines():
                await connection.send(line)
                messages.append(str(await connection.recv()))
            return {"status": 101, "protocol": "websocket", "echo": report, "messages": messages}
    except websockets.InvalidStatus as refused:
        return {"status": refused.response.status_code, "protocol": "websocket", "echo": None}


async def _resolve(job: Job) -> Answer:
    """The addresses of a name, in the resolver's order."""
    found = await asyncio.get_running_loop().getaddrinfo(job.url, None, type=socket.SOCK_STREAM)
    return {"addresses": [entry[4][0] for entry in found]}
