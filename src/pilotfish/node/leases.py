"""Pods that are there for a process on this node go when it does, however it ends.

The process holds a lock for its life, named by an annotation of the pod. The kernel drops the lock with its holder.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Never

from pilotfish.api.errors import ApiError, Conflict, NotFound
from pilotfish.api.joined import JOINED_BY
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Pod
from pilotfish.client.client import Client
from pilotfish.client.informer import Informer
from pilotfish.home import Home

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0


@contextlib.contextmanager
def hold(home: Home) -> Iterator[str]:
    """Hold a lock of a new name, which is given, for as long as the context lasts. Raises OSError."""
    name = secrets.token_hex(8)
    path = _path(home, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Closed when a program is executed: what the holder starts does not hold it.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield name
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def held(home: Home, name: str) -> bool:
    """Whether the process that took the lock of this name still lives."""
    try:
        fd = os.open(_path(home, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


async def keep(home: Home, client: Client, pods: Informer[Pod]) -> Never:
    """Delete pods whose process is gone, until cancelled."""
    while True:
        for pod in [pod for pod in pods.objects.values() if _orphaned(home, pod)]:
            log.info("pod %s/%s: the process that it is for is gone", pod.namespace, pod.name)
            try:
                await client.delete(POD, pod.name, pod.namespace, uid=pod.metadata.uid)
            except (NotFound, Conflict):
                continue
            except ApiError as error:
                log.warning("pod %s/%s: %s", pod.namespace, pod.name, error)
                continue
            _path(home, pod.metadata.annotations[JOINED_BY]).unlink(missing_ok=True)
        await asyncio.sleep(CHECK_SECONDS)


def _orphaned(home: Home, pod: Pod) -> bool:
    holder = pod.metadata.annotations.get(JOINED_BY)
    return holder is not None and not pod.metadata.deletion_timestamp and not held(home, holder)


def _path(home: Home, name: str) -> Path:
    return home.run / "joins" / f"{Path(name).name}.lock"
