"""How proxies end."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Container, Pod
from pilotfish.node import draining, proxy
from pilotfish.node.kubelet.pods import RunningPod
from pilotfish.node.nodecontext import Attachment
from pilotfish.node.sandbox import PodFolder

HERE = RunningPod(PodFolder(Path("/")), Attachment("127.0.0.1", None))
"""A pod on the network of the test."""


def container(role: str, **config: Any) -> Container:
    document = {
        "name": "istio-proxy",
        "image": "istio/proxyv2:1.30.0",
        "args": ["proxy", role],
        "env": [{"name": "PROXY_CONFIG", "value": json.dumps(config)}],
    }
    pod: Pod = decode(POD, {"spec": {"containers": [document]}})
    found = proxy.proxy_container(pod)
    assert found is not None
    return found


def drained(role: str, answer: bytes) -> bytes:
    """What a proxy's admin interface is asked."""

    async def run() -> bytes:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readline())
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await draining.drain(HERE, container(role, proxyAdminPort=port))
        return asked[0]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("role", "path"),
    [("sidecar", b"/drain_listeners?inboundonly&graceful"), ("router", b"/drain_listeners?graceful")],
)
def test_a_proxy_is_told_that_it_ends(role: str, path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert drained(role, b"HTTP/1.1 200 OK\r\n\r\n") == b"POST " + path + b" HTTP/1.1\r\n"
    assert not caplog.records


def test_one_that_cannot_be_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        drained("router", b"HTTP/1.1 503 Unavailable\r\n\r\n")
        asyncio.run(draining.drain(HERE, container("router", proxyAdminPort=1)))
    assert [record.message.partition(":")[0] for record in caplog.records] == ["a proxy that ends is not drained"] * 2


@pytest.mark.covers("MeshConfig.defaultConfig.terminationDrainDuration")
def test_how_long_it_goes_on() -> None:
    assert draining.patience(container("router"), 30) == 5
    assert draining.patience(container("router", terminationDrainDuration="12s"), 30) == 12
    assert draining.patience(container("router", terminationDrainDuration="60s"), 30) == 29
    assert draining.patience(container("router"), 0.5) == 0
    assert draining.patience(container("sidecar"), 30) == 0, "its containers have ended"
