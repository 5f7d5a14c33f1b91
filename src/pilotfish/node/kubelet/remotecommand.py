"""Exec and attach: a process's streams over one WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket

from pilotfish.api.errors import BadRequest, ServiceUnavailable
from pilotfish.client.stream import Channel
from pilotfish.client.streamserver import AcceptedStream
from pilotfish.node import logs, runtime
from pilotfish.node.kubelet import outcome
from pilotfish.node.kubelet.inputs import Inputs
from pilotfish.node.kubelet.pods import RunningPod, has_ended, require_running
from pilotfish.node.logs import LogOptions
from pilotfish.node.runtime import RuntimeFailure, Write

log = logging.getLogger(__name__)

Session = Callable[[Inputs, Write, Write], Coroutine[Any, Any, bytes]]
"""A process in conversation: given its inputs and where its two outputs go, it returns the final Status."""


@dataclass(frozen=True)
class Wanted:
    """Which streams the client wants; the query of the request. With a terminal there is no separate stderr."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @staticmethod
    def of(websocket: WebSocket) -> Wanted:
        """Raises BadRequest when no stream is wanted (Kubernetes: remotecommand.NewOptions)."""
        query = websocket.query_params
        stdin, stdout, stderr, tty = (query.get(name) in ("1", "true") for name in ("input", "output", "error", "tty"))
        if not (stdin or stdout or stderr):
            raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
        return Wanted(stdin, stdout, stderr and not tty, tty)


def execute(pod: RunningPod, container: str, websocket: WebSocket) -> Session:
    """Run the query's `command` in a container. Raises BadRequest, or NotFound when the container does not run."""
    wanted, command = Wanted.of(websocket), websocket.query_params.getlist("command")
    if not command:
        raise BadRequest("you must specify at least one command for the container")
    require_running(pod, container)

    async def run(inputs: Inputs, stdout: Write, stderr: Write) -> bytes:
        code = await runtime.exec(
            pod.folder,
            container,
            command,
            stdin=inputs.stdin() if wanted.stdin else None,
            stdout=stdout if wanted.stdout else None,
            stderr=stderr if wanted.stderr else None,
            tty=wanted.tty,
            resize=inputs.sizes() if wanted.tty else None,
        )
        return outcome.exited(code)

    return run


def attach(pod: RunningPod, container: str, websocket: WebSocket) -> Session:
    """Join a running container: what it writes from now on (taken from its log, so by whole lines), and its input.

    Raises BadRequest, or NotFound when the container does not run.
    """
    wanted, record = Wanted.of(websocket), require_running(pod, container)
    path = pod.folder.log(container, record.attempt)

    async def follow(stream: str, write: Write) -> None:
        options = LogOptions(follow=True, tail_lines=0, stream=stream)
        async for piece in logs.read(path, options, lambda: has_ended(pod, record)):
            await write(piece)

    async def run(inputs: Inputs, stdout: Write, stderr: Write) -> bytes:
        async with asyncio.TaskGroup() as group:
            feeding = None
            if wanted.stdin:
                sizes = inputs.sizes() if wanted.tty else None
                feeding = group.create_task(runtime.feed(pod.folder, container, inputs.stdin(), sizes))
            if wanted.stdout:
                group.create_task(follow("stdout", stdout))
            if wanted.stderr:
                group.create_task(follow("stderr", stderr))
            while not has_ended(pod, record):  # noqa: ASYNC110 - it is a file of the pod's supervisor that says so
                await asyncio.sleep(logs.POLL_SECONDS)
            if feeding is not None:
                feeding.cancel()
        return outcome.SUCCESS

    return run


async def converse(stream: AcceptedStream, session: Session) -> None:
    """Carry a session's streams until the process has ended or the client is gone; then neither is left."""
    inputs = Inputs()
    running = session(inputs, _to(stream, Channel.STDOUT), _to(stream, Channel.STDERR))
    try:
        async with asyncio.TaskGroup() as group:
            process = group.create_task(_status(running))
            reading = group.create_task(inputs.read(stream))
            gone = group.create_task(stream.gone())
            await asyncio.wait([process, reading, gone], return_when=asyncio.FIRST_COMPLETED)
            for task in (process, reading, gone):
                task.cancel()
        if not process.cancelled():
            await stream.send(Channel.ERROR, process.result())
    except* ServiceUnavailable as gone:
        log.debug("the client went away in the middle, and its process was killed: %s", gone.exceptions[0])
    await stream.close()


async def _status(running: Awaitable[bytes]) -> bytes:
    """The session's Status, also where it failed to start or lost its pod."""
    failure: list[Exception] = []
    try:
        return await running
    except* RuntimeFailure as group:
        failure += group.exceptions
    cause: BaseException = failure[0]
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return outcome.failed(f"error executing command in container: {cause}")


def _to(stream: AcceptedStream, channel: Channel) -> Write:
    async def write(data: bytes) -> None:
        await stream.send(channel, data)

    return write
