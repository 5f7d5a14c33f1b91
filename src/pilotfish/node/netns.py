"""Network namespaces: made, named, listed, removed, and functions run inside them.

A namespace belongs to a thread, not to a process. So whatever has to happen inside one happens in a thread that is
started for it and ended after it: the caller's own namespace never changes, and nothing has to be changed back. Sockets
that are opened and processes that are started there stay there. A name is a bind mount in /run/netns, the convention
of iproute2, so `ip netns` shows ours and `ip netns exec` enters them.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 0x100000
_MNT_DETACH = 2
_OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def path_of(name: str) -> Path:
    """Where the namespace of this name is found, whether or not it exists."""
    return DIRECTORY / name


def names(prefix: str = "") -> list[str]:
    """The named namespaces whose names begin so, sorted; half-made ones too."""
    try:
        return sorted(path.name for path in DIRECTORY.iterdir() if path.name.startswith(prefix))
    except FileNotFoundError:
        return []


def create(name: str) -> Path:
    """Makes a namespace under a name and returns its path. Raises FileExistsError when the name is taken."""
    _share_directory()
    path = path_of(name)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))
    try:
        run_in_new(lambda: _mount(_OWN, str(path), _MS_BIND))
    except BaseException:
        path.unlink()
        raise
    return path


def delete(name: str) -> None:
    """Removes a name, and the namespace once no process is left inside. A name that is not there is no error."""
    path = path_of(name)
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):  # not mounted (half-made), or not there
            raise OSError(code, os.strerror(code), str(path))
    path.unlink(missing_ok=True)


def run_in(path: Path, function: Callable[[], T]) -> T:
    """What the function returns when it is run inside the namespace at the path; blocks until then.

    The function runs in a thread of its own. What it raises is raised here; OSError when the namespace cannot be
    entered.
    """

    def enter_and_run() -> T:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(descriptor, _CLONE_NEWNET), str(path))
        finally:
            os.close(descriptor)
        return function()

    return _in_thread(enter_and_run)


def run_in_new(function: Callable[[], T]) -> T:
    """What the function returns when it is run inside a new namespace without a name, which ends with it."""

    def unshare_and_run() -> T:
        _check(_libc.unshare(_CLONE_NEWNET), "a new network namespace")
        return function()

    return _in_thread(unshare_and_run)


def _in_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns") as pool:
        return pool.submit(function).result()


def _share_directory() -> None:
    """Makes /run/netns a shared mount, as iproute2 does, so that other mount namespaces see names come and go."""
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = str(DIRECTORY)
    try:
        _mount("", target, _MS_SHARED | _MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: not a mount point yet
            raise
        _mount(target, target, _MS_BIND | _MS_REC)
        _mount("", target, _MS_SHARED | _MS_REC)


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc.mount(source.encode(), target.encode(), b"none", ctypes.c_ulong(flags), None), target)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
