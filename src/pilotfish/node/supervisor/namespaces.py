"""The kernel's side of a sandbox: namespaces and mounts, through libc (Python 3.11 has neither unshare nor mount)."""

from __future__ import annotations

import ctypes
import errno
import os
import socket

NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19

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


def make_place(target: str, directory: bool, overlaid: set[str]) -> None:
    """Make a mount point where it is missing: in the pod's view, never on the host.

    `overlaid` are the folders that are the pod's own already. Raises OSError.
    """
    if os.path.lexists(target):
        return
    if not any(target.startswith(f"{folder}/") for folder in overlaid):
        overlaid.add(overlay(target))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if directory:
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def overlay(target: str) -> str:
    """Make the nearest folder above `target` writable for the pod alone; returns it. Raises OSError where it is /."""
    place = os.path.dirname(target)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    if place == "/":
        raise OSError(errno.ENOENT, f"{target}: /{target.split('/')[1]} does not exist on this host; make it")
    upper = f"{RUN}/pilotfish/overlay{place}"
    os.makedirs(f"{upper}/upper")
    os.makedirs(f"{upper}/work")
    mount("overlay", place, "overlay", 0, f"lowerdir={place},upperdir={upper}/upper,workdir={upper}/work")
    return place


def furnish(hostname: str, binds: list[tuple[str, str, bool]]) -> None:
    """Make this mount and UTS namespace the pod's: its /proc, its /run, its host name and its own files.

    /run is empty and the pod's own, as in any container: the host's holds sockets (nscd, systemd-resolved) through
    which libc would resolve names past the pod's /etc/resolv.conf. Raises OSError.
    """
    # Slave and not private: what the host unmounts later (another pod's network namespace) must go away here too.
    mount("", "/", flags=REC | SLAVE)
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
    overlaid = {RUN}
    for _, target, directory, _ in held:
        make_place(target, directory, overlaid)
    for descriptor, target, _, read_only in held:
        bind(f"/proc/self/fd/{descriptor}", target, read_only)
        os.close(descriptor)
    socket.sethostname(hostname)
