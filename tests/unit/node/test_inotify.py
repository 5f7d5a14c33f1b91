from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.node import inotify
from pilotfish.node.inotify import SHARE, raise_limit, restore_limit

FOUND = 128


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The kernel's limit, which is one for the whole machine, replaced by a number."""
    kept = {inotify.LIMIT: FOUND}
    monkeypatch.setattr(inotify, "read_sysctl", lambda name: kept[name])
    monkeypatch.setattr(inotify, "write_sysctl", lambda name, value: kept.update({name: value}))
    return lambda: kept[inotify.LIMIT]


def test_meshes_raise_the_limit_together_and_the_last_leaves_what_the_first_found(
    limit: Callable[[], int], tmp_path: Path
) -> None:
    one, two = tmp_path / "one/inotify", tmp_path / "two/inotify"
    raise_limit(one)
    raise_limit(one)  # an agent that comes back
    assert limit() == FOUND + SHARE
    raise_limit(two)
    restore_limit(one)
    assert limit() == FOUND + SHARE
    restore_limit(two)
    restore_limit(two)
    assert limit() == FOUND


def test_a_share_that_a_restart_of_the_machine_has_undone_is_added_again_and_not_subtracted(
    limit: Callable[[], int], tmp_path: Path
) -> None:
    note = tmp_path / "inotify"
    note.write_text("an earlier boot\n")
    restore_limit(note)
    assert limit() == FOUND
    raise_limit(note)
    assert limit() == FOUND + SHARE


def test_a_limit_that_may_not_be_raised_is_told_and_harms_nothing(
    limit: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str, value: int) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(inotify, "write_sysctl", refuse)
    raise_limit(tmp_path / "inotify")
    assert "at most 32 sidecars can run on this host; raise the limit fs.inotify.max_user_instances" in caplog.text
    assert not (tmp_path / "inotify").exists()
