"""`kubectl exec` and `kubectl attach`: one notion of a remote command's streams, however the client speaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
from starlette.requests import HTTPConnection

from pilotfish.api.errors import ApiError, BadRequest, ServiceUnavailable
from pilotfish.apiserver.streams.nodes import Query
from pilotfish.client.stream import Channel, Frame

log = logging.getLogger(__name__)


class Streams(Protocol):
    """The channels of one remote command (`pilotfish.client.stream.Channel`), towards a client or towards a node.

    To iterate gives what the other end sends, until it is gone. `send` returns when there is room for more; it raises
    ServiceUnavailable when the other end is gone.
    """

    def __aiter__(self) -> AsyncIterator[Frame]: ...

    async def send(self, channel: int, data: bytes) -> None: ...

    async def close_channel(self, channel: int) -> None: ...


class ClientStreams(Streams, Protocol):
    async def gone(self) -> None:
        """Returns when the client is known to be gone, also while it is not being read from."""
        ...


async def run_command(client: ClientStreams, node: Streams) -> None:
    """Carry a remote command to its end, which the client learns in any case."""
    if not await relay(client, node):
        broken = ApiError("Internal error occurred: the connection to the node broke off before the command had ended")
        with contextlib.suppress(ServiceUnavailable):  # it was the client that went away
            await client.send(Channel.ERROR, msgspec.json.encode(broken.status()))


async def relay(client: ClientStreams, node: Streams) -> bool:
    """Carry frames both ways until one end is gone. Returns whether the node told how the command ended."""
    told = False

    async def to_node() -> None:
        async for frame in client:
            await _pass_on(frame, node)

    async def to_client() -> None:
        nonlocal told
        async for frame in node:
            told = told or frame.channel == Channel.ERROR
            await _pass_on(frame, client)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (to_node(), to_client(), client.gone())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except* ServiceUnavailable as gone:
        log.debug("a remote command's streams broke off: %s", gone.exceptions[0])
    return told


async def _pass_on(frame: Frame, to: Streams) -> None:
    if frame.channel == Channel.CLOSE:
        await to.close_channel(frame.data[0])
    else:
        await to.send(*frame)


@dataclass(frozen=True)
class Wanted:
    """What the query of an exec or attach asks for (core/v1: PodExecOptions)."""

    command: tuple[str, ...]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @staticmethod
    def of(request: HTTPConnection, *, with_command: bool) -> Wanted:
        """Raises BadRequest."""
        query = request.query_params
        stdin, stdout, stderr, tty = (
            query.get(name, "").lower() in ("1", "true") for name in ("stdin", "stdout", "stderr", "tty")
        )
        command = tuple(query.getlist("command"))
        if not (stdin or stdout or stderr):
            raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
        if with_command and not command:
            raise BadRequest("you must specify at least one command for the container")
        # A terminal has one output.
        return Wanted(command, stdin, stdout, stderr and not tty, tty)

    @property
    def query(self) -> Query:
        """The same, as the node wants it."""
        flags = {"input": self.stdin, "output": self.stdout, "error": self.stderr, "tty": self.tty}
        return [*(("command", word) for word in self.command), *((name, "1") for name, on in flags.items() if on)]
