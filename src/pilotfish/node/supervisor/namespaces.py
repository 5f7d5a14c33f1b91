"""The kernel's side of a sandbox: namespaces and mounts, through libc (Python 3.11 has neither unshare nor mount)."""

from __future__ import annotations

import ctypes
import os
import socket

NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
DETACH = 2

RUN = "/run"

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter_network(path: str) -> None:
    """Move this process into the network namespace bound at `path`. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, NEWNET), f"enter network namespace {path}")
    finally:
        os.close(descriptor)


def unshare_pod() -> None:
    """New mount, UTS and IPC namespaces for this process, and a new PID namespace for its next child."""
    _checked(_libc.unshare(NEWNS | NEWUTS | NEWIPC | NEWPID), "unshare the pod's namespaces")


def unshare_mounts() -> None:
    """A mount namespace of its own for this process."""
    _checked(_libc.unshare(NEWNS), "unshare the mounts")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError that names both ends."""
    arguments = [text.encode() or None for text in (source, target, kind)]
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None)
    _checked(result, f"mount {source or kind} on {target}")


def bind(source: str, target: str, read_only: bool = False) -> None:
    """Show `source` at `target`, which exists. Raises OSError."""
    mount(source, target, flags=BIND | REC)
    if read_only:
        mount("", target, flags=BIND | REMOUNT | RDONLY)


def take_root() -> None:
    """Make / the pod's own: a folder in memory in which the host's root is shown, entry by entry.

    Whoever wants a mount point like /data needs it, because / cannot be overlaid. To be called where /proc is going to
    be mounted again. Raises OSError.
    """
    here = os.getcwd()
    # The new root grows over /proc, the one place of the host's root that it does not show.
    new = "/proc"
    mount("tmpfs", new, "tmpfs", NOSUID | NODEV, "mode=755,size=16m")
    os.mkdir(f"{new}/proc")
    for entry in os.scandir("/"):
        place = f"{new}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.name != "proc":
            _make_entry(place, entry.is_dir())
            bind(entry.path, place)
    os.chdir(new)
    # pivot_root(2): with "." for both, the old root comes to lie over the new one and is taken off from there.
    _checked(_libc.pivot_root(b".", b"."), "make the pod's root its own")
    _checked(_libc.umount2(b".", DETACH), "take the host's root off the pod's")
    os.chdir(here)


def make_place(target: str, directory: bool, own: set[str]) -> None:
    """Make a mount point where it is missing: in the pod's view, never on the host.

    `own` are the folders that are the pod's own already; / is where `take_root` was called. Raises OSError.
    """
    if os.path.lexists(target):
        return
    if not any(target.startswith(f"{folder}/") for folder in own):
        own.add(_own_folder(target))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    _make_entry(target, directory)


def _own_folder(target: str) -> str:
    """Make the nearest folder above `target` writable for the pod alone; returns it, or what is to be made of /."""
    place = os.path.dirname(target)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    if place == "/":
        return _top(target)
    upper = f"{RUN}/pilotfish/overlay{place}"
    os.makedirs(f"{upper}/upper")
    os.makedirs(f"{upper}/work")
    mount("overlay", place, "overlay", 0, f"lowerdir={place},upperdir={upper}/upper,workdir={upper}/work")
    return place


def _top(path: str) -> str:
    """The folder of / that a path leads through: /data of /data/web."""
    return f"/{path.split('/')[1]}"


def _make_entry(path: str, directory: bool) -> None:
    if directory:
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def furnish(hostname: str, binds: list[tuple[str, str, bool]]) -> None:
    """Make this mount and UTS namespace the pod's: its /proc, its /run, its host name and its own files.

    /run is empty and the pod's own, as in any container: the host's holds sockets (nscd, systemd-resolved) through
    which libc would resolve names past the pod's /etc/resolv.conf. Raises OSError.
    """
    # Slave and not private: what the host unmounts later (another pod's network namespace) must go away here too.
    mount("", "/", flags=REC | SLAVE)
    if not all(os.path.lexists(_top(target)) for _, target, _ in binds):
        take_root()
    mount("proc", "/proc", "proc", NOSUID | NODEV | NOEXEC)
    # The sources may lie below /run: hold them open before it is covered.
    held = [
        # /etc/resolv.conf is often a link into /run; what it points to is then made there.
        (os.open(source, os.O_PATH | os.O_CLOEXEC), os.path.realpath(target), os.path.isdir(source), read_only)
        for source, target, read_only in binds
    ]
    mount("tmpfs", RUN, "tmpfs", NOSUID | NODEV, "mode=755,size=16m")
    os.mkdir(f"{RUN}/lock", 0o1777)
    # All places first: an overlay would cover what is bound below it already.
    own = {RUN}
    for _, target, directory, _ in held:
        make_place(target, directory, own)
    for descriptor, target, _, read_only in held:
        bind(f"/proc/self/fd/{descriptor}", target, read_only)
        os.close(descriptor)
    socket.sethostname(hostname)
