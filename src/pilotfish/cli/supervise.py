"""The supervisor: keeps `serve` and `node` running, whoever started them.

It is nobody's pipe: what it starts is a session of its own with its own log file. Killed, it leaves them as they are;
a new supervisor finds them by their locks and watches them through pidfds, children or not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from typing import Never

from pilotfish.cli.process import NODE, SERVE, running, spawn, terminated
from pilotfish.home import Home

log = logging.getLogger(__name__)

STABLE_SECONDS = 10.0
"""A process that lived this long is started again at once; one that did not waits for the back-off."""
LONGEST_BACKOFF = 5.0


async def supervise(home: Home) -> None:
    """Keep both roles running until cancelled (SIGTERM and SIGINT cancel it); leaves them running then."""
    async with asyncio.TaskGroup() as group:
        keepers = [group.create_task(keep(home, role)) for role in (SERVE, NODE)]
        await terminated()
        for keeper in keepers:
            keeper.cancel()


async def keep(home: Home, role: str) -> Never:
    """Have a role's process run, whoever started it, and start it again whenever it has ended."""
    backoff = 0.0
    while True:
        child: subprocess.Popen[bytes] | None = None
        started = time.monotonic()
        pid = running(home, role)
        if pid is None:
            child = spawn(home, role)
            pid = child.pid
            log.info("started %s as process %d", role, pid)
        await _gone(pid)
        if child is not None:
            child.wait()
        if time.monotonic() - started >= STABLE_SECONDS:
            backoff = 0.0
        code = "" if child is None else f" with {child.returncode}"
        log.warning("%s (process %d) ended%s; starting it again in %.1f s", role, pid, code, backoff)
        await asyncio.sleep(backoff)
        backoff = min(max(0.1, backoff * 2), LONGEST_BACKOFF)


async def _gone(pid: int) -> None:
    """Return when a process has ended, child or not."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
