"""A client of any Kubernetes API server, over HTTP/1.1."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.api.meta import Document, Object, metadata_of
from pilotfish.api.scheme import Kind
from pilotfish.client.client import Listing, WatchEvent
from pilotfish.client.kubeconfig import Kubeconfig
from pilotfish.client.paths import path_of
from pilotfish.client.tls import ssl_context
from pilotfish.client.wire import (
    read_error,
    read_event,
    read_list,
    read_object,
    read_warnings,
    split_lines,
    write_object,
)

T = TypeVar("T", bound=Object)

Params = Mapping[str, str] | Sequence[tuple[str, str]]

JSON = "application/json"
ANY = "application/json, */*"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

CONNECT_SECONDS = 5.0
STEP_SECONDS = 30.0
"""How long one read or write of an ordinary request may take."""

WATCH_SECONDS = (300, 600)
"""How long a watch is asked to last, at least and at most (client-go's reflector: five to ten minutes)."""

# A peer that vanished without a word is noticed after some 30 seconds, also by a watch that has nothing to hear.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class HTTPClient:
    """`pilotfish.client.client.Client` against the server of a kubeconfig, and raw requests to it.

    Connections are pooled; each open watch or stream holds one. Proxies named in the environment are not used: the
    server is most often on loopback, where they only do harm. Close a watch or stream that is left before its end
    (`contextlib.aclosing`), or its connection stays open until it is collected.
    """

    def __init__(
        self, config: Kubeconfig, *, user_agent: str = "pilotfish", on_warning: Callable[[str], None] | None = None
    ) -> None:
        """`on_warning` is told what the server warns of, beside answers to `request` (client-go: WarningHandler)."""
        self.config = config
        self._on_warning = on_warning
        headers = {"User-Agent": user_agent}
        if config.token:
            headers["Authorization"] = f"Bearer {config.token}"
        transport = httpx.AsyncHTTPTransport(
            verify=ssl_context(config),
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            socket_options=_KEEPALIVE,
        )
        self._extensions = {"sni_hostname": config.tls_server_name} if config.tls_server_name else {}
        self._http = httpx.AsyncClient(
            base_url=config.server,
            headers=headers,
            timeout=_timeout(STEP_SECONDS),
            transport=transport,
            trust_env=False,
        )

    async def get(self, kind: Kind[T], name: str, namespace: str = "") -> T:
        return read_object(kind, await self.request("GET", path_of(kind, namespace, name)))

    async def list(
        self, kind: Kind[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        params = _selection(labels, fields)
        return read_list(kind, await self.request("GET", path_of(kind, namespace), params=params))

    async def watch(
        self,
        kind: Kind[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncGenerator[WatchEvent[T], None]:
        seconds = random.randint(*WATCH_SECONDS)
        params = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            **_selection(labels, fields),
        }
        async with self._stream(path_of(kind, namespace), params, idle_seconds=seconds + 30.0) as lines:
            async for line in lines:
                if line and (event := read_event(kind, line)) is not None:
                    yield event

    async def create(self, kind: Kind[T], obj: T | Document, namespace: str = "") -> T:
        body = write_object(kind, obj)
        if not namespace:
            namespace = metadata_of(obj).get("namespace", "") if isinstance(obj, dict) else obj.namespace
        return read_object(kind, await self.request("POST", path_of(kind, namespace), body=body))

    async def update(self, kind: Kind[T], document: Document, *, subresource: str = "") -> T:
        metadata = metadata_of(document)
        path = path_of(kind, metadata.get("namespace", ""), metadata.get("name", ""), subresource)
        return read_object(kind, await self.request("PUT", path, body=write_object(kind, document)))

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        namespace: str,
        patch: Document | Sequence[Any],
        *,
        subresource: str = "",
    ) -> T:
        answer = await self.request(
            "PATCH",
            path_of(kind, namespace, name, subresource),
            body=msgspec.json.encode(patch),
            content_type=MERGE_PATCH if isinstance(patch, dict) else JSON_PATCH,
        )
        return read_object(kind, answer)

    async def delete(
        self,
        kind: Kind[T],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        grace_period_seconds: int | None = None,
    ) -> None:
        options: Document = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        await self.request("DELETE", path_of(kind, namespace, name), body=msgspec.json.encode(options))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> bytes:
        """The body of a successful answer. Raises what the server's Status says, or ServiceUnavailable."""
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        try:
            response = await self._http.request(
                method, path, params=_pairs(params), content=body, headers=headers, extensions=self._extensions
            )
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if self._on_warning is not None:
            for warning in read_warnings(response.headers.get_list("warning")):
                self._on_warning(warning)
        if response.is_error:
            raise read_error(response.content, response.status_code)
        return response.content

    async def request_json(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Any:
        """As `request`, with `body` and the answer as JSON values; a body of None sends none."""
        content = None if body is None else msgspec.json.encode(body)
        answer = await self.request(method, path, params=params, body=content, content_type=content_type, accept=accept)
        return msgspec.json.decode(answer)

    async def stream_lines(
        self, path: str, params: Params | None = None, *, accept: str = ANY
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an answer as they come (logs with follow=true, watches), for as long as the server sends.

        Raises what the server's Status says, or ServiceUnavailable when the connection breaks.
        """
        async with self._stream(path, params, idle_seconds=None, accept=accept) as lines:
            async for line in lines:
                yield line

    async def close(self) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def _stream(
        self, path: str, params: Params | None, idle_seconds: float | None, accept: str = ANY
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        timeout = _timeout(idle_seconds)
        # Not compressed: a compressor holds lines back.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        try:
            async with self._http.stream(
                "GET", path, params=_pairs(params), headers=headers, timeout=timeout, extensions=self._extensions
            ) as response:
                if response.is_error:
                    raise read_error(await response.aread(), response.status_code)
                yield split_lines(response.aiter_bytes())
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> ServiceUnavailable:
        # Some of these errors carry no text, e.g. timeouts.
        return ServiceUnavailable(f"cannot reach {self.config.server}: {error or type(error).__name__}")


def _timeout(read_seconds: float | None) -> httpx.Timeout:
    return httpx.Timeout(connect=CONNECT_SECONDS, read=read_seconds, write=STEP_SECONDS, pool=None)


def _selection(labels: str, fields: str) -> dict[str, str]:
    return {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def _pairs(params: Params | None) -> list[tuple[str, str | int | float | bool | None]] | None:
    if params is None:
        return None
    return [*(params.items() if isinstance(params, Mapping) else params)]
