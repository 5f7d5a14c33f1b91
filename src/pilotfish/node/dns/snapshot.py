"""The last name table on disk: a DNS process that starts while the control plane is away answers from it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from pilotfish.node.dns.table import NameRecord

log = logging.getLogger(__name__)

_DEBOUNCE_SECONDS = 0.2


def load(path: Path) -> tuple[NameRecord, ...]:
    """The names that were saved; none where nothing was, or nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[NameRecord, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("the saved names in %s cannot be used, the control plane will send them anew: %s", path, error)
        return ()


def save(path: Path, records: Iterable[NameRecord]) -> None:
    """Replace the file as a whole. Raises OSError."""
    made = path.with_suffix(".new")
    made.write_bytes(msgspec.json.encode(tuple(records)))
    made.replace(path)


class Saver:
    """Saves the names soon after they change, several changes at once."""

    def __init__(self, path: Path, records: Callable[[], Iterable[NameRecord]]) -> None:
        self._path = path
        self._records = records
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """There is something new to save."""
        self._changed.set()

    async def run(self) -> None:
        """Save what changes, for ever; a disk that is full is reported, and tried again at the next change."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(_DEBOUNCE_SECONDS)
            self._changed.clear()
            try:
                await asyncio.to_thread(save, self._path, tuple(self._records()))
            except OSError as error:
                log.error("cannot save the names, a restart would begin without them: %s", error)
