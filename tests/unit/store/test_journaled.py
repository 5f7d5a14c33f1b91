"""What holds for every store: checks, order, visibility, watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pilotfish.api.errors import AlreadyExists, Conflict, Expired, NotFound, ServiceUnavailable
from pilotfish.store.index import Index
from pilotfish.store.journaled import JournaledStore
from pilotfish.store.memory import MemoryStore
from pilotfish.store.sqlite import SQLiteStore
from pilotfish.store.store import Event, Key, Stamp, Store, Watch

WEB = Key("pods", "default", "web")


def body(text: str) -> Stamp:
    return lambda revision: f"{text}@{revision}".encode()


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Store]:
    if request.param == "memory":
        return MemoryStore
    return lambda **options: SQLiteStore(tmp_path / "state.db", **options)


def test_a_write_is_stamped_with_its_revision_and_read_back(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        first = await store.create(WEB, body("a"))
        second = await store.update(WEB, body("b"))
        assert (first.revision, first.body) == (1, b"a@1")
        assert (second.revision, second.body) == (2, b"b@2")
        assert store.get(WEB) == second
        assert store.revision == 2
        gone = await store.delete(WEB, body("c"))
        assert (gone.revision, gone.body) == (3, b"c@3")
        assert store.get(WEB) is None
        assert store.revision == 3
        await store.close()

    asyncio.run(run())


def test_writes_that_do_not_fit_are_refused_and_change_nothing(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        with pytest.raises(NotFound, match='pods "web" not found'):
            await store.update(WEB, body("a"))
        with pytest.raises(NotFound):
            await store.delete(WEB, body("a"))
        await store.create(WEB, body("a"))
        with pytest.raises(AlreadyExists, match='pods "web" already exists'):
            await store.create(WEB, body("b"))
        with pytest.raises(Conflict, match="the object has been modified"):
            await store.update(WEB, body("b"), expected=7)
        with pytest.raises(Conflict):
            await store.delete(WEB, body("b"), expected=7)
        assert store.revision == 1
        assert [s.body for s in store.list("pods")] == [b"a@1"]
        await store.close()

    asyncio.run(run())


def test_listing_is_ordered_and_keeps_to_its_resource_and_namespace(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        for namespace, name in [("b", "1"), ("a", "2"), ("a-b", "1"), ("a", "1"), ("", "0"), ("a", "10")]:
            await store.create(Key("pods", namespace, name), body(name))
        await store.create(Key("services", "a", "1"), body("x"))
        places = [(s.key.namespace, s.key.name) for s in store.list("pods")]
        assert places == [("", "0"), ("a", "1"), ("a", "10"), ("a", "2"), ("a-b", "1"), ("b", "1")]
        assert [s.key.name for s in store.list("pods", "a")] == ["1", "10", "2"]
        assert [s.key.name for s in store.list("pods", "")] == ["0"]
        assert store.list("secrets") == []
        assert store.list("pods", "none") == []
        await store.close()

    asyncio.run(run())


def test_of_concurrent_writers_to_one_key_exactly_one_wins(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        created = await asyncio.gather(*(store.create(WEB, body(str(n))) for n in range(20)), return_exceptions=True)
        assert [type(r) for r in created if isinstance(r, Exception)] == [AlreadyExists] * 19
        base = store.revision
        updated = await asyncio.gather(
            *(store.update(WEB, body(str(n)), expected=base) for n in range(20)), return_exceptions=True
        )
        assert [type(r) for r in updated if isinstance(r, Exception)] == [Conflict] * 19
        assert store.revision == base + 1
        await store.close()

    asyncio.run(run())


def test_counters_that_many_writers_increment_lose_nothing(open_store: Callable[..., Store]) -> None:
    async def increment(store: Store, times: int) -> None:
        for _ in range(times):
            while True:
                stored = store.get(WEB)
                assert stored is not None
                value = int(stored.body)
                try:
                    await store.update(WEB, lambda _, v=value: str(v + 1).encode(), expected=stored.revision)
                    break
                except Conflict:
                    await asyncio.sleep(0)

    async def run() -> None:
        store = open_store()
        await store.create(WEB, lambda _: b"0")
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(increment(store, 10))
        stored = store.get(WEB)
        assert stored is not None
        assert stored.body == b"50"
        await store.close()

    asyncio.run(run())


async def take(watch: Watch, count: int) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(5):
        async for event in watch:
            events.append(event)
            if len(events) == count:
                break
    return events


def test_a_watch_hears_its_resource_and_namespace_in_order(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        everywhere, here = store.watch("pods"), store.watch("pods", "default")
        await store.create(Key("services", "default", "web"), body("s"))
        await store.create(Key("pods", "other", "web"), body("o"))
        await store.create(WEB, body("a"))
        await store.update(WEB, body("b"))
        await store.delete(WEB, body("c"))
        events = await take(everywhere, 4)
        assert [(e.type, e.stored.revision) for e in events] == [
            ("ADDED", 2),
            ("ADDED", 3),
            ("MODIFIED", 4),
            ("DELETED", 5),
        ]
        assert [e.previous for e in events] == [None, None, b"a@3", b"b@4"]
        assert events[-1].stored.body == b"c@5"
        assert await take(here, 3) == events[1:]
        assert await take(store.watch("pods", since=3), 2) == events[2:]
        everywhere.close()
        assert await take(everywhere, 1) == []
        await store.close()
        assert await take(here, 1) == []

    asyncio.run(run())


def test_a_watch_waits_and_is_woken(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(take(store.watch("pods"), 1))
            closed = store.watch("pods")
            ended = group.create_task(take(closed, 1))
            await asyncio.sleep(0)
            closed.close()
            await store.create(WEB, body("a"))
        assert [e.stored.key for e in reader.result()] == [WEB]
        assert ended.result() == []
        await store.close()

    asyncio.run(run())


def test_a_watch_from_forgotten_or_unknown_history_is_expired(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store(history=3)
        for n in range(5):
            await store.create(Key("pods", "default", str(n)), body("a"))
        assert len(await take(store.watch("pods", since=2), 3)) == 3
        with pytest.raises(Expired, match="too old resource version: 1"):
            store.watch("pods", since=1)
        with pytest.raises(Expired):
            store.watch("pods", since=6)
        await store.close()

    asyncio.run(run())


def test_a_slow_watcher_is_expired_and_the_others_go_on(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store(history=3)
        slow, quick = store.watch("pods"), store.watch("pods")
        for n in range(5):
            await store.create(Key("pods", "default", str(n)), body("a"))
            assert len(await take(quick, 1)) == 1
        with pytest.raises(Expired, match="more than 3 events behind"):
            await take(slow, 1)
        await store.close()

    asyncio.run(run())


def test_a_cancelled_writer_disturbs_nobody(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        others = [asyncio.create_task(store.create(Key("pods", "default", str(n)), body("a"))) for n in range(3)]
        cancelled = asyncio.create_task(store.create(WEB, body("a")))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled, *others])
        assert cancelled.cancelled()
        assert [(await t).revision for t in others] == [1, 2, 3]
        # It was accepted before it was cancelled, so it was written.
        assert store.get(WEB) is not None
        assert (await store.update(WEB, body("b"))).revision == 5
        await store.close()

    asyncio.run(run())


def test_a_stamp_that_fails_leaves_no_trace(open_store: Callable[..., Store]) -> None:
    def broken(_: int) -> bytes:
        raise ValueError("no body")

    async def run() -> None:
        store = open_store()
        with pytest.raises(ValueError, match="no body"):
            await store.create(WEB, broken)
        assert (await store.create(WEB, body("a"))).revision == 1
        await store.close()

    asyncio.run(run())


def test_closing_commits_what_was_accepted_and_refuses_the_rest(open_store: Callable[..., Store]) -> None:
    async def run() -> None:
        store = open_store()
        accepted = asyncio.create_task(store.create(WEB, body("a")))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        assert (await accepted).revision == 1
        with pytest.raises(ServiceUnavailable):
            await store.update(WEB, body("b"))
        with pytest.raises(ServiceUnavailable):
            store.watch("pods")

    asyncio.run(run())


class FakeJournal:
    """Commits or fails when the test says so: `begun` gives each batch with the future that ends it."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[tuple[Sequence[Event], asyncio.Future[None]]] = asyncio.Queue()

    def write(self, batch: Sequence[Event]) -> asyncio.Future[None]:
        written = asyncio.get_running_loop().create_future()
        self.begun.put_nowait((batch, written))
        return written

    async def close(self) -> None:
        return None


