"""The DNS process's end of the control socket."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pilotfish.node.dns.control import Remove, Reply, Request, Stats, Sync
from pilotfish.node.dns.listeners import Listeners

log = logging.getLogger(__name__)

_MAX_LINE = 1 << 24


class ControlServer:
    """Does what the node agent says. An agent that goes away changes nothing: pods are served on."""

    def __init__(self, group: asyncio.TaskGroup, listeners: Listeners, stats: Callable[[], dict[str, Any]]) -> None:
        self._group = group
        self._listeners = listeners
        self._stats = stats

    async def serve(self, path: Path) -> None:
        """Serve the socket at `path`, for ever. A socket that a killed process left there is replaced."""
        server = await asyncio.start_unix_server(self._connected, sock=_bound(path), limit=_MAX_LINE)
        async with server:
            await server.serve_forever()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._group.create_task(self._converse(reader, writer))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(self._reply(line)) + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:  # ValueError: a line beyond all measure
            log.warning("a connection to the control socket broke off: %s", error)
        finally:
            writer.close()

    def _reply(self, line: bytes) -> Reply:
        try:
            request = msgspec.json.decode(line, type=Request)
        except msgspec.DecodeError as error:
            return Reply(error=f"not a request: {error}")
        if isinstance(request, Stats):
            return Reply(stats=self._stats())
        if isinstance(request, Remove):
            self._listeners.remove(request.uids)
            return Reply()
        serve = self._listeners.sync if isinstance(request, Sync) else self._listeners.add
        return Reply(failed=serve(request.pods))


def _bound(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    path.chmod(0o600)
    return sock
