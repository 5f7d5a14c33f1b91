"""A controller's queue of keys to reconcile (client-go's workqueue).

A key that is queued twice is worked on once; one that is being worked on and changes again comes back when that is
done; one that fails comes back after a delay of its own. Nothing is done at fixed periods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Generic, Never, TypeVar

from pilotfish.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from pilotfish.client.backoff import backoff

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_DELAY, MOST_DELAY = 0.005, 60.0
"""Seconds before a failed key is tried again, at first and at most."""

Reconcile = Callable[[K], Awaitable[float | None]]
"""Brings the world to what is wanted of a key; returns after how many seconds to look again, or None."""


class WorkQueue(Generic[K]):
    """Keys in the order in which they were added, each at most once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._waiting: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._running: set[K] = set()
        self._changed: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._delays: dict[K, Iterator[float]] = {}

    def add(self, key: K) -> None:
        """Have a key reconciled as soon as a worker is free."""
        if key in self._running:
            self._changed.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._waiting.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have a key reconciled after a while, or earlier if it was to be earlier already."""
        loop = asyncio.get_running_loop()
        timer = self._later.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._later[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: K) -> None:
        del self._later[key]
        self.add(key)

    async def run(self, reconcile: Reconcile[K], workers: int = 4) -> Never:
        """Work until cancelled. Errors are logged, and their keys tried again."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(reconcile))
        finally:
            for timer in self._later.values():
                timer.cancel()
            self._later.clear()
        raise AssertionError("workers run until they are cancelled")

    async def _work(self, reconcile: Reconcile[K]) -> Never:
        while True:
            key = await self._waiting.get()
            self._queued.discard(key)
            self._running.add(key)
            try:
                again = await reconcile(key)
            except (Conflict, NotFound, AlreadyExists) as error:
                # Someone else wrote between our look and our write: look again.
                log.debug("%s: %s: %s", self.name, key, error)
                again = self._next_delay(key)
            except ApiError as error:
                # In a namespace that is going away, what is wanted of a key goes away too.
                leaving = error.caused_by("NamespaceTerminating")
                log.log(logging.DEBUG if leaving else logging.WARNING, "%s: %s: %s", self.name, key, error)
                again = None if leaving else self._next_delay(key)
            except Exception:
                # A fault with one object must not keep the others from being served.
                log.exception("%s: reconciling %s failed", self.name, key)
                again = self._next_delay(key)
            else:
                self._delays.pop(key, None)
            finally:
                self._running.discard(key)
            if key in self._changed:
                self._changed.discard(key)
                self.add(key)
            if again is not None:
                self.add_after(key, again)

    def _next_delay(self, key: K) -> float:
        return next(self._delays.setdefault(key, backoff(FIRST_DELAY, MOST_DELAY)))
