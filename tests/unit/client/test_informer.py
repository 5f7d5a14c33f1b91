from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pilotfish.api.kinds import POD
from pilotfish.api.pods import Pod
from pilotfish.client.http import HTTPClient
from pilotfish.client.informer import Change, Informer
from pilotfish.client.informers import Informers

Serve = Callable[..., Any]


class Recorder:
    """What a subscriber was told: (old version, new version, name), with None for "no object"."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, str | None, str]] = []

    def __call__(self, change: Change[Pod]) -> None:
        old, new = (o.metadata.resource_version if o else None for o in (change.old, change.new))
        self.told.append((old, new, change.object.name))


@contextlib.asynccontextmanager
async def running(*runners: Informer[Any] | Informers) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(runner.run()) for runner in runners]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def test_it_follows_the_server_and_tells_every_change_once(fake_api: Serve, until: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "a")
            client = HTTPClient(server.config)
            informer, record, late = Informer(client, POD), Recorder(), Recorder()
            informer.subscribe(record)
            async with running(informer):
                await informer.synced()
                assert list(informer.objects) == [("default", "a")]
                await server.put("pods", "b")
                await server.put("pods", "a", spec={"nodeName": "n"})
                await server.remove("pods", "b")
                await until(lambda: len(record.told) == 4)
                assert record.told == [(None, "1", "a"), (None, "2", "b"), ("1", "3", "a"), ("2", None, "b")]
                assert informer.objects[("default", "a")].spec.node_name == "n"
                unsubscribe = informer.subscribe(late)
                assert late.told == [(None, "3", "a")]
                unsubscribe()
                await server.remove("pods", "a")
                await until(lambda: not informer.objects)
                assert len(late.told) == 1
            await client.close()

    asyncio.run(run())


def test_a_subscriber_sees_the_objects_as_they_are_told(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "a")
            client = HTTPClient(server.config)
            informer = Informer(client, POD)
            seen: list[bool] = []
            informer.subscribe(lambda change: seen.append(informer.objects.get(change.key) is change.new))
            async with running(informer):
                await informer.synced()
            assert seen == [True]
            await client.close()

    asyncio.run(run())


def test_it_keeps_what_it_knows_while_the_server_is_away_and_goes_on_after(fake_api: Serve, until: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "a")
            client = HTTPClient(server.config)
            informer, record = Informer(client, POD), Recorder()
            informer.subscribe(record)
            async with running(informer):
                await informer.synced()
                await server.stop()
                await server.put("pods", "b")
                assert list(informer.objects) == [("default", "a")]
                await server.start()
                await until(lambda: len(informer.objects) == 2)
                server.drop_connections()
                await server.put("pods", "c")
                await until(lambda: len(informer.objects) == 3)
            # The server still had the history: nothing was listed again, nothing told twice.
            lists = [r for r in server.requests if not r[2].get("watch")]
            assert len(lists) == 1
            assert record.told == [(None, "1", "a"), (None, "2", "b"), (None, "3", "c")]
            await client.close()

    asyncio.run(run())


def test_after_expired_it_lists_again_and_tells_the_differences_only(fake_api: Serve, until: Serve) -> None:
    async def run() -> None:
        async with fake_api(history=2) as server:
            for name in ("same", "changed", "gone", "replaced"):
                await server.put("pods", name)
            client = HTTPClient(server.config)
            informer, record = Informer(client, POD), Recorder()
            async with running(informer):
                await informer.synced()
                informer.subscribe(record)
                record.told.clear()
                await server.stop()
                await server.put("pods", "changed", spec={"nodeName": "n"})
                await server.remove("pods", "gone")
                await server.put("pods", "replaced", metadata={"uid": "another"})
                await server.put("pods", "new")
                await server.start()
                await until(lambda: len(record.told) == 5)
            assert record.told[0] == ("3", None, "gone")
            assert sorted(record.told[1:], key=lambda told: told[2]) == [
                ("2", "5", "changed"),
                (None, "8", "new"),
                ("4", None, "replaced"),
                (None, "7", "replaced"),
            ]
            await client.close()

    asyncio.run(run())


def test_it_waits_for_a_server_that_is_not_there_yet_or_refuses(fake_api: Serve, until: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            server.answer["/api/v1/pods"] = (403, b"not yet")
            client = HTTPClient(server.config)
            informer = Informer(client, POD)
            async with running(informer):
                await until(lambda: len(server.requests) >= 2)
                await server.stop()
                server.answer.clear()
                await server.start()
                async with asyncio.timeout(5):
                    await informer.synced()
            await client.close()

    asyncio.run(run())


def test_that_the_server_is_away_is_said_once(fake_api: Serve, until: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def said(level: int) -> int:
        return sum("cannot reach" in record.message for record in caplog.records if record.levelno == level)

    async def run() -> None:
        async with fake_api() as server:
            client = HTTPClient(server.config)
            informer = Informer(client, POD)
            await server.stop()
            async with running(informer):
                await until(lambda: said(logging.DEBUG) >= 2)
                assert said(logging.WARNING) == 1
                await server.start()
                async with asyncio.timeout(5):
                    await informer.synced()
            await client.close()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(run())


def test_a_server_that_ends_every_watch_is_not_flooded(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            client = HTTPClient(server.config)
            informer = Informer(client, POD)
            async with running(informer):
                await informer.synced()
                # From now on a watch has no event and ends at once.
                server.answer["/api/v1/pods"] = (200, b"")
                server.drop_connections()
                await asyncio.sleep(0.5)
            # Waits of at least 25, 50, 100, 200 and 400 milliseconds lie between them.
            assert 3 <= len(server.requests) <= 8
            await client.close()

    asyncio.run(run())


def test_what_a_subscriber_raises_ends_the_run(fake_api: Serve) -> None:
    def broken(change: Change[Pod]) -> None:
        raise RuntimeError("broken subscriber")

    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "a")
            client = HTTPClient(server.config)
            informer = Informer(client, POD)
            informer.subscribe(broken)
            with pytest.raises(RuntimeError, match="broken subscriber"):
                await informer.run()
            await client.close()

    asyncio.run(run())


def test_informers_are_shared_by_selection_and_run_also_when_asked_for_late(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "a", metadata={"labels": {"app": "web"}})
            await server.put("pods", "b")
            client = HTTPClient(server.config)
            informers = Informers(client)
            pods = informers.informer(POD)
            assert informers.informer(POD) is pods
            async with running(informers):
                await informers.synced()
                assert len(pods.objects) == 2
                web = informers.informer(POD, "default", labels="app=web")
                assert web is not pods
                async with asyncio.timeout(5):
                    await informers.synced()
                assert list(web.objects) == [("default", "a")]
            await client.close()

    asyncio.run(run())
