"""Where a forwarded port leads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pilotfish.node.bootstrap import ADMIN_PORT
from pilotfish.node.kubelet.pods import RunningPod
from pilotfish.node.kubelet.portforward import connect
from pilotfish.node.nodecontext import Attachment
from pilotfish.node.proxy import ADMIN_SOCKET
from pilotfish.node.sandbox import PodFolder


def test_the_admin_port_of_a_pod_on_the_hosts_network_is_its_proxys_socket(tmp_path: Path) -> None:
    # Longer than an address of a Unix socket may be.
    folder = PodFolder(tmp_path / ("a" * 120))
    folder.proxy.mkdir(parents=True)
    short = tmp_path / "s"
    short.symlink_to(folder.proxy)
    pod = RunningPod(folder, Attachment("127.0.0.1", None))

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"admin")
        writer.close()

    async def run() -> bytes:
        server = await asyncio.start_unix_server(greet, str(short / ADMIN_SOCKET))
        async with server:
            reader, writer = await connect(pod, ADMIN_PORT)
            said = await reader.read()
            writer.close()
            return said

    assert asyncio.run(run()) == b"admin"


def test_a_pod_without_a_network_has_no_ports(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no network yet"):
        asyncio.run(connect(RunningPod(PodFolder(tmp_path), None), 80))
