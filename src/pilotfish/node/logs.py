"""Reading the logs that pod supervisors write, with what `kubectl logs` can ask: tail, since, timestamps, follow."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pilotfish.api.meta import parse_timestamp
from pilotfish.node.sandbox import PodFolder

POLL_SECONDS = 0.05
"""How often a followed file is looked at: inotify would cost a descriptor a reader and save little."""

_CHUNK = 64 * 1024


@dataclass(frozen=True)
class LogOptions:
    """Kubernetes: PodLogOptions. `limit_bytes` and `tail_lines` None are without limit; `stream` None is both."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: dt.datetime | None = None
    limit_bytes: int | None = None
    stream: str | None = None


def latest_attempt(folder: PodFolder, container: str, *, previous: bool = False) -> int | None:
    """The newest run of a container that has a log, or the one before it; None when there is none."""
    try:
        names = [entry.stem for entry in folder.log(container, 0).parent.iterdir() if entry.suffix == ".log"]
    except FileNotFoundError:
        return None
    attempts = sorted((int(name) for name in names if name.isdigit()), reverse=True)
    wanted = 1 if previous else 0
    return attempts[wanted] if len(attempts) > wanted else None


def discard_old(folder: PodFolder, container: str, attempt: int) -> None:
    """Remove the logs of runs older than the one before `attempt`, as the kubelet keeps them."""
    parent = folder.log(container, 0).parent
    if not parent.is_dir():
        return
    for entry in parent.iterdir():
        number = entry.name.partition(".")[0]
        if number.isdigit() and int(number) < attempt - 1:
            entry.unlink(missing_ok=True)


async def read(path: Path, options: LogOptions, ended: Callable[[], bool] = lambda: True) -> AsyncIterator[bytes]:
    """The text of a log in pieces. With `follow` it goes on until `ended` says that no more will be written.

    A log that is not there yet is empty.
    """
    left = options.limit_bytes
    async for piece in _render(path, options, ended):
        if left is not None:
            piece, left = piece[:left], left - len(piece)
        if piece:
            yield piece
        if left is not None and left <= 0:
            return


async def _render(path: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    lines, followed = await asyncio.to_thread(_existing, path, options)
    try:
        if lines:
            yield b"".join(lines)
        if not options.follow:
            return
        rest = b""
        while True:
            # Asked before reading, so that what was written up to the end is read once more after it.
            last = ended()
            data = followed.read(_CHUNK) if followed is not None else b""
            if data:
                *whole, rest = (rest + data).split(b"\n")
                if text := b"".join(_select(whole, options)):
                    yield text
                continue
            renewed = _renewed(path, followed)
            if renewed is not None:
                if followed is not None:
                    followed.close()
                followed = renewed
                continue
            if last:
                return
            await asyncio.sleep(POLL_SECONDS)
    finally:
        if followed is not None:
            followed.close()


def _existing(path: Path, options: LogOptions) -> tuple[list[bytes], BinaryIO | None]:
    """The lines that are there, the rotated file's first, and the current file open at their end."""
    kept: deque[bytes] = deque()
    parts = 0
    current: BinaryIO | None = None
    for source in (path.with_name(f"{path.name}.1"), path):
        try:
            file = source.open("rb")
        except FileNotFoundError:
            continue
        position = 0
        for line in file:
            if not line.endswith(b"\n"):
                break  # still being written
            position += len(line)
            for text in _select([line[:-1]], options):
                kept.append(text)
                parts += text.endswith(b"\n")
                if options.tail_lines is not None:
                    while parts > options.tail_lines and kept:
                        parts -= kept.popleft().endswith(b"\n")
        if source == path:
            file.seek(position)
            current = file
        else:
            file.close()
    if options.tail_lines == 0:
        kept.clear()
    return list(kept), current


def _renewed(path: Path, followed: BinaryIO | None) -> BinaryIO | None:
    """The log anew when the path names another file than the one followed: it was rotated, or has just appeared."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return None
    if followed is not None and os.fstat(followed.fileno()).st_ino == there.st_ino:
        return None
    return path.open("rb")


def _select(lines: list[bytes], options: LogOptions) -> Iterator[bytes]:
    """Stored lines → what the reader asked for. A part of a long line comes without a line break."""
    wanted = options.stream.encode() if options.stream is not None else None
    for line in lines:
        stamp, _, rest = line.partition(b" ")
        stream, _, rest = rest.partition(b" ")
        tag, _, text = rest.partition(b" ")
        if wanted is not None and stream != wanted:
            continue
        if options.since is not None and _before(stamp, options.since):
            continue
        prefix = stamp + b" " if options.timestamps else b""
        yield prefix + text + (b"" if tag == b"P" else b"\n")


def _before(stamp: bytes, moment: dt.datetime) -> bool:
    try:
        return parse_timestamp(stamp.decode()) < moment
    except ValueError:
        return False
