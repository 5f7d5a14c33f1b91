"""Names survive on disk, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from dnstools import external, service, until

from pilotfish.node.dns import snapshot

RECORDS = (service("web", "shop", "10.0.0.1"), external("*.example.com", "1.1.1.1", "2001:2::1", scope="shop"))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    snapshot.save(path, RECORDS)
    assert snapshot.load(path) == RECORDS
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_loaded_from_nothing_or_rubbish(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "names.json"
    assert snapshot.load(path) == ()
    assert not caplog.records
    path.write_bytes(b'[{"resource": "x"')
    assert snapshot.load(path) == ()
    assert "cannot be used" in caplog.text


def test_changes_are_saved_and_a_full_disk_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "folder" / "names.json"

    async def test() -> None:
        saver = snapshot.Saver(path, lambda: RECORDS)
        running = asyncio.create_task(saver.run())
        saver.changed()
        await until(lambda: "cannot save the names" in caplog.text, "the missing folder is told")
        path.parent.mkdir()
        saver.changed()
        await until(path.exists, "the names are saved")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(test())
    assert snapshot.load(path) == RECORDS
