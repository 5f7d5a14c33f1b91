"""A small API server with real sockets, which breaks in all the ways that a real one does, when it is told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import msgspec
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pilotfish.api.errors import ApiError, Expired
from pilotfish.api.selectors import parse_label_selector
from pilotfish.client.kubeconfig import Kubeconfig
from pilotfish.store.memory import MemoryStore
from pilotfish.store.store import Event, Key

Document = dict[str, Any]


class FakeApiServer:
    """Keeps documents of any kind, and serves what a client needs: lists, watches, single objects, patches.

    `requests` is what was asked; `answer` replaces the next answers with (code, body), for the path that it names.
    """

    def __init__(self, history: int = 100) -> None:
        self.store = MemoryStore(history=history)
        self.requests: list[tuple[str, str, dict[str, str], str, bytes]] = []
        self.answer: dict[str, tuple[int, bytes]] = {}
        self.port = 0
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._ssl: dict[str, Any] = {}

    @property
    def config(self) -> Kubeconfig:
        return Kubeconfig(server=f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}")

    async def start(self, **ssl_options: Any) -> None:
        """Listen on the port of the last time, or on a new one."""
        self._ssl = ssl_options
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app, log_level="error", lifespan="off", interface="asgi3", access_log=False, **ssl_options
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        await _until(lambda: self._server is not None and self._server.started)

    async def stop(self) -> None:
        """Be gone, in the middle of whatever is under way."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = self._server.force_exit = True
        self.drop_connections()
        await self._task
        self.drop_connections()
        self._server = None

    def drop_connections(self) -> None:
        assert self._server is not None
        for connection in tuple(self._server.server_state.connections):
            transport = connection.transport
            if transport is not None:
                transport.abort()

    async def put(self, resource: str, name: str, namespace: str = "default", **fields: Any) -> None:
        """Create or replace an object behind the clients' backs."""
        key = Key(resource, namespace, name)
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", **fields.pop("metadata", {})}
        document = {"metadata": metadata, **fields}
        if self.store.get(key) is None:
            await self.store.create(key, lambda revision: _stamped(document, revision))
        else:
            await self.store.update(key, lambda revision: _stamped(document, revision))

    async def remove(self, resource: str, name: str, namespace: str = "default") -> None:
        key = Key(resource, namespace, name)
        stored = self.store.get(key)
        assert stored is not None
        document = msgspec.json.decode(stored.body)
        await self.store.delete(key, lambda revision: _stamped(document, revision))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        path, params = request.url.path, dict(request.query_params)
        self.requests.append((request.method, path, params, request.headers.get("content-type", ""), body))
        try:
            response = await self._respond(request.method, path, params, body)
        except ApiError as error:
            response = Response(msgspec.json.encode(error.status()), error.code, media_type="application/json")
        await response(scope, receive, send)

    async def _respond(self, method: str, path: str, params: dict[str, str], body: bytes) -> Response:
        if path in self.answer:
            code, content = self.answer[path]
            return Response(content, code)
        resource, namespace, name, _ = _parse(path)
        if params.get("watch"):
            watch = self.store.watch(resource, namespace, int(params["resourceVersion"]))
            return StreamingResponse(self._frames(watch), media_type="application/json")
        if method == "GET" and not name:
            selects = parse_label_selector(params.get("labelSelector", ""))
            items = [msgspec.json.decode(stored.body) for stored in self.store.list(resource, namespace)]
            chosen = [item for item in items if selects(item["metadata"].get("labels", {}))]
            # As Kubernetes does, items name neither their kind nor its version.
            listing = {"metadata": {"resourceVersion": str(self.store.revision)}, "items": chosen or None}
            return Response(msgspec.json.encode(listing))
        document = msgspec.json.decode(body) if body else {}
        if method == "POST":
            name = document["metadata"]["name"]
        key = Key(resource, namespace or "", name)
        if method == "POST":
            stored = await self.store.create(key, lambda revision: _stamped(document, revision))
        elif method == "PUT":
            version = document["metadata"].get("resourceVersion")
            stored = await self.store.update(
                key, lambda revision: _stamped(document, revision), int(version) if version else None
            )
        elif method == "DELETE":
            stored = await self.store.delete(key, lambda revision: b"{}")
        else:
            found = self.store.get(key)
            if found is None:
                # Raises NotFound, in the words of the store.
                found = await self.store.delete(key, lambda revision: b"")
            stored = found
        return Response(stored.body)

    async def _frames(self, watch: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        try:
            async for event in watch:
                yield b'{"type":"%s","object":%s}\n' % (event.type.encode(), event.stored.body)
        except Expired as error:
            yield b'{"type":"ERROR","object":%s}\n' % msgspec.json.encode(error.status())


def _stamped(document: Document, revision: int) -> bytes:
    return msgspec.json.encode({**document, "metadata": {**document["metadata"], "resourceVersion": str(revision)}})


def _parse(path: str) -> tuple[str, str | None, str, str]:
    """(resource, namespace, name, subresource) of a path."""
    parts = path.strip("/").split("/")
    group = parts[1] if parts[0] == "apis" else ""
    rest = parts[3:] if group else parts[2:]
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return f"{plural}.{group}" if group else plural, namespace, name, subresource


@asynccontextmanager
async def _serving(history: int = 100, **ssl_options: Any) -> AsyncIterator[FakeApiServer]:
    server = FakeApiServer(history)
    await server.start(**ssl_options)
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def fake_api() -> Callable[..., Any]:
    """`async with fake_api() as server:` serves while the block runs."""
    return _serving


async def _until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def until() -> Callable[..., Any]:
    """`await until(condition)` polls until it holds; TimeoutError after five seconds."""
    return _until
