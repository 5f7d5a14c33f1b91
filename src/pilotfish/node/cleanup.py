"""`pilotfish down`: everything that a mesh's node has made on this machine, removed."""

from __future__ import annotations

import shutil

from pilotfish.home import Home
from pilotfish.node.inotify import restore_limit
from pilotfish.node.network import remove_host_network
from pilotfish.node.sandbox import PodFolder, stop_supervisors


def remove_everything(home: Home) -> None:
    """End all pods of the mesh and its DNS process; remove their networks, folders and limits. Blocks; safe to repeat.

    The node agent must not run any more, or it would make them again.
    """
    if home.pods.is_dir():
        stop_supervisors(PodFolder(path.resolve()) for path in home.pods.iterdir())
    remove_host_network(home.id)
    restore_limit(home.run / "inotify")
    shutil.rmtree(home.pods, ignore_errors=True)
