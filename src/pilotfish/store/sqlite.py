"""A store in one SQLite file: what it acknowledged is there after a crash of the process or of the machine.

The file holds the newest version of every object and the revision counter. History is not kept: a watch that was open
before a restart goes on if it missed nothing and is Expired otherwise.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.store.index import HISTORY, Index
from pilotfish.store.journaled import JournaledStore
from pilotfish.store.store import Event, Key, Stored

FORMAT = 1
"""The file's `user_version`; 0 is a new file."""

LOCK_TIMEOUT = 1.0
"""Seconds to wait for another process that has the file open, e.g. one that is just being replaced."""

_SCHEMA = """
CREATE TABLE object (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    revision INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)
);
CREATE TABLE counter (revision INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
"""
_LOAD = "SELECT resource, namespace, name, revision, body FROM object ORDER BY resource, namespace, name"
_PUT = "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM object WHERE resource = ? AND namespace = ? AND name = ?"


class SQLiteStore(JournaledStore):
    """The store in the file at `path`, which is made (mode 0600) when it is not there.

    Raises ServiceUnavailable, naming the file, when it cannot be opened, is another program's, or is open elsewhere:
    one process at a time, since each holds all objects in memory.
    """

    def __init__(self, path: Path, *, history: int = HISTORY) -> None:
        journal = _SQLiteJournal(path)
        super().__init__(Index(*journal.load(), history=history), journal)


class _SQLiteJournal:
    """Writes each batch as one transaction, on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch(mode=0o600)
            self._connection = _open(path)
        except (sqlite3.Error, OSError) as error:
            raise ServiceUnavailable(f"cannot open {path}: {_reason(error)}") from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    def load(self) -> tuple[list[Stored], int]:
        """All objects and the revision counter."""
        objects = [Stored(Key(*row[:3]), row[3], row[4]) for row in self._connection.execute(_LOAD)]
        (revision,) = self._connection.execute("SELECT revision FROM counter").fetchone()
        return objects, revision

    def write(self, batch: Sequence[Event]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)

    def _write(self, batch: Sequence[Event]) -> None:
        newest = {event.stored.key: event for event in batch}
        removed = [key for key, event in newest.items() if event.type == "DELETED"]
        put = [(*key, e.stored.revision, e.stored.body) for key, e in newest.items() if e.type != "DELETED"]
        try:
            with _transaction(self._connection):
                self._connection.executemany(_REMOVE, removed)
                self._connection.executemany(_PUT, put)
                self._connection.execute("UPDATE counter SET revision = ?", (batch[-1].stored.revision,))
        except sqlite3.Error as error:
            raise ServiceUnavailable(f"cannot write {self._path}: {_reason(error)}; nothing was changed") from error

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()


def _open(path: Path) -> sqlite3.Connection:
    # The journal's thread is the only one to use the connection once it is open; isolation_level None leaves
    # transactions to us.
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with _transaction(connection):
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            elif found != FORMAT:
                raise sqlite3.DatabaseError(f"its format is {found} and this version reads {FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has rolled back after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _reason(error: Exception) -> str:
    # The low byte of an extended code is the plain one.
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        return "another process has it open"
    return str(error)