def test_writes_gather_while_a_batch_is_written_and_stay_unseen_until_then() -> None:
    async def run() -> None:
        journal = FakeJournal()
        store = JournaledStore(Index(), journal)
        watch = store.watch("pods")
        first = asyncio.create_task(store.create(WEB, body("a")))
        _, written = await journal.begun.get()
        second = asyncio.create_task(store.update(WEB, body("b"), expected=1))
        third = asyncio.create_task(store.delete(WEB, body("c"), expected=2))
        await asyncio.sleep(0)
        assert store.get(WEB) is None
        assert store.revision == 0
        assert journal.begun.empty()
        written.set_result(None)
        assert (await first).revision == 1
        assert store.revision == 1
        batch, written = await journal.begun.get()
        assert [event.type for event in batch] == ["MODIFIED", "DELETED"]
        written.set_result(None)
        await asyncio.gather(second, third)
        assert store.get(WEB) is None
        assert [(e.type, e.previous) for e in await take(watch, 3)] == [
            ("ADDED", None),
            ("MODIFIED", b"a@1"),
            ("DELETED", b"b@2"),
        ]
        assert (await asyncio.gather(store.create(WEB, body("d")), commit_next(journal)))[0].revision == 4

    asyncio.run(run())


def test_a_failed_batch_takes_what_was_checked_against_it_along() -> None:
    async def run() -> None:
        journal = FakeJournal()
        store = JournaledStore(Index(), journal)
        watch = store.watch("pods")
        first = asyncio.create_task(store.create(WEB, body("a")))
        _, written = await journal.begun.get()
        second = asyncio.create_task(store.update(WEB, body("b"), expected=1))
        await asyncio.sleep(0)
        written.set_exception(ServiceUnavailable("no space"))
        await asyncio.wait([first, second])
        for task in (first, second):
            with pytest.raises(ServiceUnavailable, match="no space"):
                task.result()
        assert store.get(WEB) is None
        assert journal.begun.empty()
        # The journal works again: the key is free, and the failed writes' revisions are not used again.
        again, _ = await asyncio.gather(store.create(WEB, body("c")), commit_next(journal))
        assert again.revision == 3
        assert [e.stored.body for e in await take(watch, 1)] == [b"c@3"]

    asyncio.run(run())


async def commit_next(journal: FakeJournal) -> None:
    _, written = await journal.begun.get()
    written.set_result(None)
