"""What is being streamed ends when a server does, and soon; and when a node goes away its clients are told."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")]

Register = Callable[[subprocess.Popen[bytes]], subprocess.Popen[bytes]]


def kubectls() -> list[str]:
    """An old one, which speaks SPDY, and a new one."""
    beside = Path(shutil.which("kubectl") or "/").resolve().parent
    return [str(path) for name in ("kubectl.1.27", "kubectl.1.33") if (path := beside / name).exists()] or ["kubectl"]


def test_streams_end_with_the_server(stream_mesh: Any, wait_for: Callable[..., None], ended: Register) -> None:
    clients: list[subprocess.Popen[bytes]] = []
    for kubectl in kubectls():
        for command in (
            ("exec", "web", "-c", "app", "--", "sh", "-c", "echo up; sleep 1000"),
            ("logs", "-f", "web", "-c", "counter"),
            ("port-forward", "pod/web", ":8080"),
        ):
            process = stream_mesh.popen(kubectl, *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            clients.append(ended(process))
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline()
    begun = time.monotonic()
    stream_mesh.stop()
    assert time.monotonic() - begun < 2
    for client in clients[:2]:
        client.wait(5)
