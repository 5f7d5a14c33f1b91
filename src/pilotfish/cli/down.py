"""`pilotfish down`: the mesh of a home stops, and nothing of it is left."""

from __future__ import annotations

import contextlib
import shutil

from pilotfish.cli.process import DNS, NODE, SERVE, SUPERVISOR, changing, processes, stop
from pilotfish.home import Home


def down(home: Home, *, keep: bool) -> None:
    """Stop the mesh of a home and remove all that it made; with `keep`, stored objects, keys and images stay.

    Safe to call at any time, also during `up` and after a crash half-way through `up` or `down`.
    """
    # An `up` that has not made its folder yet waits too: half of what it makes next would be taken from it.
    with changing(home) if home.path.parent.is_dir() else contextlib.nullcontext():
        remove(home, keep=keep)


def remove(home: Home, *, keep: bool) -> None:
    """What `down` does, for those who hold the lock that it takes (`process.changing`)."""
    from pilotfish.node.cleanup import remove_everything

    # The supervisor first: it would start the others again, as the node agent starts the DNS process.
    for roles in ((SUPERVISOR,), (NODE,), (DNS, SERVE)):
        stop(*processes(home, *roles))
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
