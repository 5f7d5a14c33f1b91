from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilotfish.api.errors import Conflict, Expired, NotFound
from pilotfish.api.kinds import CONFIG_MAP, NODE, SCHEME
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.client import Client, WatchEvent
from pilotfish.store.memory import MemoryStore


def with_client(test: Any, history: int = 1000) -> None:
    async def body() -> None:
        resources = Resources(MemoryStore(history=history), SCHEME)
        await ensure_default_objects(resources)
        client: Client = LocalClient(resources)
        async with asyncio.timeout(10):
            await test(client, resources)

    asyncio.run(body())


def labelled(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def test_what_is_written_is_read() -> None:
    async def test(client: Client, resources: Resources) -> None:
        sent = {"metadata": {"name": "c"}, "data": {"a": "b"}}
        created = await client.create(CONFIG_MAP, sent, "default")
        assert created.data == {"a": "b"}
        assert sent == {"metadata": {"name": "c"}, "data": {"a": "b"}}, "the caller's document is the caller's"
        assert await client.get(CONFIG_MAP, "c", "default") == created
        patched = await client.patch(CONFIG_MAP, "c", "default", {"data": {"a": None, "x": "y"}})
        assert patched.data == {"x": "y"}
        by_json = [{"op": "replace", "path": "/data/x", "value": "z"}]
        assert (await client.patch(CONFIG_MAP, "c", "default", by_json)).data == {"x": "z"}
        with pytest.raises(Conflict):
            await client.delete(CONFIG_MAP, "c", "default", uid="another")
        await client.delete(CONFIG_MAP, "c", "default")
        with pytest.raises(NotFound):
            await client.get(CONFIG_MAP, "c", "default")

    with_client(test)


def test_status_is_patched_by_its_subresource() -> None:
    async def test(client: Client, resources: Resources) -> None:
        await client.create(NODE, {"metadata": {"name": "n"}})
        patched = await client.patch(NODE, "n", "", {"status": {"capacity": {"cpu": "2"}}}, subresource="status")
        assert patched.status.capacity == {"cpu": "2"}

    with_client(test)


def test_a_watch_continues_a_list_and_sees_a_selection() -> None:
    async def test(client: Client, resources: Resources) -> None:
        await client.create(CONFIG_MAP, labelled("a", app="x"), "default")
        listing = await client.list(CONFIG_MAP, labels="app=x")
        assert [obj.name for obj in listing.items] == ["a"]
        events: list[WatchEvent[Any]] = []

        async def watch() -> None:
            stream = client.watch(CONFIG_MAP, resource_version=listing.resource_version, labels="app=x")
            async for event in stream:
                events.append(event)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            await client.create(CONFIG_MAP, labelled("other", app="y"), "default")
            await client.create(CONFIG_MAP, labelled("b", app="x"), "default")
            await client.patch(CONFIG_MAP, "b", "default", {"data": {"k": "v"}})
            await client.patch(CONFIG_MAP, "b", "default", {"metadata": {"labels": {"app": "y"}}})
            await client.patch(CONFIG_MAP, "b", "default", {"metadata": {"labels": {"app": "x"}}})
            await client.delete(CONFIG_MAP, "b", "default")
            while len(events) < 5:
                await asyncio.sleep(0.001)
            resources.watches.close()
            await watching
        assert [e.type for e in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
        assert {e.object.name for e in events if e.object} == {"b"}

    with_client(test)


def test_a_watch_without_a_version_begins_with_what_there_is() -> None:
    async def test(client: Client, resources: Resources) -> None:
        await client.create(CONFIG_MAP, labelled("a"), "default")
        stream = client.watch(CONFIG_MAP, "default", resource_version="")
        event = await anext(aiter(stream))
        assert (event.type, event.object.name if event.object else "") == ("ADDED", "a")

    with_client(test)


def test_a_version_that_is_too_old_is_expired() -> None:
    async def test(client: Client, resources: Resources) -> None:
        for number in range(8):
            await client.create(CONFIG_MAP, labelled(f"c{number}"), "default")
        with pytest.raises(Expired):
            await anext(aiter(client.watch(CONFIG_MAP, resource_version="1")))

    with_client(test, history=3)
