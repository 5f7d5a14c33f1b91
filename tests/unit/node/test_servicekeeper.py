"""Service addresses are kept as the API has them, whatever comes between."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network
from typing import Any

import pytest

from pilotfish.api.core import Service
from pilotfish.api.discovery import EndpointSlice
from pilotfish.api.kinds import ENDPOINT_SLICE, NAMESPACE, SCHEME, SERVICE
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.informers import Informers
from pilotfish.node import servicekeeper
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.nft import NftError
from pilotfish.store.memory import MemoryStore

MESH = MeshNetwork("abc123", IPv4Network("10.77.0.0/16"), IPv4Network("10.96.0.0/20"))


class FakeKernel:
    """What would be put in force: the names of services and slices of each time, and what failed."""

    def __init__(self) -> None:
        self.synced: list[tuple[tuple[str, ...], tuple[str, ...], bool]] = []
        self.repaired = 0
        self.fails = False
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def of(self, mesh: MeshNetwork) -> FakeKernel:
        assert mesh is MESH
        return self

    def sync(self, services: tuple[Service, ...], slices: tuple[EndpointSlice, ...], *, replace: bool) -> None:
        self.synced.append((tuple(s.name for s in services), tuple(s.name for s in slices), replace))
        assert self.may_go_on.wait(10)
        if self.fails:
            raise NftError("no such table")

    def ensure(self, mesh: MeshNetwork) -> None:
        self.repaired += 1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(servicekeeper, "ServiceProxy", fake.of)
    monkeypatch.setattr(servicekeeper, "ensure_host_network", fake.ensure)
    return fake


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def _service(client: LocalClient, name: str) -> None:
    await client.create(SERVICE, {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}, "default")


def _keeping(check: Callable[[LocalClient, Informers], Awaitable[None]]) -> None:
    async def body() -> None:
        client = LocalClient(Resources(MemoryStore(), SCHEME))
        await client.create(NAMESPACE, {"metadata": {"name": "default"}})
        await _service(client, "first")
        informers = Informers(client)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(servicekeeper.keep_services(MESH, informers)),
            asyncio.create_task(informers.run()),
        ]
        try:
            await check(client, informers)
            assert not any(task.done() for task in tasks), tasks
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)

    asyncio.run(body())


def test_what_there_is_and_what_comes_is_put_in_force(kernel: FakeKernel) -> None:
    async def check(client: LocalClient, informers: Informers) -> None:
        await _until(lambda: kernel.synced)
        assert kernel.synced == [(("first",), (), False)]
        slice_ = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": []}
        await client.create(ENDPOINT_SLICE, slice_, "default")
        await _until(lambda: kernel.synced[-1] == (("first",), ("s",), False))
        await client.delete(SERVICE, "first", "default")
        await _until(lambda: kernel.synced[-1] == ((), ("s",), False))
        assert kernel.repaired == 0

    _keeping(check)


def test_what_comes_while_the_kernel_is_busy_is_one_change(kernel: FakeKernel) -> None:
    async def check(client: LocalClient, informers: Informers) -> None:
        kernel.may_go_on.clear()
        await _until(lambda: kernel.synced)
        for name in ("a", "b", "c"):
            await _service(client, name)
        await _until(lambda: len(informers.informer(SERVICE).objects) == 4)
        kernel.may_go_on.set()
        await _until(lambda: set(kernel.synced[-1][0]) == {"first", "a", "b", "c"})
        assert len(kernel.synced) == 2

    _keeping(check)


def test_a_failure_is_logged_and_the_next_change_tried(kernel: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    async def check(client: LocalClient, informers: Informers) -> None:
        kernel.fails = True
        await _until(lambda: "not all reachable by their addresses: no such table" in caplog.text)
        kernel.fails = False
        await _service(client, "second")
        await _until(lambda: len(kernel.synced[-1][0]) == 2)

    _keeping(check)


def test_everything_is_repaired_now_and_then(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicekeeper, "REPAIR_SECONDS", 0.02)

    async def check(client: LocalClient, informers: Informers) -> None:
        await _until(lambda: kernel.repaired >= 2)
        assert kernel.synced[0] == (("first",), (), False)
        assert kernel.synced[1] == (("first",), (), True)

    _keeping(check)
