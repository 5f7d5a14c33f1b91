"""Exec, attach and port-forward streams: several channels in one WebSocket (Kubernetes' v5.channel.k8s.io).

Every message is one frame: a byte that names the channel, then data. Version 5 adds the closing of one channel, which
tells a process that its standard input has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.client.kubeconfig import Kubeconfig
from pilotfish.client.tls import ssl_context
from pilotfish.client.wire import read_error

PROTOCOL = "v5.channel.k8s.io"


class Channel(IntEnum):
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    """The final `Status` as JSON."""
    RESIZE = 4
    """Terminal sizes, as {"Width": columns, "Height": rows}."""
    CLOSE = 255
    """Its data is the byte of the channel that ends."""


class Frame(NamedTuple):
    channel: int
    data: bytes


class ChannelStream:
    """An open stream: iterate for the server's frames until it ends; raises ServiceUnavailable when it breaks off."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, channel: int, data: bytes) -> None:
        try:
            await self._connection.send(bytes([channel]) + data)
        except ConnectionClosed as error:
            raise ServiceUnavailable(f"the stream is closed: {error}") from error

    async def close_channel(self, channel: int) -> None:
        """Tell the server that nothing more comes on a channel."""
        await self.send(Channel.CLOSE, bytes([channel]))

    async def resize(self, columns: int, rows: int) -> None:
        await self.send(Channel.RESIZE, msgspec.json.encode({"Width": columns, "Height": rows}))

    async def __aiter__(self) -> AsyncIterator[Frame]:
        try:
            while True:
                message = await self._connection.recv(decode=False)
                if message:
                    yield Frame(message[0], message[1:])
        except ConnectionClosedOK:
            return
        except ConnectionClosed as error:
            raise ServiceUnavailable(f"the stream broke off: {error}") from error


@asynccontextmanager
async def open_stream(
    config: Kubeconfig, path: str, params: Sequence[tuple[str, str]], *, protocol: str = PROTOCOL
) -> AsyncIterator[ChannelStream]:
    """Open e.g. /api/v1/namespaces/default/pods/web/exec with [("command", "ls"), ("stdout", "true")].

    Raises what the server's Status says when it refuses, ServiceUnavailable when it cannot be reached.
    """
    url = f"ws{config.server.removeprefix('http')}{path}?{urlencode(params)}"
    secure = url.startswith("wss:")
    try:
        connection = await connect(
            url,
            subprotocols=[Subprotocol(protocol)],
            additional_headers={"Authorization": f"Bearer {config.token}"} if config.token else {},
            user_agent_header="pilotfish",
            compression=None,
            max_size=None,
            # A stream that nobody reads for a while must not count as broken: no answer to a ping could be heard then.
            ping_interval=None,
            # Who leaves before the end has no use for an orderly one.
            close_timeout=1,
            proxy=None,
            ssl=ssl_context(config) if secure else None,
            server_hostname=(config.tls_server_name or urlsplit(url).hostname) if secure else None,
        )
    except InvalidStatus as error:
        raise read_error(bytes(error.response.body or b""), error.response.status_code) from error
    except (InvalidHandshake, OSError, TimeoutError) as error:
        raise ServiceUnavailable(f"cannot open a stream to {config.server}: {error or type(error).__name__}") from error
    async with connection:
        if connection.subprotocol != protocol:
            raise ServiceUnavailable(f"{config.server} does not speak {protocol} (Kubernetes 1.30 and later do)")
        yield ChannelStream(connection)


def exit_code(status: bytes) -> int:
    """The exit code of an executed command from the data of the ERROR channel.

    Raises what the Status says when the command did not come to run.
    """
    document: dict[str, Any] = msgspec.json.decode(status, type=dict[str, Any])
    if document.get("status") == "Success":
        return 0
    causes = (document.get("details") or {}).get("causes") or ()
    for cause in causes:
        if document.get("reason") == "NonZeroExitCode" and cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise read_error(status, 500)
