"""One informer for everybody who follows the same objects."""

from __future__ import annotations

import asyncio
from typing import Any, Never, TypeVar

from pilotfish.api.meta import Object
from pilotfish.api.scheme import Kind
from pilotfish.client.client import Client
from pilotfish.client.informer import Informer

T = TypeVar("T", bound=Object)


class Informers:
    """Makes, shares and runs informers over one client (client-go's SharedInformerFactory)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[tuple[str, str | None, str, str], Informer[Any]] = {}
        self._tasks: dict[tuple[str, str | None, str, str], asyncio.Task[Never]] = {}
        self._running: asyncio.TaskGroup | None = None

    def informer(
        self, kind: Kind[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Informer[T]:
        """The informer of a selection; it runs as long as `run` does, also when it is asked for later."""
        selection = (kind.resource, namespace, labels, fields)
        found = self._informers.get(selection)
        if found is None:
            found = Informer(self._client, kind, namespace, labels=labels, fields=fields)
            self._informers[selection] = found
            if self._running is not None:
                self._tasks[selection] = self._running.create_task(found.run())
        return found

    def release(self, informer: Informer[Any]) -> None:
        """Stop an informer that nobody follows any more, and forget what it knows."""
        selection = next(key for key, known in self._informers.items() if known is informer)
        del self._informers[selection]
        if (task := self._tasks.pop(selection, None)) is not None:
            task.cancel()

    async def synced(self) -> None:
        """Returns once every informer asked for so far has synced."""
        for informer in tuple(self._informers.values()):
            await informer.synced()

    async def run(self) -> Never:
        """Run all informers until cancelled."""
        async with asyncio.TaskGroup() as group:
            for selection, informer in self._informers.items():
                self._tasks[selection] = group.create_task(informer.run())
            self._running = group
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._running = None
                self._tasks.clear()
        raise AssertionError("informers run until they are cancelled")
