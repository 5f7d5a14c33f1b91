"""A store that forgets everything when its process ends; for tests and for meshes that need no memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pilotfish.store.index import HISTORY, Index
from pilotfish.store.journaled import JournaledStore
from pilotfish.store.store import Event


class MemoryStore(JournaledStore):
    """An empty store at revision 0 that remembers `history` events."""

    def __init__(self, *, history: int = HISTORY) -> None:
        super().__init__(Index(history=history), _NoJournal())


class _NoJournal:
    """Takes every batch for written, as there is no disk that could fail."""

    def write(self, batch: Sequence[Event]) -> asyncio.Future[None]:
        written = asyncio.get_running_loop().create_future()
        written.set_result(None)
        return written

    async def close(self) -> None:
        return None
