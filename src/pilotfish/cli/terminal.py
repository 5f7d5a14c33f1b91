"""This process's end of a remote command: its terminal and its standard streams, without threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator

CHUNK = 64 * 1024
"""Bytes that are read at once at most."""


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """A terminal that passes every key on, Ctrl-C too; as it was before when the context ends."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def sizes(fd: int) -> AsyncIterator[tuple[int, int]]:
    """Columns and rows of a terminal: what they are now, and what they become. Ends only when it is cancelled."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    changed.set()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            columns, rows = os.get_terminal_size(fd)
            yield columns, rows
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


async def read_chunks(fd: int) -> AsyncIterator[bytes]:
    """What comes on a descriptor until its end."""
    while True:
        await _readable(fd)
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:  # somebody else, who shares the open file, was quicker
            continue
        if not data:
            return
        yield data


async def _readable(fd: int) -> None:
    """Return when a read would not block."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # epoll takes no ordinary files, whose reads never block
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def write_out(data: bytes, *, error: bool = False) -> None:
    """Write to standard output, or standard error, at once."""
    stream = sys.stderr.buffer if error else sys.stdout.buffer
    stream.write(data)
    stream.flush()
