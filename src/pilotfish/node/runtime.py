"""The agent's side of a running pod: requests to its supervisor. Holds no state, so that any process may ask."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import termios
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from pilotfish.node.sandbox import PodFolder, write_private
from pilotfish.node.supervisor.main import SOCKET

Write = Callable[[bytes], Awaitable[None]]

CHUNK = 64 * 1024
_LINE_LIMIT = 4 * 1024 * 1024


class RuntimeFailure(Exception):
    """The supervisor refused a request; the text is for the pod's status and events."""


class PodGone(RuntimeFailure):
    """The pod has no supervisor (any more)."""


class ProcessSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What any process in a pod runs as. `uid` None is root."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/"
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    tty: bool = False


class ContainerSpec(ProcessSpec, frozen=True, kw_only=True):
    """One run of a container. `log` is relative to the pod's folder; `attempt` counts restarts."""

    name: str
    id: str
    attempt: int
    log: str
    stdin: bool = False


class ContainerRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A container as its supervisor tells of it; times are nanoseconds since the epoch."""

    name: str
    id: str
    attempt: int
    pid: int
    started_at: int
    finished_at: int | None = None
    exit_code: int | None = None
    signal: int = 0

    @property
    def running(self) -> bool:
        return self.finished_at is None


def last_records(folder: PodFolder) -> tuple[ContainerRecord, ...]:
    """The containers as the supervisor last wrote them down; those of a dead supervisor were killed with it."""
    try:
        return msgspec.json.decode(folder.states.read_bytes(), type=tuple[ContainerRecord, ...])
    except (FileNotFoundError, msgspec.DecodeError):
        return ()


async def start(folder: PodFolder, spec: ContainerSpec) -> ContainerRecord:
    """Start a container. Raises RuntimeFailure when it cannot be executed."""
    write_private(folder.spec(spec.name), msgspec.json.encode(spec))
    answer = await _request(folder, {"op": "start", **msgspec.to_builtins(spec)})
    return msgspec.convert(answer["state"], ContainerRecord)


async def send_signal(folder: PodFolder, container: str, number: int) -> None:
    """Signal a container's first process; SIGKILL goes to everything that it started."""
    await _request(folder, {"op": "signal", "name": container, "signal": number})


async def watch(folder: PodFolder) -> AsyncGenerator[tuple[ContainerRecord, ...], None]:
    """First all containers, then each one that changes. Ends with PodGone when the supervisor does."""
    reader, writer = await _connect(folder)
    try:
        writer.write(b'{"op": "watch"}\n')
        while line := await reader.readline():
            message = msgspec.json.decode(line)
            states = message["states"] if "states" in message else [message["state"]]
            yield msgspec.convert(states, tuple[ContainerRecord, ...])
    except OSError as error:
        raise PodGone(f"the pod's supervisor is gone: {error}") from error
    finally:
        writer.close()
    raise PodGone("the pod's supervisor is gone")


def spec_of(folder: PodFolder, container: str) -> ContainerSpec:
    """How a container was last started. Raises RuntimeFailure when it never was."""
    try:
        return msgspec.json.decode(folder.spec(container).read_bytes(), type=ContainerSpec)
    except FileNotFoundError:
        raise RuntimeFailure(f"container {container!r} has not been started yet") from None


async def exec(
    folder: PodFolder,
    container: str,
    command: Sequence[str],
    *,
    stdin: AsyncIterator[bytes] | None = None,
    stdout: Write | None = None,
    stderr: Write | None = None,
    tty: bool = False,
    resize: AsyncIterator[tuple[int, int]] | None = None,
) -> int:
    """Run a command with a container's environment, user and working directory, and return its exit code.

    With `tty` all output arrives at `stdout`; `resize` yields (columns, rows). When this is cancelled the command is
    killed. Raises RuntimeFailure when it cannot be started.
    """
    ours, theirs = _terminal() if tty else _pipes(stdin is not None)
    spec = spec_of(folder, container)
    process = ProcessSpec(tuple(command), spec.env, spec.cwd, spec.uid, spec.gid, spec.groups, tty)
    if tty:
        process = msgspec.structs.replace(process, env={"TERM": "xterm", **spec.env})
    # What is still ours to close: a descriptor leaves this list when a stream takes it over.
    owned = [descriptor for descriptor in ours if descriptor is not None]
    writer: asyncio.StreamWriter | None = None
    try:
        connection = _socket(folder)
        try:
            request = msgspec.json.encode({"op": "exec", **msgspec.to_builtins(process)}) + b"\n"
            sent = socket.send_fds(connection, [request[:CHUNK]], list(theirs))
        finally:
            for descriptor in set(theirs):
                os.close(descriptor)
            theirs = ()
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_LINE_LIMIT)
        writer.write(request[sent:])
        _answer(await reader.readline())
        return await _converse(reader, ours, owned, stdin, stdout, stderr, resize)
    finally:
        for descriptor in {*theirs, *owned}:
            os.close(descriptor)
        if writer is not None:
            writer.close()


async def feed(
    folder: PodFolder,
    container: str,
    stdin: AsyncIterator[bytes],
    resize: AsyncIterator[tuple[int, int]] | None = None,
) -> None:
    """Write to a running container's standard input, or terminal, which stays open after it; returns when `stdin` ends.

    Raises RuntimeFailure when the container does not run or was given no input.
    """
    descriptor = await asyncio.to_thread(_input_of, folder, container)
    try:
        async with asyncio.TaskGroup() as group:
            resizing = group.create_task(_resize(descriptor, resize)) if resize is not None else None
            await _feed(descriptor, stdin, [], close=False)
            if resizing is not None:
                resizing.cancel()
    finally:
        os.close(descriptor)


