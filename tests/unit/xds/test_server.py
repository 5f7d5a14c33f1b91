"""Streams over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files
from pilotfish.xds.server import SERVICE, AdsServer, mutual_tls, serving
from pilotfish.xds.source import LISTENER, Resource

DELTA_METHOD = f"/{SERVICE}/DeltaAggregatedResources"
Fake = Any


async def until(holds: Callable[[], object], timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def stream(target: str, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Any]:
    options = [("grpc.ssl_target_name_override", "istiod.istio-system.svc"), ("grpc.max_receive_message_length", -1)]
    channel = (
        grpc.aio.secure_channel(target, credentials, options=options)
        if credentials
        else grpc.aio.insecure_channel(target, options=options)
    )
    async with channel:
        yield channel.stream_stream(DELTA_METHOD)()


def asking(node: str = "sidecar~10.0.0.1~web-1.default~x", **fields: Any) -> bytes:
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=LISTENER, **fields)
    request.node.id = node
    body: bytes = request.SerializeToString()
    return body


async def response(call: Any) -> Any:
    return discovery_pb2.DeltaDiscoveryResponse.FromString(await call.read())


def answer(to: Any) -> bytes:
    body: bytes = discovery_pb2.DeltaDiscoveryRequest(type_url=LISTENER, response_nonce=to.nonce).SerializeToString()
    return body


def test_a_proxy_is_served_until_it_goes(source: Fake) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        source.set(LISTENER, Resource("l", "1", b""))
        async with serving([ads.service()], "127.0.0.1:0", None) as port, stream(f"127.0.0.1:{port}") as call:
            await call.write(asking())
            first = await response(call)
            assert [r.name for r in first.resources] == ["l"]
            await call.write(answer(first))
            await until(lambda: ads.proxies()[0].types[LISTENER].synced)
            source.set(LISTENER, Resource("l", "2", b""))
            assert [r.version for r in (await response(call)).resources] == ["2"]
            (proxy,) = ads.proxies()
            assert (proxy.node.name, proxy.types[LISTENER].resources[0].state) == ("web-1", "SENT")
            call.cancel()
            await until(lambda: not ads.proxies())
            assert source.configs == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (asking("nonsense"), grpc.StatusCode.INVALID_ARGUMENT),
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (b"", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_is_not_understood_is_refused(source: Fake, message: bytes, code: grpc.StatusCode) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        async with serving([ads.service()], "127.0.0.1:0", None) as port, stream(f"127.0.0.1:{port}") as call:
            await call.write(message)
            assert await call.code() is code

    asyncio.run(run())


def test_a_stream_that_breaks_the_protocol_later_is_ended(source: Fake) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        async with serving([ads.service()], "127.0.0.1:0", None) as port, stream(f"127.0.0.1:{port}") as call:
            await call.write(asking())
            await response(call)
            await call.write(b"\xff\xff\xff")
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            await until(lambda: not ads.proxies() and not source.configs)

    asyncio.run(run())


def test_the_certificate_decides_who_may_connect(source: Fake, tmp_path: Path) -> None:
    authority = Authority.at(Files(tmp_path))
    server = authority.issue_server("istiod", SubjectNames.of(dns=["istiod.istio-system.svc"]))
    identity = SubjectNames.of(uris=["spiffe://cluster.local/ns/default/sa/web"])
    pair = authority.issue_client("", names=identity)
    credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)

    async def code(target: str, node: str) -> grpc.StatusCode | None:
        async with stream(target, credentials) as call:
            await call.write(asking(node))
            body = await _read_or_none(call)
            return None if body else await call.code()

    async def run() -> None:
        ads = AdsServer(source, {"cluster.local"})
        async with serving([ads.service()], "127.0.0.1:0", mutual_tls(server, authority.pem)) as port:
            target = f"127.0.0.1:{port}"
            assert await code(target, "sidecar~10.0.0.1~web-1.default~x") is None
            assert await code(target, "sidecar~10.0.0.1~web-1.other~x") is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(run())


async def _read_or_none(call: Any) -> bytes | None:
    try:
        body: bytes = await call.read()
    except grpc.aio.AioRpcError:
        return None
    return body


def test_a_proxy_that_does_not_read_delays_nobody_and_costs_one_response(source: Fake) -> None:
    """Its window is full after some 64 KiB; what changes from then on is remembered by name."""
    large = 1 << 20

    async def run() -> None:
        ads = AdsServer(source, None)
        source.set(LISTENER, Resource("l", "0", bytes(large)))
        async with serving([ads.service()], "127.0.0.1:0", None) as port:
            target = f"127.0.0.1:{port}"
            async with stream(target) as slow, stream(target) as quick:
                await slow.write(asking("sidecar~10.0.0.1~slow.default~x"))
                await until(lambda: ads.proxies())
                await quick.write(asking("sidecar~10.0.0.2~quick.default~x"))
                for version in range(50):
                    source.set(LISTENER, Resource("l", str(version), bytes(large)))
                    got = await response(quick)
                    await quick.write(answer(got))
                    if version == 49:
                        break
                while got.resources[0].version != "49":
                    got = await response(quick)
                    await quick.write(answer(got))
                (state,) = [p.types[LISTENER] for p in ads.proxies() if p.node.name == "slow"]
                assert (state.nonce_sent, state.waiting) == ("1", 1)

    asyncio.run(run())


def test_it_listens_on_unix_sockets_too(source: Fake, tmp_path: Path) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        address = f"unix:{tmp_path}/xds.sock"
        async with serving([ads.service()], address, None), stream(address) as call:
            await call.write(asking())
            assert (await response(call)).type_url == LISTENER

    asyncio.run(run())


def test_a_port_that_is_taken_is_named(source: Fake) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        async with serving([ads.service()], "127.0.0.1:0", None) as port:
            with pytest.raises(OSError, match=f"cannot serve xDS on 127.0.0.1:{port}"):
                async with serving([ads.service()], f"127.0.0.1:{port}", None):
                    raise AssertionError("two servers on one port")

    asyncio.run(run())


def test_stopping_the_server_ends_every_stream_and_lets_go_of_its_configuration(source: Fake) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        async with serving([ads.service()], "127.0.0.1:0", None) as port, stream(f"127.0.0.1:{port}") as call:
            await call.write(asking())
            await response(call)
            ended: Awaitable[grpc.StatusCode] = call.code()
        assert await ended is not grpc.StatusCode.OK
        await until(lambda: not ads.proxies() and not source.configs)

    asyncio.run(run())
