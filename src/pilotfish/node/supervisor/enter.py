"""A program in a pod's network that is otherwise the caller's: its terminal, its processes, its files.

Names are the exception: /etc/resolv.conf and /etc/hosts are the pod's, and the host's services that resolve names past
them are out of sight. So are not /run and /proc as a whole, unlike in a container: who starts a program in this way
wants it to find what it finds elsewhere on the host.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from pilotfish.node.supervisor import namespaces

FILES = ("resolv.conf", "hosts")
RESOLVERS = ("/run/nscd", "/run/systemd/resolve")
"""Folders with the sockets of nscd and systemd-resolved, which libc asks before it reads /etc/resolv.conf."""

_PR_SET_PDEATHSIG = 1


def main(netns: str, folder: str, command: list[str]) -> None:
    """Become the command, in the network namespace at a path and with a pod's files. A failure exits with a text."""
    parent = os.getppid()
    try:
        namespaces.enter_network(netns)
        _take_files(folder)
        # Nothing is left behind by a caller that is killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}" if error.filename is None else f"{command[0]}: {error}")


def _take_files(folder: str) -> None:
    namespaces.unshare_mounts()
    namespaces.mount("", "/", flags=namespaces.REC | namespaces.SLAVE)
    # /etc/resolv.conf is often a link into what is covered: the place is made there then.
    held = {
        os.path.realpath(f"/etc/{name}"): os.open(os.path.join(folder, name), os.O_PATH | os.O_CLOEXEC)
        for name in FILES
    }
    for place in filter(os.path.isdir, RESOLVERS):
        namespaces.mount("tmpfs", place, "tmpfs", namespaces.NOSUID | namespaces.NODEV, "mode=755,size=1m")
    for target, descriptor in held.items():
        if not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        namespaces.bind(f"/proc/self/fd/{descriptor}", target)
        os.close(descriptor)
