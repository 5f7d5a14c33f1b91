"""Calls at a fixed rate, whether or not earlier ones were answered.

    python -m benchmarks.load http|grpc HOST RATE SECONDS

Prints the latencies (seconds) and how late the calls went out, as JSON. A call is timed from when it is sent, so a
client that is itself kept from running does not count as slowness of the server; `late` says how much there was of it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import grpc
import msgspec
import uvloop

from benchmarks.echo import METHOD

WARM_UP = 1.0
"""Seconds at the start whose calls are not counted: connections are made in them."""

Call = Callable[[], Awaitable[bool]]


class Outcome(msgspec.Struct):
    """Seconds; `failed` counts calls without the right answer."""

    latencies: list[float] = []
    late: list[float] = []
    failed: int = 0


async def at_rate(call: Call, rate: float, seconds: float) -> Outcome:
    """Calls evenly spread over `seconds`, after the warm-up."""
    outcome, clock = Outcome(), time.perf_counter
    began = clock() + 0.05

    async def one(due: float) -> None:
        sent = clock()
        answered = await call()
        if due < began + WARM_UP:
            return
        if answered:
            outcome.latencies.append(clock() - sent)
            outcome.late.append(sent - due)
        else:
            outcome.failed += 1

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * (seconds + WARM_UP))):
            due = began + number / rate
            await asyncio.sleep(due - clock())
            group.create_task(one(due))
    return outcome


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request on it at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._received = b""

    def ask(self, request: bytes) -> Awaitable[bool]:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\nok") and self._answer:
            answered, self._received = self._received.startswith(b"HTTP/1.1 200"), b""
            self._answer.set_result(answered)

    def connection_lost(self, _: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(False)


async def http(host: str, rate: float, seconds: float) -> Outcome:
    """HTTP/1.1 with as many kept connections as are needed at once."""
    loop, idle = asyncio.get_running_loop(), deque[_Connection]()
    request = f"GET / HTTP/1.1\r\nhost: {host}:8080\r\n\r\n".encode()

    async def call() -> bool:
        connection = idle.pop() if idle else (await loop.create_connection(_Connection, host, 8080))[1]
        answered = await connection.ask(request)
        if answered:
            idle.append(connection)
        return answered

    return await at_rate(call, rate, seconds)


async def unary(host: str, rate: float, seconds: float) -> Outcome:
    """gRPC calls on one connection."""
    async with grpc.aio.insecure_channel(f"{host}:9090") as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

        async def call() -> bool:
            try:
                return bool(await method(b"x" * 32, timeout=5) == b"x" * 32)
            except grpc.aio.AioRpcError:
                return False

        return await at_rate(call, rate, seconds)


def main() -> None:
    protocol, host, rate, seconds = sys.argv[1:]
    run = {"http": http, "grpc": unary}[protocol]
    outcome = uvloop.run(run(host, float(rate), float(seconds)))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
