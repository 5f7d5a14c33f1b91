"""One connection to a port of a pod, through the API server: Kubernetes' port-forward over a WebSocket.

The protocol is the one without SPDY, which every Kubernetes since 1.5 speaks: each port has a channel for data, both
ways, and one for errors; the first message on either is the port's number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httptools

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.api.kinds import POD
from pilotfish.client.kubeconfig import Kubeconfig
from pilotfish.client.paths import path_of
from pilotfish.client.stream import ChannelStream, open_stream

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
"""The channels of the first port, and of each further port those that follow."""
GREETING_BYTES = 2
"""The port's number, little end first."""
ANSWER_SECONDS = 30.0


@asynccontextmanager
async def port_forward(config: Kubeconfig, namespace: str, pod: str, port: int) -> AsyncIterator[PodConnection]:
    """A connection to a port on the pod's loopback.

    Raises what the API server's Status says when it refuses, ServiceUnavailable when it cannot be reached.
    """
    path = path_of(POD, namespace, pod, "portforward")
    async with open_stream(config, path, [("ports", str(port))], protocol=PROTOCOL) as stream:
        yield PodConnection(stream)


class PodConnection:
    """An open connection: iterate for what the port sends, until it ends."""

    def __init__(self, stream: ChannelStream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        await self._stream.send(DATA, data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises ServiceUnavailable when the connection breaks off or the port cannot be reached."""
        greeted: set[int] = set()
        async for channel, data in self._stream:
            if channel not in greeted:
                greeted.add(channel)
                data = data[GREETING_BYTES:]
            if data and channel == ERROR:
                raise ServiceUnavailable(data.decode(errors="replace").strip())
            if data and channel == DATA:
                yield data


async def http_request(
    config: Kubeconfig, namespace: str, pod: str, port: int, path: str, *, method: str = "GET"
) -> tuple[int, bytes]:
    """Status and body of a plain HTTP answer of a port inside a pod. Raises ApiError when there is none."""
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(ANSWER_SECONDS), port_forward(config, namespace, pod, port) as connection:
            await connection.send(head.encode())
            async for data in connection:
                parser.feed_data(data)
                if answer.complete:
                    return parser.get_status_code(), bytes(answer.body)
    except httptools.HttpParserError as error:
        raise ServiceUnavailable(f"port {port} of pod {namespace}/{pod} does not speak HTTP: {error}") from error
    except TimeoutError as error:
        raise ServiceUnavailable(
            f"port {port} of pod {namespace}/{pod} has not answered within {ANSWER_SECONDS:.0f} s"
        ) from error
    raise ServiceUnavailable(
        f"port {port} of pod {namespace}/{pod} ended the connection before its answer was complete"
    )


class _Answer:
    """What httptools' parser calls."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, data: Any) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
