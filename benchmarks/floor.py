"""What a fan-out costs at least: a gRPC server that writes the same bytes to each of its streams, and reads an answer.

It is what the ADS server is made of (grpc.aio, mutual TLS, uvloop), without anything to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import resource
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import uvloop

from benchmarks.fleet import credentials
from benchmarks.h2 import Stream
from benchmarks.simulated import SERVER_NAME
from pilotfish.home import Home
from pilotfish.pki.files import Files
from pilotfish.xds.server import Context, mutual_tls, serving

SENT, ANSWERED = 500, 60
"""Bytes of an endpoint change, and of its acknowledgement."""
_SERVICE, _METHOD = "benchmarks.Floor", "Converse"


def fan_outs(home: Home, streams: int, rounds: int) -> list[float]:
    """CPU seconds of the server for a write to each of so many streams and a read from each, several times."""
    with _server(home, streams) as pipe:
        return asyncio.run(_clients(home, pipe, streams, rounds))


@contextlib.contextmanager
def _server(home: Home, streams: int) -> Iterator[Connection]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_serve, args=(theirs, home.path, streams))
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        child.kill()
        child.join()


def _serve(pipe: Connection, home: Path, streams: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(_Floor(pipe, streams).run(Home(home)))


class _Floor:
    """The server. Each message from the pipe is a fan-out; it is answered with the CPU seconds that it took."""

    def __init__(self, pipe: Connection, streams: int) -> None:
        self._pipe = pipe
        self._streams = streams
        self._wakes: list[asyncio.Event] = []
        self._answers = 0
        self._began = 0.0

    async def run(self, home: Home) -> None:
        files = Files(home.pki)
        handler = grpc.method_handlers_generic_handler(
            _SERVICE, {_METHOD: grpc.stream_stream_rpc_method_handler(self._converse)}
        )
        async with serving(
            [handler], "127.0.0.1:0", mutual_tls(files.xds_server.load(), files.ca.read_bytes())
        ) as port:
            asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._fan_out)
            self._pipe.send(port)
            await asyncio.get_running_loop().create_future()

    def _fan_out(self) -> None:
        self._pipe.recv()
        self._answers, self._began = 0, _cpu_seconds()
        for wake in self._wakes:
            wake.set()

    async def _converse(self, _: object, context: Context) -> None:
        await context.read()
        wake = asyncio.Event()
        self._wakes.append(wake)
        if len(self._wakes) == self._streams:
            gc.freeze()
            self._pipe.send(None)
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(wake, context))
            while await context.read() is not grpc.aio.EOF:
                self._answers += 1
                if self._answers == self._streams:
                    self._pipe.send(_cpu_seconds() - self._began)
            writer.cancel()

    async def _write(self, wake: asyncio.Event, context: Context) -> None:
        while True:
            await wake.wait()
            wake.clear()
            await context.write(b"x" * SENT)


async def _clients(home: Home, pipe: Connection, streams: int, rounds: int) -> list[float]:
    [tls] = credentials(home, ["default"]).values()
    port = await asyncio.to_thread(pipe.recv)
    opened: list[Stream] = []

    async def open_one() -> None:
        def answer(_: bytes) -> None:
            stream.write(b"x" * ANSWERED)

        stream = await Stream.open(f"127.0.0.1:{port}", tls, SERVER_NAME, f"/{_SERVICE}/{_METHOD}", answer)
        stream.write(b"x")
        opened.append(stream)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(streams):
            tasks.create_task(open_one())
    await asyncio.to_thread(pipe.recv)
    found: list[float] = []
    for _ in range(rounds):
        pipe.send(())
        found.append(await asyncio.to_thread(pipe.recv))
    for stream in opened:
        stream.close()
    return found


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
