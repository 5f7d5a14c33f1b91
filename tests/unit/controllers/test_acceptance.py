"""What proxies refuse appears on the object as a condition and an event, and goes again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pilotfish.api.kinds import ENVOY_FILTER, EVENT, GATEWAY, POD, SCHEME, SERVICE, SERVICE_ENTRY
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.controllers.acceptance import REFUSED, UNSERVED, Acceptance, Finding
from pilotfish.store.memory import MemoryStore

Eventually = Callable[..., Awaitable[None]]
WEB = ("Service", "default", "web")
SPEC = {"ports": [{"name": "http", "port": 80}], "clusterIP": "None"}


async def _client() -> LocalClient:
    client = LocalClient(Resources(MemoryStore(), SCHEME))
    await client.create(SCHEME.by_kind("v1", "Namespace"), {"metadata": {"name": "default"}})  # type: ignore[arg-type]
    await client.create(SERVICE, {"metadata": {"name": "web"}, "spec": SPEC}, "default")
    return client


@contextlib.asynccontextmanager
async def _accepting(client: LocalClient, finding: Finding = REFUSED) -> AsyncIterator[Acceptance]:
    acceptance = Acceptance(client, finding)
    task = asyncio.create_task(acceptance.run())
    try:
        yield acceptance
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _told(
    client: LocalClient, kind: Any = SERVICE, name: str = "web", finding: Finding = REFUSED
) -> list[tuple[str, str, str]]:
    """(status, reason, message) of the condition, where there is one."""
    found = (await client.get(kind, name, "default")).status.conditions
    return [(c.status, c.reason, c.message) for c in found if c.type == finding.condition]


async def _events(client: LocalClient) -> list[tuple[str, str, int]]:
    listing = await client.list(EVENT)
    return sorted((e.involved_object.name, e.message, e.count) for e in listing.items)


def test_a_refusal_comes_and_goes(eventually: Eventually) -> None:
    async def body() -> None:
        client = await _client()
        theirs = {"type": "Theirs", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z", "reason": "R"}
        await client.patch(SERVICE, "web", "default", {"status": {"conditions": [theirs]}}, subresource="status")
        async with _accepting(client) as acceptance:
            acceptance.report(WEB, "p refused x: bad")
            await eventually(lambda: _told(client), [("False", "RefusedByEnvoy", "p refused x: bad")])
            await eventually(lambda: _events(client), [("web", "p refused x: bad", 1)])
            acceptance.report(WEB, "p refused x: worse")
            await eventually(lambda: _told(client), [("False", "RefusedByEnvoy", "p refused x: worse")])
            acceptance.report(WEB, None)
            await eventually(lambda: _told(client), [])
            left = (await client.get(SERVICE, "web", "default")).status.conditions
            assert [c.type for c in left] == ["Theirs"]

    asyncio.run(body())


def test_the_same_words_again_are_told_once(eventually: Eventually) -> None:
    async def body() -> None:
        client = await _client()
        async with _accepting(client) as acceptance:
            acceptance.report(WEB, "bad")
            await eventually(lambda: _events(client), [("web", "bad", 1)])
            acceptance.report(WEB, "bad")
            acceptance.report(WEB, "other")
            await eventually(lambda: _events(client), [("web", "bad", 1), ("web", "other", 1)])

    asyncio.run(body())


@pytest.mark.parametrize("kind", [SERVICE, SERVICE_ENTRY], ids=lambda kind: kind.kind)
def test_what_an_earlier_life_left_is_taken_away(kind: Any, eventually: Eventually) -> None:
    async def body() -> None:
        client = await _client()
        if kind is SERVICE_ENTRY:
            spec = {"hosts": ["a.test"], "ports": [{"number": 80, "name": "http"}], "resolution": "STATIC"}
            await client.create(kind, {"metadata": {"name": "web"}, "spec": spec}, "default")
        left = {
            "type": REFUSED.condition,
            "status": "False",
            "message": "old",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }
        await client.patch(kind, "web", "default", {"status": {"conditions": [left]}}, subresource="status")
        async with _accepting(client):
            await eventually(lambda: _told(client, kind), [])
        assert await _events(client) == []

    asyncio.run(body())


def test_an_envoy_filter_is_told_what_came_of_it(eventually: Eventually) -> None:
    async def body() -> None:
        client = await _client()
        patch = {"operation": "MERGE", "value": {"lb_policy": "CLUSTER_PROVIDED"}}
        spec = {"configPatches": [{"applyTo": "CLUSTER", "patch": patch}]}
        await client.create(ENVOY_FILTER, {"metadata": {"name": "web"}, "spec": spec}, "default")
        async with _accepting(client) as acceptance:
            acceptance.report(("EnvoyFilter", "default", "web"), "bad")
            await eventually(lambda: _told(client, ENVOY_FILTER), [("False", "RefusedByEnvoy", "bad")])
            acceptance.report(("EnvoyFilter", "default", "web"), None)
            await eventually(lambda: _told(client, ENVOY_FILTER), [])

    asyncio.run(body())


def test_a_pod_gets_an_event_alone_and_what_is_gone_is_passed_over(eventually: Eventually) -> None:
    async def body() -> None:
        client = await _client()
        await client.create(
            POD, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}, "default"
        )
        async with _accepting(client) as acceptance:
            acceptance.report(("ServiceEntry", "default", "gone"), "bad")
            acceptance.report(("Pod", "default", "p"), "bad")
            await eventually(lambda: _events(client), [("p", "bad", 1)])
            assert await _told(client, POD, "p") == []

    asyncio.run(body())


def test_what_a_gateway_cannot_serve_is_a_condition_of_its_own(eventually: Eventually) -> None:
    async def body() -> None:
        client = await _client()
        server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        await client.create(GATEWAY, {"metadata": {"name": "web"}, "spec": {"servers": [server]}}, "default")
        async with _accepting(client, UNSERVED) as unserved:
            unserved.report(("Gateway", "default", "web"), "servers[0]: no")
            await eventually(
                lambda: _told(client, GATEWAY, finding=UNSERVED), [("False", "NotServed", "servers[0]: no")]
            )
            assert await _told(client, GATEWAY) == []
            unserved.report(("Gateway", "default", "web"), None)
            await eventually(lambda: _told(client, GATEWAY, finding=UNSERVED), [])

    asyncio.run(body())