def _input_of(folder: PodFolder, container: str) -> int:
    with contextlib.closing(_socket(folder)) as connection:
        connection.sendall(msgspec.json.encode({"op": "stdin", "name": container}) + b"\n")
        answer, descriptors, _, _ = socket.recv_fds(connection, CHUNK, 1)
    try:
        _answer(answer)
        return descriptors.pop()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


async def _converse(
    reader: asyncio.StreamReader,
    ours: tuple[int | None, int, int | None],
    owned: list[int],
    stdin: AsyncIterator[bytes] | None,
    stdout: Write | None,
    stderr: Write | None,
    resize: AsyncIterator[tuple[int, int]] | None,
) -> int:
    """Carry the streams until the command has ended and all its output has been passed on."""
    input_end, output_end, error_end = ours
    async with asyncio.TaskGroup() as group:
        inputs: list[asyncio.Task[None]] = []
        if resize is not None:
            inputs.append(group.create_task(_resize(output_end, resize)))
        if input_end is not None and stdin is not None:
            inputs.append(group.create_task(_feed(input_end, stdin, owned, close=input_end != output_end)))
        outputs = [group.create_task(_drain(output_end, stdout))]
        if error_end is not None:
            outputs.append(group.create_task(_drain(error_end, stderr)))
        ended = _answer(await reader.readline())
        for task in inputs:
            task.cancel()
        # A process that the command left running may hold the output open for ever: wait for what is there, no longer.
        _, unfinished = await asyncio.wait(outputs, timeout=1)
        for task in unfinished:
            task.cancel()
    return int(ended["exitCode"])


def _pipes(with_input: bool) -> tuple[tuple[int | None, int, int | None], tuple[int, ...]]:
    """(our ends, their ends) of a command's three streams."""
    if with_input:
        their_in, our_in = os.pipe2(os.O_CLOEXEC)
    else:
        their_in, our_in = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), None
    our_out, their_out = os.pipe2(os.O_CLOEXEC)
    our_err, their_err = os.pipe2(os.O_CLOEXEC)
    return (our_in, our_out, our_err), (their_in, their_out, their_err)


def _terminal() -> tuple[tuple[int | None, int, int | None], tuple[int, ...]]:
    master, slave = pty.openpty()
    return (master, master, None), (slave, slave, slave)


async def _ready(descriptor: int, *, to_write: bool = False) -> None:
    """Wait until a descriptor can be read from, or written to."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    if to_write:
        loop.add_writer(descriptor, event.set)
    else:
        loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        if to_write:
            loop.remove_writer(descriptor)
        else:
            loop.remove_reader(descriptor)


async def _drain(descriptor: int, write: Write | None) -> None:
    os.set_blocking(descriptor, False)
    while True:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            await _ready(descriptor)
            continue
        except OSError:  # EIO: nobody has the terminal open any more
            return
        if not data:
            return
        if write is not None:
            await write(data)


async def _feed(descriptor: int, source: AsyncIterator[bytes], owned: list[int], *, close: bool) -> None:
    os.set_blocking(descriptor, False)
    async for data in source:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                await _ready(descriptor, to_write=True)
            except BrokenPipeError:
                break  # nobody reads any more: the rest is let go, so that its sender is not held up
    if close:
        owned.remove(descriptor)
        os.close(descriptor)


async def _resize(terminal: int, sizes: AsyncIterator[tuple[int, int]]) -> None:
    async for columns, rows in sizes:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _socket(folder: PodFolder) -> socket.socket:
    """Connected to the supervisor; blocking. Raises PodGone."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Through the folder's descriptor: a socket's path may have 107 bytes, and a home may be longer.
        directory = os.open(folder.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{SOCKET}")
        finally:
            os.close(directory)
    except OSError as error:
        connection.close()
        raise PodGone(f"the pod's supervisor does not answer: {error.strerror}") from error
    return connection


async def _connect(folder: PodFolder) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = _socket(folder)
    connection.setblocking(False)
    return await asyncio.open_unix_connection(sock=connection, limit=_LINE_LIMIT)


async def _request(folder: PodFolder, message: dict[str, Any]) -> dict[str, Any]:
    reader, writer = await _connect(folder)
    try:
        writer.write(msgspec.json.encode(message) + b"\n")
        return _answer(await reader.readline())
    except ConnectionError as error:
        raise PodGone(f"the pod's supervisor is gone: {error}") from error
    finally:
        writer.close()


def _answer(line: bytes) -> dict[str, Any]:
    if not line:
        raise PodGone("the pod's supervisor is gone")
    message: dict[str, Any] = msgspec.json.decode(line)
    if "error" in message:
        raise RuntimeFailure(message["error"])
    return message


async def stop_container(folder: PodFolder, container: str, ended: Awaitable[object], grace_seconds: float) -> None:
    """SIGTERM, then SIGKILL when `ended` has not come after `grace_seconds`. Returns when it has ended."""
    waiting = asyncio.ensure_future(ended)
    try:
        await send_signal(folder, container, signal.SIGTERM)
        done, _ = await asyncio.wait([waiting], timeout=grace_seconds)
        if not done:
            await send_signal(folder, container, signal.SIGKILL)
        await waiting
    finally:
        waiting.cancel()
