"""A store whose writes are checked on the event loop, made durable in batches, and only then seen.

While one batch is on its way to disk all further writes gather in the next (group commit), so that many writers share
the price of one synchronous write. A write is checked against everything before it, committed or not: of two writers
that expect the same revision one wins, although neither is on disk yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pilotfish.api.errors import AlreadyExists, Conflict, NotFound, ServiceUnavailable
from pilotfish.store.index import Index, IndexWatch
from pilotfish.store.store import Event, Key, Stamp, Stored


class Journal(Protocol):
    """Where batches are made durable, one at a time."""

    def write(self, batch: Sequence[Event]) -> asyncio.Future[None]:
        """Done when all of the batch is durable; fails with ServiceUnavailable when none of it is."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    event: Event
    done: asyncio.Future[Stored]


class JournaledStore:
    """`pilotfish.store.store.Store` over an index of what is committed and a journal that commits."""

    def __init__(self, index: Index, journal: Journal) -> None:
        self._index = index
        self._journal = journal
        self._last_revision = index.revision
        # The newest uncommitted state of each key that has one; None where that is a deletion.
        self._pending: dict[Key, Stored | None] = {}
        self._gathering: list[_Write] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def revision(self) -> int:
        return self._index.revision

    def get(self, key: Key) -> Stored | None:
        return self._index.get(key)

    def list(self, resource: str, namespace: str | None = None) -> list[Stored]:
        return self._index.list(resource, namespace)

    def watch(self, resource: str, namespace: str | None = None, since: int | None = None) -> IndexWatch:
        self._refuse_when_closed()
        return self._index.watch(resource, namespace, since)

    def changes(self, resource: str, since: int) -> Sequence[Event]:
        return self._index.changes(resource, None, since)

    async def create(self, key: Key, stamp: Stamp) -> Stored:
        if self._latest(key) is not None:
            raise AlreadyExists(f'{key.resource} "{key.name}" already exists', details=_details(key))
        return await self._write("ADDED", key, stamp, None)

    async def update(self, key: Key, stamp: Stamp, expected: int | None = None) -> Stored:
        return await self._write("MODIFIED", key, stamp, self._existing(key, expected))

    async def delete(self, key: Key, stamp: Stamp, expected: int | None = None) -> Stored:
        return await self._write("DELETED", key, stamp, self._existing(key, expected))

    async def close(self) -> None:
        """Commit what was accepted, end the watches and let go of the journal; later writes fail."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        self._index.close()
        await self._journal.close()

    def _latest(self, key: Key) -> Stored | None:
        return self._pending[key] if key in self._pending else self._index.get(key)

    def _existing(self, key: Key, expected: int | None) -> Stored:
        stored = self._latest(key)
        if stored is None:
            raise NotFound(f'{key.resource} "{key.name}" not found', details=_details(key))
        if expected is not None and expected != stored.revision:
            raise Conflict(
                f'Operation cannot be fulfilled on {key.resource} "{key.name}": '
                "the object has been modified; please apply your changes to the latest version and try again",
                details=_details(key),
            )
        return stored

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ServiceUnavailable("the store is closed: the API server is shutting down")

    async def _write(
        self, type: Literal["ADDED", "MODIFIED", "DELETED"], key: Key, stamp: Stamp, previous: Stored | None
    ) -> Stored:
        """Queue a write that has been checked; no await may come between the check and here.

        A writer that is cancelled while it waits has written all the same, like a client whose connection broke.
        """
        self._refuse_when_closed()
        revision = self._last_revision + 1
        stored = Stored(key, revision, stamp(revision))
        self._last_revision = revision
        self._pending[key] = None if type == "DELETED" else stored
        loop = asyncio.get_running_loop()
        write = _Write(Event(type, stored, previous.body if previous else None), loop.create_future())
        self._gathering.append(write)
        if self._idle.is_set():
            self._idle.clear()
            # Not at once: writers that are ready in this turn of the loop join the first batch.
            loop.call_soon(self._commit)
        return await write.done

    def _commit(self) -> None:
        batch, self._gathering = self._gathering, []
        written = self._journal.write([write.event for write in batch])
        written.add_done_callback(lambda written: self._committed(batch, written.exception()))

    def _committed(self, batch: Sequence[_Write], error: BaseException | None) -> None:
        if error is None:
            self._index.publish([write.event for write in batch])
            for write in batch:
                self._settle(write)
        else:
            # What gathered meanwhile was checked against writes that did not happen: it fails with them.
            # Their revisions stay unused, so that no number ever means two things.
            batch, self._gathering = [*batch, *self._gathering], []
            self._pending.clear()
        for write in batch:
            if write.done.done():
                continue
            if error is None:
                write.done.set_result(write.event.stored)
            else:
                write.done.set_exception(error)
        if self._gathering:
            self._commit()
        else:
            self._idle.set()

    def _settle(self, write: _Write) -> None:
        """Drop the key's pending state unless a later write has replaced it."""
        key = write.event.stored.key
        state = None if write.event.type == "DELETED" else write.event.stored
        if key in self._pending and self._pending[key] is state:
            del self._pending[key]


def _details(key: Key) -> dict[str, str]:
    plural, _, group = key.resource.partition(".")
    return {"name": key.name, "group": group, "kind": plural}
