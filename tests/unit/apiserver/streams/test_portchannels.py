"""Port-forward without SPDY, from our own client through the API server and the node to a port inside a pod."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilotfish.api.errors import ApiError, BadRequest, NotFound, ServiceUnavailable
from pilotfish.client.kubeconfig import Kubeconfig, read_kubeconfig
from pilotfish.client.portforward import DATA, GREETING_BYTES, PROTOCOL, http_request
from pilotfish.client.stream import open_stream

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def listening(stream_mesh: Any) -> None:
    """The pod's server takes connections: it was started with the mesh, and needs a moment."""

    async def until_it_answers() -> None:
        async with asyncio.timeout(10):
            while True:
                try:
                    await http_request(config_of(stream_mesh), "default", "web", 8080, "/")
                except ServiceUnavailable:
                    await asyncio.sleep(0.02)
                else:
                    return

    asyncio.run(until_it_answers())


def config_of(mesh: Any) -> Kubeconfig:
    return read_kubeconfig(mesh.folder / "kubeconfig")


def test_an_http_answer_of_a_port_inside_a_pod(stream_mesh: Any) -> None:
    config = config_of(stream_mesh)
    assert asyncio.run(http_request(config, "default", "web", 8080, "/hi")) == (200, b"/hi")
    assert asyncio.run(http_request(config, "default", "web", 8080, "/big")) == (200, b"/big" * 200_000)
    status, _ = asyncio.run(http_request(config, "default", "web", 8080, "/hi", method="POST"))
    assert status == 501


def test_two_ports_of_one_connection_do_not_mix(stream_mesh: Any) -> None:
    async def run() -> dict[int, bytes]:
        said: dict[int, bytes] = {0: b"", 2: b""}
        path = "/api/v1/namespaces/default/pods/web/portforward"
        request = "GET /{} HTTP/1.0\r\n\r\n"
        query = [("ports", "8080"), ("ports", "8080")]
        async with asyncio.timeout(10), open_stream(config_of(stream_mesh), path, query, protocol=PROTOCOL) as stream:
            await stream.send(DATA, request.format("one").encode())
            await stream.send(2 + DATA, request.format("two").encode())
            async for channel, data in stream:
                if channel in said:
                    said[channel] += data
                if said[0].endswith(b"/one") and said[2].endswith(b"/two"):
                    break
        return said

    said = asyncio.run(run())
    assert all(text[:GREETING_BYTES] == (8080).to_bytes(2, "little") for text in said.values())


def test_what_cannot_be_had_is_told(stream_mesh: Any) -> None:
    config = config_of(stream_mesh)
    with pytest.raises(ServiceUnavailable, match="localhost:9 inside the pod: Connection refused"):
        asyncio.run(http_request(config, "default", "web", 9, "/"))
    with pytest.raises(NotFound, match="nobody"):
        asyncio.run(http_request(config, "default", "nobody", 8080, "/"))
    with pytest.raises(ApiError, match="error dialing backend"):
        asyncio.run(http_request(config, "default", "lost", 8080, "/"))


@pytest.mark.parametrize("query", [[], [("ports", "0")], [("ports", "http")]])
def test_ports_that_are_none_are_refused(stream_mesh: Any, query: list[tuple[str, str]]) -> None:
    async def run() -> None:
        path = "/api/v1/namespaces/default/pods/web/portforward"
        async with open_stream(config_of(stream_mesh), path, query, protocol=PROTOCOL):
            pass

    with pytest.raises(BadRequest, match="ports"):
        asyncio.run(run())
