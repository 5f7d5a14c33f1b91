"""Controllers over an API server in memory, with a node whose kubelet is pretended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pilotfish.api.errors import Conflict, NotFound
from pilotfish.api.kinds import NAMESPACE, NODE, POD, SCHEME
from pilotfish.api.meta import timestamp
from pilotfish.api.pods import Pod
from pilotfish.api.service_network import Network
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.informer import Change
from pilotfish.client.informers import Informers
from pilotfish.controllers import runtime
from pilotfish.store.memory import MemoryStore


class FakeKubelet:
    """Gives each bound pod an address and makes it ready at once; takes away pods that are being deleted."""

    def __init__(self, client: LocalClient, informers: Informers) -> None:
        self.hold_ready = False
        self.hold_deletion = False
        self._client = client
        self._addresses = (f"10.1.{n // 250}.{n % 250 + 1}" for n in itertools.count())
        self._work: asyncio.Queue[Pod] = asyncio.Queue()
        self._pods = informers.informer(POD)
        self._pods.subscribe(self._changed)

    def _changed(self, change: Change[Pod]) -> None:
        if change.new is not None and change.new.spec.node_name:
            self._work.put_nowait(change.new)

    def look_again(self) -> None:
        for pod in self._pods.objects.values():
            self._work.put_nowait(pod)

    async def run(self) -> None:
        while True:
            pod = await self._work.get()
            with contextlib.suppress(NotFound, Conflict):
                await self._serve(pod)

    async def _serve(self, pod: Pod) -> None:
        if pod.metadata.deletion_timestamp is not None:
            if not self.hold_deletion:
                await self._client.delete(POD, pod.name, pod.namespace, uid=pod.metadata.uid, grace_period_seconds=0)
        elif not pod.ready and not self.hold_ready:
            await self.report(pod, ready=True)

    async def report(self, pod: Pod, *, ready: bool) -> None:
        address = pod.status.pod_ip or next(self._addresses)
        word = "True" if ready else "False"
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": word, "lastTransitionTime": timestamp()}],
        }
        await self._client.patch(POD, pod.name, pod.namespace, {"status": status}, subresource="status")


class Cluster:
    """An API server, its controllers and its node."""

    def __init__(self, client: LocalClient, informers: Informers, kubelet: FakeKubelet) -> None:
        self.client = client
        self.informers = informers
        self.kubelet = kubelet

    async def create(self, document: dict[str, Any], namespace: str = "default") -> Any:
        kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
        assert kind is not None
        return await self.client.create(kind, document, namespace if kind.namespaced else "")

    async def add_node(self, name: str = "node-1", *, ready: bool = True) -> None:
        await self.client.create(NODE, {"metadata": {"name": name}})
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        await self.client.patch(NODE, name, "", {"status": {"conditions": [condition]}}, subresource="status")

    async def items(self, kind: Any, namespace: str | None = "default") -> tuple[Any, ...]:
        return (await self.client.list(kind, namespace)).items


async def eventually(condition: Callable[[], Awaitable[Any]], expected: Any = True, timeout: float = 5.0) -> None:
    """Wait until the condition gives the expected value; it may fail to find what it looks at before."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = await condition()
        except NotFound as error:
            found = error
        if found == expected:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} and not {expected!r}")
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def _running(
    store: MemoryStore | None = None, node: bool = True, service_network: Network | None = None
) -> AsyncIterator[Cluster]:
    resources = Resources(store or MemoryStore(), SCHEME)
    client = LocalClient(resources)
    informers = Informers(client)
    kubelet = FakeKubelet(client, informers)
    cluster = Cluster(client, informers, kubelet)
    ready = asyncio.Event()
    if not (await cluster.items(NAMESPACE, None)):
        await client.create(NAMESPACE, {"metadata": {"name": "default"}})
    if node and not await cluster.items(NODE, None):
        await cluster.add_node()
    tasks = [
        asyncio.create_task(
            runtime.run(client, root_certificate="PEM", service_network=service_network, on_ready=ready.set)
        ),
        asyncio.create_task(informers.run()),
        asyncio.create_task(kubelet.run()),
    ]
    try:
        await asyncio.wait_for(ready.wait(), 5)
        yield cluster
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def cluster_of() -> Callable[..., contextlib.AbstractAsyncContextManager[Cluster]]:
    """`async with cluster_of() as cluster`; `cluster_of(store)` goes on with what a store holds."""
    return _running


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Awaitable[None]]:
    return eventually


def deployment(name: str = "web", replicas: int = 2, image: str = "web:1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": image, "ports": [{"containerPort": 80}]}]},
            },
            **spec,
        },
    }


@pytest.fixture
def a_deployment() -> Callable[..., dict[str, Any]]:
    return deployment
