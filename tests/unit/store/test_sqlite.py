"""What only a store on disk can do: outlive its process, and run out of disk."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.api.errors import Expired, ServiceUnavailable
from pilotfish.store.sqlite import SQLiteStore
from pilotfish.store.store import Key

WEB = Key("pods", "default", "web")


def state(store: SQLiteStore) -> dict[Key, bytes]:
    return {s.key: s.body for s in store.list("pods")}


def test_everything_is_there_after_a_restart_and_the_revision_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def before() -> None:
        store = SQLiteStore(path)
        await store.create(Key("pods", "default", "kept"), lambda r: b"kept")
        await store.create(WEB, lambda r: b"gone")
        # The newest revision is a deletion's: no object holds it.
        await store.delete(WEB, lambda r: b"gone")
        await store.close()

    async def after() -> None:
        store = SQLiteStore(path)
        assert store.revision == 3
        assert state(store) == {Key("pods", "default", "kept"): b"kept"}
        watch = store.watch("pods", since=3)
        with pytest.raises(Expired):
            store.watch("pods", since=2)
        assert (await store.create(WEB, lambda r: b"new")).revision == 4
        assert (await anext(watch)).stored.revision == 4
        await store.close()

    asyncio.run(before())
    asyncio.run(after())


def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SQLiteStore(path)
    assert path.stat().st_mode & 0o777 == 0o600
    asyncio.run(store.close())


def test_a_second_opener_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotfish.store.sqlite.LOCK_TIMEOUT", 0.01)
    store = SQLiteStore(tmp_path / "state.db")
    with pytest.raises(ServiceUnavailable, match=r"state\.db: another process has it open"):
        SQLiteStore(tmp_path / "state.db")
    asyncio.run(store.close())


def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    text, newer = tmp_path / "text.db", tmp_path / "newer.db"
    text.write_text("This is a letter, and a long one, so that it cannot be taken for an empty database." * 10)
    with pytest.raises(ServiceUnavailable, match=r"text\.db: file is not a database"):
        SQLiteStore(text)
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ServiceUnavailable, match=r"newer\.db: its format is 99 and this version reads 1"):
        SQLiteStore(newer)
    with pytest.raises(ServiceUnavailable, match=r"cannot open .*missing"):
        SQLiteStore(tmp_path / "missing" / "state.db")


WRITER = """
import asyncio, sys
from pathlib import Path
from pilotfish.store.sqlite import SQLiteStore
from pilotfish.store.store import Key

async def write(store, writer):
    for n in range(1_000_000):
        key = Key("pods", str(writer), str(n))
        stored = await store.create(key, lambda r: str(r).encode())
        print("put", writer, n, stored.revision, flush=True)
        if n % 3 == 0:
            gone = await store.delete(key, lambda r: b"")
            print("removed", writer, n, gone.revision, flush=True)

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    async with asyncio.TaskGroup() as group:
        for writer in range(8):
            group.create_task(write(store, writer))

asyncio.run(main())
"""


def test_acknowledged_writes_survive_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(300)]
        finally:
            process.send_signal(signal.SIGKILL)
        # What was printed before the kill was acknowledged, read or not; a last line may be torn.
        lines += [line for line in process.stdout if line.endswith("\n")]
    assert all(line.startswith(("put", "removed")) for line in lines)
    expected: dict[Key, bytes | None] = {}
    for line in lines:
        what, writer, n, revision = line.split()
        expected[Key("pods", writer, n)] = revision.encode() if what == "put" else None
    store = SQLiteStore(path)
    found = state(store)
    # The one write after a writer's last acknowledged one may have happened: a create beyond, or the deletion.
    for key, value in expected.items():
        deletion_under_way = value is not None and int(key.name) % 3 == 0
        assert found.get(key) == value or (deletion_under_way and key not in found)
    unacknowledged = found.keys() - expected.keys()
    assert len(unacknowledged) <= 8
    assert store.revision >= max(int(line.split()[3]) for line in lines)
    asyncio.run(store.close())


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from pilotfish.api.errors import ServiceUnavailable
from pilotfish.store.sqlite import SQLiteStore
from pilotfish.store.store import Key

async def main():
    path = Path(sys.argv[1])
    store = SQLiteStore(path)
    kept = await store.create(Key("pods", "default", "kept"), lambda r: b"kept")
    watch = store.watch("pods")
    size = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, resource.RLIM_INFINITY))
    big = [store.create(Key("pods", "default", str(n)), lambda r: bytes(100_000)) for n in range(3)]
    results = await asyncio.gather(*big, return_exceptions=True)
    assert [type(r) for r in results] == [ServiceUnavailable] * 3, results
    assert str(path) in str(results[0]), results[0]
    assert store.list("pods") == [kept]
    assert store.revision == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    late = await store.create(Key("pods", "default", "late"), lambda r: bytes(100_000))
    assert (await anext(watch)).stored == late
    await store.close()
    again = SQLiteStore(path)
    assert again.list("pods") == [kept, late]
    assert again.revision == late.revision
    await again.close()

asyncio.run(main())
"""


def test_a_full_disk_fails_the_writes_and_nothing_else(tmp_path: Path) -> None:
    # A limit on file size is as real an error from the kernel as a full disk, and needs no file system of its own.
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "state.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
