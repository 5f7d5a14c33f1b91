"""Host ports of one mesh: finding free ones, and saying who holds one that is not."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

LISTEN = "0A"


def is_free(port: int, host: str = "0.0.0.0") -> bool:
    """Whether a TCP listener could be opened there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def first_free(start: int, host: str = "0.0.0.0", tries: int = 200) -> int:
    """The first free port from `start` on. Raises OSError when `tries` ports in a row are taken."""
    for port in range(start, start + tries):
        if is_free(port, host):
            return port
    raise OSError(f"no free port from {start} to {start + tries - 1}")


def holder(port: int) -> str:
    """Who listens on a TCP port here: "process 4242 (nginx)", or "another process" where that cannot be seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return "another process"
