"""Probes and lifecycle hooks: one attempt of each kind, and the loop that turns attempts into a verdict.

Attempts are made from inside the pod's network namespace, past the capture rules. Istio has probes rewritten at
injection for the same end (`rewriteAppHTTPProbers`): the proxy's policies and access log are not for the node's checks.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotfish.api.meta import IntOrString
from pilotfish.api.pods import Container, GRPCAction, HTTPGetAction, LifecycleHandler, Probe
from pilotfish.node import netns

FIRST_INTERVAL, GROWTH, LAST_INTERVAL = 0.02, 1.2, 0.25
"""Seconds between the attempts on a container that is starting; see `watch`."""

MAX_ANSWER = 10 * 1024


@dataclass(frozen=True)
class Target:
    """Where a container is probed: `run` executes a command in it and returns (exit code, output)."""

    container: Container
    ip: str
    netns: Path | None
    run: Callable[[Sequence[str]], Awaitable[tuple[int, str]]]


@dataclass(frozen=True)
class Outcome:
    """What one attempt found; `message` tells of a failure."""

    success: bool
    message: str = ""


async def attempt(target: Target, handler: Probe | LifecycleHandler, timeout: float | None) -> Outcome:
    """One attempt. Never raises for what the container does: a refusal is an outcome."""
    try:
        async with asyncio.timeout(timeout):
            if handler.exec is not None:
                code, output = await target.run(handler.exec.command)
                return Outcome(code == 0, "" if code == 0 else output.strip() or f"command exited with {code}")
            if handler.http_get is not None:
                return await _http(target, handler.http_get)
            if handler.tcp_socket is not None:
                action = handler.tcp_socket
                connected = await _connect(target, action.host, action.port)
                connected.close()
                return Outcome(True)
            if isinstance(handler, Probe) and handler.grpc is not None:
                return await _grpc(target, handler.grpc)
            if isinstance(handler, LifecycleHandler) and handler.sleep is not None:
                await asyncio.sleep(handler.sleep.seconds)
            return Outcome(True)
    except TimeoutError:
        return Outcome(False, f"timed out after {timeout:g}s: context deadline exceeded")
    except (OSError, ValueError, EOFError) as error:
        return Outcome(False, str(error))


async def watch(
    probe: Probe,
    attempts: Callable[[float], Awaitable[Outcome]],
    verdict: Callable[[bool], None],
    failed: Callable[[str], None],
    *,
    eager: bool,
) -> None:
    """Probe until cancelled. `verdict` hears of each crossing of a threshold, `failed` of each counted failure.

    With `eager` the first success is looked for at short intervals, which grow with the time that has passed: a
    container becomes ready when it is, and not when the next period begins. What fails in between is not counted, so
    that a failure threshold means as many periods as it says.
    """
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(probe.initial_delay_seconds)
    period = float(max(1, probe.period_seconds))
    interval = FIRST_INTERVAL
    successes = failures = 0
    counted_at = clock()
    decided: bool | None = None
    ever = not eager
    while True:
        begun = clock()
        outcome = await attempts(float(max(1, probe.timeout_seconds)))
        if outcome.success:
            ever = True
            successes, failures = successes + 1, 0
            counted_at = begun
            if successes >= probe.success_threshold and decided is not True:
                decided = True
                verdict(True)
        elif ever or begun - counted_at >= period:
            successes, failures = 0, failures + 1
            counted_at = begun
            failed(outcome.message)
            if failures >= probe.failure_threshold and decided is not False:
                decided = False
                verdict(False)
        if ever:
            await asyncio.sleep(max(0.0, begun + period - clock()))
        else:
            await asyncio.sleep(min(interval, period))
            interval = min(interval * GROWTH, LAST_INTERVAL)


def port_number(container: Container, port: IntOrString) -> int:
    """The number of a port that may be given by its name. Raises ValueError when the container has no such port."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    found = next((p.container_port for p in container.ports if p.name == port), None)
    if found is None:
        raise ValueError(f"container {container.name!r} has no port named {port!r}")
    return found


async def _connect(target: Target, host: str, port: IntOrString) -> socket.socket:
    address = (host or target.ip, port_number(target.container, port))
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    def make() -> socket.socket:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    made = make() if target.netns is None else await asyncio.to_thread(netns.run_in, target.netns, make)
    try:
        await asyncio.get_running_loop().sock_connect(made, address)
    except OSError as error:
        made.close()
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ConnectionError(f"dial tcp {address[0]}:{address[1]}: connect: {reason}") from None
    except BaseException:
        made.close()
        raise
    return made


async def _http(target: Target, action: HTTPGetAction) -> Outcome:
    port = port_number(target.container, action.port)
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    authority = f"{action.host or target.ip}:{port}"
    headers = {"Host": authority, "User-Agent": "kube-probe/1.31", "Accept": "*/*", "Connection": "close"}
    headers |= {header.name: header.value for header in action.http_headers}
    context = None
    if action.scheme == "HTTPS":
        # As the kubelet: a probe asks whether somebody answers, not who.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    connected = await _connect(target, action.host, port)
    reader, writer = await asyncio.open_connection(
        sock=connected, ssl=context, server_hostname=target.ip if context else None, limit=MAX_ANSWER
    )
    try:
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        answer = (await reader.readline()).split(None, 2)
    finally:
        writer.close()
    if len(answer) < 2 or not answer[0].startswith(b"HTTP/") or not answer[1].isdigit():
        return Outcome(False, f'Get "{action.scheme.lower()}://{authority}{path}": malformed HTTP response')
    code = int(answer[1])
    return Outcome(200 <= code < 400, "" if 200 <= code < 400 else f"HTTP probe failed with statuscode: {code}")


async def _grpc(target: Target, action: GRPCAction) -> Outcome:
    """grpc.health.v1.Health/Check. One small unary call: a request frame out, the first data frame back."""
    connected = await _connect(target, "", action.port)
    reader, writer = await asyncio.open_connection(sock=connected)
    try:
        service = action.service.encode()
        message = b"\x0a" + bytes([len(service)]) + service if service else b""
        headers = _literal_headers(
            {
                ":method": "POST",
                ":scheme": "http",
                ":path": "/grpc.health.v1.Health/Check",
                ":authority": f"{target.ip}:{action.port}",
                "content-type": "application/grpc",
                "te": "trailers",
                "user-agent": "kube-probe/1.31",
            }
        )
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"") + _frame(1, 4, 1, headers))
        writer.write(_frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message))
        while True:
            head = await reader.readexactly(9)
            kind, flags, stream = head[3], head[4], struct.unpack(">I", head[5:])[0] & 0x7FFFFFFF
            body = await reader.readexactly(int.from_bytes(head[:3]))
            if kind == 4 and not flags & 1:
                writer.write(_frame(4, 1, 0, b""))
            elif kind == 0 and stream == 1 and len(body) >= 5:
                serving = body[5:7] == b"\x08\x01"
                return Outcome(serving, "" if serving else "service unhealthy (responded with NOT_SERVING)")
            elif kind in (3, 7) or (kind in (1, 0) and stream == 1 and flags & 1):
                return Outcome(False, "the server does not answer grpc.health.v1.Health/Check")
    except asyncio.IncompleteReadError:
        return Outcome(False, "the connection was closed before an answer to grpc.health.v1.Health/Check")
    finally:
        writer.close()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + struct.pack(">I", stream) + body


def _literal_headers(headers: dict[str, str]) -> bytes:
    """HPACK without compression: each field a literal that is not indexed (RFC 7541, 6.2.2)."""
    out = b""
    for name, value in headers.items():
        out += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return out
