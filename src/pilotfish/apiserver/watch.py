"""Watches: the changes of a selection of objects, from a version on, without a gap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pilotfish.api.errors import BadRequest
from pilotfish.apiserver.selection import Selection
from pilotfish.store.store import Event, Store, Stored, Watch

BOOKMARK_INTERVAL = 60.0
"""Seconds of silence after which a watcher that wants bookmarks gets one."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends the initial state of a watch with `sendInitialEvents`."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a watch's query says. `resource_version` "" or "0" starts with the state as it is, as ADDED events."""

    resource: str
    namespace: str | None = None
    resource_version: str = ""
    selection: Selection | None = None
    bookmarks: bool = False
    send_initial_events: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch. A BOOKMARK has no object; `initial_end` marks the one that ends the initial state."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    stored: Stored | None
    revision: int
    initial_end: bool = False


@dataclass(eq=False)
class Watches:
    """All open watches of one API server, so that they can be ended when it stops."""

    store: Store
    _open: set[Watch] = field(default_factory=set)
    _closed: bool = False

    def close(self) -> None:
        """End all watches now, and every later one at once."""
        self._closed = True
        for watch in tuple(self._open):
            watch.close()

    async def changes(self, options: WatchOptions) -> AsyncIterator[Change]:
        """The changes until the timeout or the end of the server. Raises Expired when the version is too old."""
        initial, since = self._start(options)
        with self._opened(options, since) as watch:
            for stored in initial:
                yield Change("ADDED", stored, stored.revision)
            if options.send_initial_events and options.bookmarks:
                yield Change("BOOKMARK", None, since, initial_end=True)
            events = aiter(watch)
            while True:
                try:
                    async with asyncio.timeout(BOOKMARK_INTERVAL if options.bookmarks else None):
                        event = await anext(events)
                except TimeoutError:
                    # Nothing is queued, so all that happened up to now has been told.
                    yield Change("BOOKMARK", None, self.store.revision)
                    continue
                except StopAsyncIteration:
                    return
                if change := seen_through(options.selection, event):
                    yield change

    def _start(self, options: WatchOptions) -> tuple[list[Stored], int]:
        """The objects to begin with, and the revision to go on from."""
        version = options.resource_version
        if version and not version.isdigit():
            raise BadRequest(f"invalid resource version {version!r}: it is a number that a list or watch has given")
        if version not in ("", "0") and not options.send_initial_events:
            return [], int(version)
        items = self.store.list(options.resource, options.namespace)
        chosen = options.selection
        return [item for item in items if chosen is None or chosen(item.body)], self.store.revision

    @contextlib.contextmanager
    def _opened(self, options: WatchOptions, since: int) -> Iterator[Watch]:
        watch = self.store.watch(options.resource, options.namespace, since)
        timer = None
        if options.timeout is not None:
            timer = asyncio.get_running_loop().call_later(options.timeout, watch.close)
        self._open.add(watch)
        if self._closed:
            watch.close()
        try:
            yield watch
        finally:
            self._open.discard(watch)
            watch.close()
            if timer:
                timer.cancel()


def seen_through(selection: Selection | None, event: Event) -> Change | None:
    """An event as a watcher of a selection sees it: what enters it is ADDED, what leaves it is DELETED."""
    stored = event.stored
    if selection is None:
        return Change(event.type, stored, stored.revision)
    now = event.type != "DELETED" and selection(stored.body)
    before = event.previous is not None and selection(event.previous)
    if now:
        return Change("MODIFIED" if before else "ADDED", stored, stored.revision)
    return Change("DELETED", stored, stored.revision) if before else None
