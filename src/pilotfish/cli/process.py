"""The mesh's own long-lived processes: one of each role a home, found again by a lock that dies with its holder.

A role's process holds an exclusive `flock` on `$HOME/run/<role>.pid` for its life and writes its pid there. The kernel
drops the lock however the process ends, so a stale pid is never mistaken for a live process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pilotfish.home import Home

SUPERVISOR, SERVE, NODE, DNS = "supervise", "serve", "node", "dns"


class AlreadyRunning(Exception):
    """Another process holds the role in this home."""

    def __init__(self, role: str, pid: int) -> None:
        super().__init__(f"`pilotfish {role}` already runs in this home, as process {pid}")
        self.pid = pid


@contextlib.contextmanager
def hold(home: Home, role: str) -> Iterator[None]:
    """Hold a role for as long as the context lasts. Raises AlreadyRunning."""
    home.run.mkdir(parents=True, exist_ok=True)
    fd = os.open(_pid_file(home, role), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(role, int(os.pread(fd, 32, 0) or 0)) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def running(home: Home, role: str) -> int | None:
    """The pid of the process that holds a role, or None."""
    try:
        fd = os.open(_pid_file(home, role), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(fd, 32, 0) or 0) or None
    finally:
        os.close(fd)
    return None


def processes(home: Home, *roles: str) -> list[int]:
    """The pids of all processes of these roles: the holders, and those that were started and hold nothing yet."""
    commands = {tuple(_command(home, role)[1:]) for role in roles}
    holders = {pid for role in roles if (pid := running(home, role)) is not None}
    return sorted(holders | {pid for pid, arguments in _processes() if arguments[1:] in commands})


def _processes() -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every process of the machine with its arguments."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield int(path.name), tuple(map(os.fsdecode, (path / "cmdline").read_bytes().split(b"\0")[:-1]))


def _command(home: Home, role: str) -> list[str]:
    return [sys.executable, "-m", "pilotfish", "--home", str(home.path), role]


def spawn(home: Home, role: str) -> subprocess.Popen[bytes]:
    """Start a role's process in a session of its own, its output appended to `$HOME/logs/<role>.log`."""
    home.logs.mkdir(parents=True, exist_ok=True)
    with log_file(home, role).open("ab") as log:
        return subprocess.Popen(
            _command(home, role),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(*pids: int, grace: float = 10.0) -> None:
    """End processes: SIGTERM, and SIGKILL for what has not gone after `grace` seconds. Waits until all are gone."""
    with contextlib.ExitStack() as stack:
        waiting = set()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                waiting.add(os.pidfd_open(pid))
        for fd in waiting:
            stack.callback(os.close, fd)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for fd in waiting:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, sign)
            deadline = time.monotonic() + grace
            while waiting and (left := deadline - time.monotonic()) > 0:
                waiting.difference_update(select.select(waiting, [], [], left)[0])


async def terminated() -> None:
    """Return when this process has got SIGTERM or SIGINT."""
    came = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, came.set)
    await came.wait()


@contextlib.contextmanager
def changing(home: Home) -> Iterator[None]:
    """Keep others from starting or stopping the home's mesh for as long as the context lasts; waits until they have.

    A home that is empty afterwards is removed.
    """
    file = home.path / "change.lock"
    while (fd := _lock(file)) is None:
        continue
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(fd)
        with contextlib.suppress(OSError):
            home.path.rmdir()


@contextlib.contextmanager
def choosing(waits: Callable[[], None]) -> Iterator[None]:
    """Let one mesh of this machine at a time choose ports that are free, until it has taken them.

    `waits` is called where another is at it. The lock is the folder /run's: it needs no file that somebody must remove.
    """
    fd = os.open("/run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _lock(file: Path) -> int | None:
    """A descriptor that holds the file's lock; None where the holder before us has removed the file meanwhile."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    except FileExistsError:  # the folder was there, and went before mkdir looked what it is
        if file.parent.exists():
            raise
        return None
    fcntl.flock(fd, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(fd), file.stat()):
            return fd
    os.close(fd)
    return None


LOG_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"


def configure_logging() -> None:
    """Log to standard error (which `spawn` sends to the role's log file) with UTC times."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    for chatty in ("httpx", "uvicorn.error"):  # a line for each request, a line for each stream
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log_file(home: Home, role: str) -> Path:
    return home.logs / f"{role}.log"


def log_tail(home: Home, role: str, lines: int = 15) -> str:
    """The last lines of a role's log, for error messages."""
    try:
        return "\n".join(log_file(home, role).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def resident_kib(pid: int) -> int:
    """Resident memory of a process in KiB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def wait_for_role(home: Home, role: str, timeout: float) -> int | None:
    """The pid once a role is held, or None when nobody holds it within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (pid := running(home, role)) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return pid


def _pid_file(home: Home, role: str) -> Path:
    return home.run / f"{role}.pid"
