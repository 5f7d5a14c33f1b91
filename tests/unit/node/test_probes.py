from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent import futures

import grpc
import pytest

from pilotfish.api.pods import Container, ContainerPort, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction
from pilotfish.node import probes
from pilotfish.node.probes import Outcome, Target


async def no_command(command: Sequence[str]) -> tuple[int, str]:
    raise AssertionError(f"{command} is not asked for here")


def target(port: int = 0) -> Target:
    ports = (ContainerPort(container_port=port, name="http"),)
    return Target(Container(name="c", ports=ports), "127.0.0.1", None, no_command)


def served(answer: bytes, check: Callable[[Target], Awaitable[Outcome]]) -> Outcome:
    """What a check finds at a server that gives this answer to anyone."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def scenario() -> Outcome:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        async with server:
            return await check(target(server.sockets[0].getsockname()[1]))

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP probe failed with statuscode: 503"),
        (b"nonsense\r\n", "malformed HTTP response"),
        (b"", "malformed HTTP response"),
    ],
)
def test_an_http_probe_goes_by_the_status(answer: bytes, message: str) -> None:
    probe = Probe(http_get=HTTPGetAction(port="http", path="/ok"))
    outcome = served(answer, lambda to: probes.attempt(to, probe, 5))
    assert outcome.success == (not message)
    assert message in outcome.message


def test_what_cannot_be_reached_is_told_as_the_kubelet_does() -> None:
    async def closed_port() -> int:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
            return int(server.sockets[0].getsockname()[1])

    async def scenario() -> None:
        port = await closed_port()
        outcome = await probes.attempt(target(), Probe(tcp_socket=TCPSocketAction(port=port)), 1)
        assert outcome.message == f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        missing = await probes.attempt(target(), Probe(tcp_socket=TCPSocketAction(port="web")), 1)
        assert missing.message == "container 'c' has no port named 'web'"

    asyncio.run(scenario())


def test_a_probe_that_takes_too_long_has_failed() -> None:
    async def forever(command: Sequence[str]) -> tuple[int, str]:
        await asyncio.Event().wait()
        return 0, ""

    slow = Target(Container(name="c"), "127.0.0.1", None, forever)
    outcome = asyncio.run(probes.attempt(slow, Probe(exec=ExecAction(command=("x",))), 0.05))
    assert not outcome.success
    assert "deadline exceeded" in outcome.message


@pytest.mark.parametrize(("status", "success"), [(b"\x08\x01", True), (b"\x08\x02", False)])
def test_a_grpc_probe_asks_the_health_service(status: bytes, success: bool) -> None:
    asked: list[bytes] = []

    def check(request: bytes, _: object) -> bytes:
        asked.append(request)
        return status

    server = grpc.server(futures.ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        probe = Probe(grpc=GRPCAction(port=port, service="shop"))
        assert asyncio.run(probes.attempt(target(), probe, 5)).success == success
    finally:
        server.stop(None).wait()
    assert asked[0] == b"\x0a\x04shop"


def test_a_starting_container_is_asked_often_and_failures_are_counted_by_period() -> None:
    answers = iter([False] * 5 + [True])
    verdicts: list[bool] = []
    failures: list[str] = []

    async def attempt(timeout: float) -> Outcome:
        success = next(answers, None)
        if success is None:
            await asyncio.Event().wait()
        return Outcome(bool(success), "no")

    async def scenario() -> float:
        decided = asyncio.Event()

        def verdict(ok: bool) -> None:
            verdicts.append(ok)
            decided.set()

        begun = asyncio.get_running_loop().time()
        task = asyncio.create_task(
            probes.watch(Probe(period_seconds=60), attempt, verdict, failures.append, eager=True)
        )
        async with asyncio.timeout(10):
            await decided.wait()
        task.cancel()
        return asyncio.get_running_loop().time() - begun

    assert asyncio.run(scenario()) < 5
    assert verdicts == [True]
    assert failures == []


def test_thresholds_are_of_consecutive_results() -> None:
    """With a period of nothing: the loop itself, without its waits."""
    answers = iter([True, False, True, False, False, True, True])
    verdicts: list[bool] = []
    done = asyncio.Event()

    async def attempt(timeout: float) -> Outcome:
        success = next(answers, None)
        if success is None:
            done.set()
            await asyncio.Event().wait()
        return Outcome(bool(success), "no")

    async def scenario(monkeypatch: pytest.MonkeyPatch) -> None:
        real = asyncio.sleep
        monkeypatch.setattr(probes.asyncio, "sleep", lambda _: real(0))
        probe = Probe(success_threshold=2, failure_threshold=2)
        task = asyncio.create_task(probes.watch(probe, attempt, verdicts.append, lambda _: None, eager=False))
        async with asyncio.timeout(10):
            await done.wait()
        task.cancel()

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(scenario(patch))
    assert verdicts == [False, True]
