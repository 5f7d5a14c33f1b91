"""The kernel's limit of inotify instances per user, raised as long as a mesh runs.

An Envoy takes four (one for each of its threads), all Envoys of a host are one user's, and Linux gives a user 128: the
33rd Envoy would abort at its start. Each mesh adds to the limit what its pods may need and subtracts that when it is
gone, so that several meshes do not undo each other's work, and the last one leaves the limit that the first one found.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pilotfish.node.sysctl import read_sysctl, write_sysctl

log = logging.getLogger(__name__)

LIMIT = "fs/inotify/max_user_instances"
SHARE = 2048
"""What one mesh adds: twice what 250 Envoys, the most pods that the node takes, hold open."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def raise_limit(note: Path) -> None:
    """Add this mesh's share, unless `note` says that this was done since the machine was started. Blocks.

    Where the kernel does not let us, the log says what that means; nothing fails for it.
    """
    boot = _BOOT.read_text()
    if note.exists() and note.read_text() == boot:
        return
    try:
        _add(SHARE)
    except OSError as error:
        envoys = read_sysctl(LIMIT) // 4
        name = LIMIT.replace("/", ".")
        log.warning("at most %d sidecars can run on this host; raise the limit %s: %s", envoys, name, error)
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(boot)


def restore_limit(note: Path) -> None:
    """Take this mesh's share off again, if it was added since the machine was started. Blocks; safe to repeat."""
    if note.exists() and note.read_text() == _BOOT.read_text():
        note.unlink()
        _add(-SHARE)


def _add(change: int) -> None:
    write_sysctl(LIMIT, max(1, read_sysctl(LIMIT) + change))
