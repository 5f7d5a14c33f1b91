"""The node agent's connection: what it wants is done, also when the DNS process comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from dnstools import until

from pilotfish.node.dns.control import DnsControl, DnsError, PodDns
from pilotfish.node.dns.controlserver import ControlServer
from pilotfish.node.dns.listeners import Listeners


class FakeListeners:
    """Takes note of the pods instead of opening sockets in namespaces, which needs root."""

    def __init__(self) -> None:
        self.pods: dict[str, PodDns] = {}

    def sync(self, pods: Iterable[PodDns]) -> dict[str, str]:
        self.pods = {}
        return self.add(pods)

    def add(self, pods: Iterable[PodDns]) -> dict[str, str]:
        failed = {}
        for pod in pods:
            if pod.netns == "/gone":
                failed[pod.uid] = "its namespace is gone"
            else:
                self.pods[pod.uid] = pod
        return failed

    def remove(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self.pods.pop(uid, None)


@contextlib.asynccontextmanager
async def served(path: Path) -> AsyncIterator[FakeListeners]:
    listeners = FakeListeners()
    serving: asyncio.Task[None] | None = None

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            server = ControlServer(group, cast(Listeners, listeners), lambda: {"pods": list(listeners.pods)})
            group.create_task(server.serve(path))

    serving = asyncio.create_task(run())
    try:
        yield listeners
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@contextlib.asynccontextmanager
async def agent(path: Path) -> AsyncIterator[DnsControl]:
    control = DnsControl(path)
    running = asyncio.create_task(control.run())
    try:
        yield control
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def pod(uid: str, netns: str = "/run/netns/x") -> PodDns:
    return PodDns(uid=uid, netns=netns, namespace="default", ip="10.0.0.2")


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


def test_pods_are_added_and_removed(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "dns.sock"
        async with served(path) as listeners, agent(path) as control:
            await control.add(pod("a"))
            await control.add(pod("b"))
            await control.remove("a")
            assert set(listeners.pods) == {"b"}
            assert await control.sync([pod("c"), pod("d", "/gone")]) == {"d": "its namespace is gone"}
            assert await control.stats() == {"pods": ["c"]}
            with pytest.raises(DnsError, match="its namespace is gone"):
                await control.add(pod("e", "/gone"))

    run(test())


def test_requests_wait_until_the_process_is_there(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "dns.sock"
        async with agent(path) as control:
            adding = asyncio.create_task(control.add(pod("a")))
            await asyncio.sleep(0)
            async with served(path) as listeners:
                await adding
                assert set(listeners.pods) == {"a"}

    run(test())


def test_a_new_process_is_told_all_pods(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "dns.sock"
        async with agent(path) as control:
            async with served(path):
                await control.sync([pod("a"), pod("b")])
                await control.remove("b")
            async with served(path) as anew:
                await until(lambda: set(anew.pods) == {"a"}, "the new process knows the pod")
                await control.add(pod("c"))
                assert set(anew.pods) == {"a", "c"}

    run(test())


def test_an_agent_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "dns.sock"
        async with served(path) as listeners:
            async with agent(path) as control:
                await control.add(pod("a"))
            async with agent(path) as another:
                assert await another.stats() == {"pods": ["a"]}, "it has not said yet which pods there are"
                await another.add(pod("b"))
                assert set(listeners.pods) == {"a", "b"}
                await another.sync([pod("b")])
            assert set(listeners.pods) == {"b"}

    run(test())


def test_lines_that_make_no_sense_are_answered(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "dns.sock"
        async with served(path) as listeners:
            await until(path.exists, "the socket is there")
            reader, writer = await asyncio.open_unix_connection(str(path))
            for line, expected in [
                ("hello", "not a request"),
                ('{"op": "dance"}', "dance"),
                ('{"op": "add", "pods": [{"uid": "a"}]}', "netns"),
            ]:
                writer.write(line.encode() + b"\n")
                assert expected in json.loads(await reader.readline())["error"]
            writer.write(b'{"op": "add", "pods": [{"uid": "a", "netns": "/n", "namespace": "x", "more": 1}]}\n')
            assert json.loads(await reader.readline()) == {}
            assert listeners.pods["a"].capture
            assert path.stat().st_mode & 0o777 == 0o600
            writer.close()

    run(test())
