"""What is committed, in memory: objects by key in listing order, the latest events, and the watches that hear them.

Everything here is called on the event loop and returns at once.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence

from pilotfish.api.errors import Expired
from pilotfish.store.store import Event, Key, Stored

HISTORY = 10_000
"""How many events a store remembers, and how many a watcher may be behind."""

Place = tuple[str, str]
"""(namespace, name): an object's place within the listing of its resource."""

Audience = tuple[str, str | None]
"""(resource, namespace or None for all): what a watch listens to."""


class Index:
    """The committed state of a store that starts at `revision` with `objects`."""

    def __init__(self, objects: Iterable[Stored] = (), revision: int = 0, history: int = HISTORY) -> None:
        self.revision = revision
        self._resources: dict[str, _Listing] = {}
        for stored in objects:
            self._listing(stored.key.resource).put(stored)
        self._history: deque[Event] = deque(maxlen=history)
        # The newest revision whose event is forgotten: watches can start from here on.
        self._horizon = revision
        self._watches: dict[Audience, set[IndexWatch]] = {}

    def get(self, key: Key) -> Stored | None:
        listing = self._resources.get(key.resource)
        return listing.get((key.namespace, key.name)) if listing else None

    def list(self, resource: str, namespace: str | None) -> list[Stored]:
        listing = self._resources.get(resource)
        return listing.within(namespace) if listing else []

    def publish(self, events: Sequence[Event]) -> None:
        """Make committed events visible, in order of revision: first to readers, then to watchers."""
        for event in events:
            key = event.stored.key
            if event.type == "DELETED":
                self._listing(key.resource).remove((key.namespace, key.name))
            else:
                self._listing(key.resource).put(event.stored)
            if len(self._history) == self._history.maxlen:
                self._horizon = self._history[0].stored.revision
            self._history.append(event)
            self.revision = event.stored.revision
        for event in events:
            self._tell(event)

    def watch(self, resource: str, namespace: str | None, since: int | None) -> IndexWatch:
        """A watch of what happened after `since`. Raises Expired when the history does not reach that far."""
        audience = (resource, namespace)
        missed = [] if since is None else self.changes(resource, namespace, since)
        watch = IndexWatch(self, audience, missed, self._history.maxlen or HISTORY)
        self._watches.setdefault(audience, set()).add(watch)
        return watch

    def close(self) -> None:
        """End all watches."""
        for watches in tuple(self._watches.values()):
            for watch in tuple(watches):
                watch.close()

    def forget(self, watch: IndexWatch) -> None:
        """Tell this watch nothing more."""
        watches = self._watches.get(watch.audience, set())
        watches.discard(watch)
        if not watches:
            self._watches.pop(watch.audience, None)

    def _listing(self, resource: str) -> _Listing:
        return self._resources.setdefault(resource, _Listing())

    def changes(self, resource: str, namespace: str | None, since: int) -> Sequence[Event]:
        """What happened after `since`, in order of revision. Raises Expired when the history does not reach that far.

        That includes revisions that were never reached: they come from another store, or from one that was restored.
        """
        if not self._horizon <= since <= self.revision:
            raise Expired(f"too old resource version: {since} (known are {self._horizon} to {self.revision})")
        missed: list[Event] = []
        for event in reversed(self._history):
            if event.stored.revision <= since:
                break
            key = event.stored.key
            if key.resource == resource and namespace in (None, key.namespace):
                missed.append(event)
        missed.reverse()
        return missed

    def _tell(self, event: Event) -> None:
        key = event.stored.key
        for audience in ((key.resource, None), (key.resource, key.namespace)):
            watches = self._watches.get(audience, ())
            lost = [watch for watch in watches if not watch.offer(event)]
            for watch in lost:
                self.forget(watch)


class _Listing:
    """The objects of one resource, by place and in order."""

    def __init__(self) -> None:
        self._objects: dict[Place, Stored] = {}
        self._order: list[Place] = []

    def get(self, place: Place) -> Stored | None:
        return self._objects.get(place)

    def put(self, stored: Stored) -> None:
        place = (stored.key.namespace, stored.key.name)
        if place not in self._objects:
            insort(self._order, place)
        self._objects[place] = stored

    def remove(self, place: Place) -> None:
        del self._objects[place]
        del self._order[bisect_left(self._order, place)]

    def within(self, namespace: str | None) -> list[Stored]:
        order = self._order
        if namespace is not None:
            # "\0" makes the least text that is greater than the namespace.
            order = order[bisect_left(order, (namespace, "")) : bisect_left(order, (namespace + "\0", ""))]
        return [self._objects[place] for place in order]


class IndexWatch:
    """An open watch (`pilotfish.store.store.Watch`), for one reader; holds at most `limit` events not yet read."""

    def __init__(self, index: Index, audience: Audience, missed: Iterable[Event], limit: int) -> None:
        self.audience = audience
        self._index = index
        self._queue = deque(missed)
        self._limit = limit
        self._wake = asyncio.Event()
        self._closed = False
        self._lost = False

    def offer(self, event: Event) -> bool:
        """Queue an event; False when the reader is too far behind and has lost its place."""
        if len(self._queue) >= self._limit:
            self._queue.clear()
            self._lost = True
        else:
            self._queue.append(event)
        self._wake.set()
        return not self._lost

    def close(self) -> None:
        """End the watch: its reader gets nothing more, not even what is queued."""
        self._closed = True
        self._queue.clear()
        self._index.forget(self)
        self._wake.set()

    def __aiter__(self) -> IndexWatch:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._lost:
                raise Expired(f"the watch of {self.audience[0]} fell more than {self._limit} events behind: list again")
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()
