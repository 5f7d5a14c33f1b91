"""Container output as the kubelet keeps it: the CRI's text format, one file a container run, rotated by size.

Each line is `<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`; P marks a part of a line that goes on.
"""

from __future__ import annotations

import os
import time

MAX_BYTES = 10 * 1024 * 1024
"""A file that has reached this size becomes `<name>.1`, replacing an older one: two files a container at most."""

MAX_LINE = 16 * 1024
"""Longer lines are written in parts, as containerd does."""


def stamp(nanoseconds: int) -> str:
    """The moment as the CRI writes it, e.g. "2021-11-05T09:21:19.828123456Z"."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class LogFile:
    """Where all streams of one container run write their lines."""

    def __init__(self, path: str, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max = max_bytes
        self._open()

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size

    def write(self, data: bytes) -> None:
        """Append whole lines; a full disk loses them, never the container."""
        if self._size >= self._max:
            os.close(self._file)
            os.rename(self._path, f"{self._path}.1")
            self._open()
        try:
            self._size += os.write(self._file, data)
        except OSError:
            return

    def close(self) -> None:
        os.close(self._file)


class LineWriter:
    """One stream (stdout or stderr) of a container: cuts its bytes into lines and stamps them."""

    def __init__(self, log: LogFile, stream: str) -> None:
        self._log = log
        self._stream = stream
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Write every line that is complete; keep the rest until it is, or until it is too long to wait for."""
        prefix = f"{stamp(time.time_ns())} {self._stream} ".encode()
        full, part = prefix + b"F ", prefix + b"P "
        *lines, rest = (self._rest + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            while len(line) > MAX_LINE:
                out += (part, line[:MAX_LINE], b"\n")
                line = line[MAX_LINE:]
            out += (full, line, b"\n")
        while len(rest) >= MAX_LINE:
            out += (part, rest[:MAX_LINE], b"\n")
            rest = rest[MAX_LINE:]
        self._rest = rest
        if out:
            self._log.write(b"".join(out))

    def finish(self) -> None:
        """The stream has ended: an unfinished line is a line."""
        if self._rest:
            self.feed(b"\n")
