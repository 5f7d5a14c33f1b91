"""Both stores against a plain dictionary, through any sequence of writes, reads, watches and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pilotfish.api.errors import AlreadyExists, ApiError, Conflict, Expired, NotFound
from pilotfish.store.journaled import JournaledStore
from pilotfish.store.memory import MemoryStore
from pilotfish.store.sqlite import SQLiteStore
from pilotfish.store.store import Event, Key, Stored

HISTORY = 6
RESOURCES = st.sampled_from(["pods", "services"])
NAMESPACES = st.sampled_from(["", "a", "ab", "b"])
KEYS = st.builds(Key, RESOURCES, NAMESPACES, st.sampled_from(["x", "y"]))
BODIES = st.binary(max_size=8)
WRITES = st.tuples(
    st.sampled_from(["create", "update", "delete"]), KEYS, BODIES, st.sampled_from([None, "right", "wrong"])
)


class Model:
    """What a store should be, written as plainly as possible."""

    def __init__(self) -> None:
        self.objects: dict[Key, Stored] = {}
        self.log: list[Event] = []
        self.revision = 0

    def write(self, verb: str, key: Key, body: bytes, expected: int | None) -> Stored | type[ApiError]:
        current = self.objects.get(key)
        if verb == "create" and current:
            return AlreadyExists
        if verb != "create" and not current:
            return NotFound
        if verb != "create" and current and expected not in (None, current.revision):
            return Conflict
        self.revision += 1
        stored = Stored(key, self.revision, body)
        previous = current.body if current else None
        if verb == "delete":
            del self.objects[key]
            self.log.append(Event("DELETED", stored, previous))
        else:
            self.objects[key] = stored
            self.log.append(Event("ADDED" if verb == "create" else "MODIFIED", stored, previous))
        return stored

    def listing(self, resource: str, namespace: str | None) -> list[Stored]:
        found = [s for k, s in self.objects.items() if k.resource == resource and namespace in (None, k.namespace)]
        return sorted(found, key=lambda s: s.key)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.db"
        self.runner = asyncio.Runner()
        self.model = Model()
        self.sqlite: JournaledStore = SQLiteStore(self.path, history=HISTORY)
        self.memory: JournaledStore = MemoryStore(history=HISTORY)
        self.restarted_at = 0

    def teardown(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(writes=st.lists(WRITES, min_size=1, max_size=5))
    def write_together(self, writes: list[tuple[str, Key, bytes, str | None]]) -> None:
        """Writes that start together take effect in the order in which they started."""
        calls, expected_results = [], []
        for verb, key, body, expectation in writes:
            current = self.model.objects.get(key)
            expected = {"right": current.revision if current else 1, "wrong": 10**6, None: None}[expectation]
            calls.append((verb, key, body, expected))
            expected_results.append(self.model.write(verb, key, body, expected))
        for store in (self.sqlite, self.memory):
            assert self.runner.run(self._perform(store, calls)) == expected_results

    @staticmethod
    async def _perform(
        store: JournaledStore, calls: list[tuple[str, Key, bytes, int | None]]
    ) -> list[Stored | type[BaseException]]:
        def perform(verb: str, key: Key, body: bytes, expected: int | None):  # type: ignore[no-untyped-def]
            if verb == "create":
                return store.create(key, lambda _: body)
            return (store.update if verb == "update" else store.delete)(key, lambda _: body, expected)

        results = await asyncio.gather(*(perform(*call) for call in calls), return_exceptions=True)
        return [type(r) if isinstance(r, BaseException) else r for r in results]

    @precondition(lambda self: self.model.revision > self.restarted_at)
    @rule()
    def restart(self) -> None:
        self.runner.run(self.sqlite.close())
        self.sqlite = SQLiteStore(self.path, history=HISTORY)
        self.restarted_at = self.model.revision

    @rule(resource=RESOURCES, namespace=st.none() | NAMESPACES, back=st.integers(0, HISTORY + 2))
    def watch(self, resource: str, namespace: str | None, back: int) -> None:
        since = self.model.revision - back
        expected = [
            event
            for event in self.model.log
            if event.stored.revision > since
            and event.stored.key.resource == resource
            and namespace in (None, event.stored.key.namespace)
        ]
        for store, oldest in ((self.sqlite, self.restarted_at), (self.memory, 0)):
            known = max(oldest, self.model.revision - HISTORY) <= since
            found = self.runner.run(self._missed(store, resource, namespace, since, len(expected)))
            assert found == (expected if known else Expired)

    @staticmethod
    async def _missed(
        store: JournaledStore, resource: str, namespace: str | None, since: int, count: int
    ) -> list[Event] | type[Expired]:
        try:
            watch = store.watch(resource, namespace, since)
            changes = store.changes(resource, since)
        except Expired:
            return Expired
        async with asyncio.timeout(5):
            events = [await anext(watch) for _ in range(count)]
        watch.close()
        assert [event for event in changes if namespace in (None, event.stored.key.namespace)] == events
        return events

    @invariant()
    def same_content(self) -> None:
        for store in (self.sqlite, self.memory):
            assert store.revision == self.model.revision
            for resource in ("pods", "services"):
                for namespace in (None, "", "a", "ab", "b"):
                    assert store.list(resource, namespace) == self.model.listing(resource, namespace)
            for key, stored in self.model.objects.items():
                assert store.get(key) == stored


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
