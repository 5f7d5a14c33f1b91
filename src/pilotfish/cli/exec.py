"""`pilotfish exec`: a command in a container, with our streams and its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import click

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.api.kinds import POD
from pilotfish.cli import terminal
from pilotfish.cli.connect import with_client
from pilotfish.cli.pods import default_container, find_pod
from pilotfish.client.http import HTTPClient
from pilotfish.client.paths import path_of
from pilotfish.client.stream import Channel, ChannelStream, exit_code, open_stream
from pilotfish.home import Home


@dataclass(frozen=True)
class Command:
    """What to run, and with which of our streams."""

    words: Sequence[str]
    container: str = ""
    stdin: bool = False
    tty: bool = False


def execute(home: Home, name: str, namespace: str | None, command: Command) -> int:
    """Run a command in the pod that NAME or KIND/NAME means; returns the command's exit status.

    A terminal needs one of ours: without it the command runs without, which is said (as kubectl does).
    """
    in_terminal = command.tty and command.stdin and sys.stdin.isatty()
    if command.tty and not in_terminal:
        click.echo("Unable to use a TTY - input is not a terminal or the right kind of file", err=True)

    async def run(client: HTTPClient) -> int:
        pod = await find_pod(client, name, namespace or client.config.namespace)
        container = default_container(pod, command.container)
        path = path_of(POD, pod.namespace, pod.name, "exec")
        query = _query(command, container, in_terminal=in_terminal)
        async with open_stream(client.config, path, query) as stream:
            if not command.stdin:
                return await _run(stream)
            fd = sys.stdin.fileno()
            if not in_terminal:
                return await _run(stream, _send_input(stream, fd))
            with terminal.raw(fd):
                return await _run(stream, _send_input(stream, fd), _send_sizes(stream, fd))

    return with_client(home, run)


def _query(command: Command, container: str, *, in_terminal: bool) -> list[tuple[str, str]]:
    """What the API is asked (core/v1: PodExecOptions). A terminal has one output."""
    flags = {"stdin": command.stdin, "stdout": True, "stderr": not in_terminal, "tty": in_terminal}
    words = [("command", word) for word in command.words]
    return [*words, ("container", container), *((name, "true") for name, wanted in flags.items() if wanted)]


async def _run(stream: ChannelStream, *senders: Coroutine[Any, Any, None]) -> int:
    """Print what comes while the senders send, until the command has ended; its exit status. Raises ApiError."""
    ended: bytes | None = None
    broken: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sender) for sender in senders]
        try:
            async for channel, data in stream:
                if channel == Channel.ERROR:
                    ended = data
                elif channel in (Channel.STDOUT, Channel.STDERR):
                    terminal.write_out(data, error=channel == Channel.STDERR)
        except (ServiceUnavailable, BrokenPipeError) as error:
            broken = error
        for task in tasks:
            task.cancel()
    if ended is None:
        raise broken or ServiceUnavailable("the connection ended before it was told how the command ended")
    return exit_code(ended)


async def _send_input(stream: ChannelStream, fd: int) -> None:
    """Send what comes on a descriptor, and its end."""
    with contextlib.suppress(ServiceUnavailable):  # who reads the stream learns it too, and says it
        async for data in terminal.read_chunks(fd):
            await stream.send(Channel.STDIN, data)
        await stream.close_channel(Channel.STDIN)


async def _send_sizes(stream: ChannelStream, fd: int) -> None:
    """Send the size of a terminal, now and whenever it changes."""
    with contextlib.suppress(ServiceUnavailable):
        async for columns, rows in terminal.sizes(fd):
            await stream.resize(columns, rows)
