"""`pilotfish down`: the mesh of a home stops, and nothing of it is left."""

from __future__ import annotations

import contextlib
import shutil

from pilotfish.cli.process import DNS, NODE, SERVE, SUPERVISOR, running, stop
from pilotfish.home import Home


def down(home: Home, *, keep: bool) -> None:
    """Stop the mesh of a home and remove all that it made; with `keep`, stored objects, keys and images stay.

    Safe to call at any time, also after a crash half-way through `up` or `down`.
    """
    from pilotfish.node.cleanup import remove_everything

    # The supervisor first: it would start the others again.
    for roles in ((SUPERVISOR,), (NODE, DNS, SERVE)):
        stop(*(pid for role in roles if (pid := running(home, role)) is not None))
    remove_everything(home)
    for folder in (home.run, home.pods, home.logs):
        shutil.rmtree(folder, ignore_errors=True)
    if keep:
        return
    for folder in (home.pki, home.images):
        shutil.rmtree(folder, ignore_errors=True)
    for file in home.path.glob(f"{home.database.name}*"):
        file.unlink()
    for file in (home.kubeconfig, home.node_kubeconfig, home.settings_file):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files are in it, or it never was
        home.path.rmdir()
