"""Free ports, and who holds those that are not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.cli import ports

LISTENER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(60)
"""


def test_a_port_is_free_until_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert not ports.is_free(port, "127.0.0.1")
    assert ports.is_free(port, "127.0.0.1")


def test_the_first_free_port_skips_those_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port, host: port >= 6445)
    assert ports.first_free(6443) == 6445
    with pytest.raises(OSError, match="no free port from 6443 to 6444"):
        ports.first_free(6443, tries=2)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_holds_a_port(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        name = Path("/proc/self/comm").read_text().strip()
        assert ports.holder(server.getsockname()[1]) == f"process {os.getpid()} ({name})"


def test_another_process_is_named_and_nobody_is_not(
    ended: Callable[[subprocess.Popen[bytes]], subprocess.Popen[bytes]],
) -> None:
    listener = ended(subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE))
    assert listener.stdout is not None
    port = int(listener.stdout.readline())
    assert ports.holder(port).startswith(f"process {listener.pid} (python")
    listener.kill()
    listener.wait()
    assert ports.holder(port) == "another process"
