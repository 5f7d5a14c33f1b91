"""The subscription speaks delta xDS with a real gRPC server, and keeps its names while there is none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from dnstools import external, service, until
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from pilotfish.api.protos import NAME_TABLE_TYPE, NameTable
from pilotfish.home import Home, Settings
from pilotfish.node.dns import process
from pilotfish.node.dns.names import Subscription, read_resource
from pilotfish.node.dns.table import NameRecord
from pilotfish.pki.provision import provision


def resource(record: NameRecord) -> Any:
    table = NameTable()
    info = table.table[record.host]
    info.ips.extend(record.ips)
    info.registry, info.shortname, info.namespace = record.registry, record.shortname, record.namespace
    made = discovery_pb2.Resource(name=record.resource, version=record.version)
    made.resource.type_url = NAME_TABLE_TYPE
    made.resource.value = table.SerializeToString()
    return made


class ScriptedAds(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """Sends what a test puts into `outbox`, keeps what comes in."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.outbox: asyncio.Queue[Any] = asyncio.Queue()

    async def DeltaAggregatedResources(self, requests: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        async def read() -> None:
            async for request in requests:
                self.requests.append(request)

        reading = asyncio.create_task(read())
        try:
            while True:
                await context.write(await self.outbox.get())
        finally:
            reading.cancel()

    def send(self, *records: NameRecord, removed: Sequence[str] = (), nonce: str = "n") -> None:
        self.outbox.put_nowait(
            discovery_pb2.DeltaDiscoveryResponse(
                type_url=NAME_TABLE_TYPE,
                nonce=nonce,
                resources=[resource(r) for r in records],
                removed_resources=removed,
            )
        )


@contextlib.asynccontextmanager
async def ads(
    port: int = 0, host: str = "127.0.0.1", tls: grpc.ServerCredentials | None = None
) -> AsyncIterator[tuple[ScriptedAds, int]]:
    servicer, server = ScriptedAds(), grpc.aio.server()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(servicer, server)
    address = f"{host}:{port}"
    bound = server.add_secure_port(address, tls) if tls else server.add_insecure_port(address)
    await server.start()
    try:
        yield servicer, bound
    finally:
        await server.stop(None)


class Names:
    """A table that takes changes over as the DNS process does."""

    def __init__(self) -> None:
        self.records: dict[str, NameRecord] = {}

    def change(self, changed: Sequence[NameRecord], removed: Sequence[str]) -> None:
        for name in removed:
            self.records.pop(name, None)
        self.records.update((r.resource, r) for r in changed)


@contextlib.asynccontextmanager
async def subscribed(names: Names, port: int) -> AsyncIterator[Subscription]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    subscription = Subscription(
        lambda: grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options),
        "dns~10.0.0.1~node.kube-system~cluster.local",
        lambda: names.records,
        names.change,
    )
    running = asyncio.create_task(subscription.run())
    try:
        yield subscription
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


WEB, API = service("web", "shop", "10.0.0.1"), external("api.mesh", "240.240.0.1", version="7")


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 15))


def test_names_arrive_and_are_acknowledged() -> None:
    async def test() -> None:
        names = Names()
        async with ads() as (server, port), subscribed(names, port) as subscription:
            server.send(WEB, API, nonce="1")
            await until(lambda: names.records == {WEB.resource: WEB, API.resource: API}, "both names")
            assert subscription.connected
            server.send(removed=[WEB.resource], nonce="2")
            await until(lambda: set(names.records) == {API.resource}, "one is removed")
            await until(lambda: len(server.requests) == 3, "both responses are acknowledged")
            first, *acks = server.requests
            assert (first.node.id, first.type_url) == ("dns~10.0.0.1~node.kube-system~cluster.local", NAME_TABLE_TYPE)
            assert not first.resource_names_subscribe
            assert [(a.response_nonce, a.HasField("error_detail")) for a in acks] == [("1", False), ("2", False)]

    run(test())


def test_a_malformed_resource_is_refused_and_the_names_stay() -> None:
    async def test() -> None:
        names = Names()
        async with ads() as (server, port), subscribed(names, port):
            server.send(API)
            server.send(WEB, NameRecord("no-scope", "1"), nonce="bad")
            await until(lambda: len(server.requests) == 3, "the answer to the bad response")
            assert "no-scope" in server.requests[-1].error_detail.message
            assert set(names.records) == {API.resource}

    run(test())


def test_a_server_that_comes_back_hears_what_is_known() -> None:
    async def test() -> None:
        names = Names()
        async with contextlib.AsyncExitStack() as stack:
            async with ads() as (server, port):
                subscription = await stack.enter_async_context(subscribed(names, port))
                server.send(API)
                await until(lambda: bool(names.records), "the name")
            await until(lambda: not subscription.connected, "the loss is noticed")
            assert names.records == {API.resource: API}
            async with ads(port) as (again, _):
                await until(lambda: bool(again.requests), "it is back")
                assert dict(again.requests[0].initial_resource_versions) == {API.resource: "7"}
                again.send(WEB, removed=[API.resource])
                await until(lambda: set(names.records) == {WEB.resource}, "the difference is taken over")

    run(test())


def test_the_process_finds_its_control_plane_with_mutual_tls(tmp_path: Path) -> None:
    home = Home(tmp_path)

    def settings(port: int) -> Settings:
        return Settings(
            node_name="n", api_port=1, xds_port=port, pod_cidr="127.214.0.0/16", service_cidr="10.96.0.0/20"
        )

    files = provision(home, settings(0))
    pair = files.xds_server.load()
    tls = grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], root_certificates=files.ca.read_bytes(), require_client_auth=True
    )

    async def test() -> None:
        names = Names()
        async with ads(host=settings(0).gateway_ip, tls=tls) as (server, port):
            connect = process.control_plane(home, settings(port)).connect
            subscription = Subscription(connect, process.node_id(settings(port)), lambda: names.records, names.change)
            running = asyncio.create_task(subscription.run())
            server.send(API)
            await until(lambda: set(names.records) == {API.resource}, "the name")
            assert server.requests[0].node.id == "dns~127.214.0.1~n.kube-system~cluster.local"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(test())


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [("api.mesh", b"", "is named"), ("*/api.mesh", b"\xff", "not a name table"), ("*/api.mesh", b"", "no entry")],
)
def test_what_is_no_name_is_told(name: str, body: bytes, expected: str) -> None:
    made = discovery_pb2.Resource(name=name)
    made.resource.value = body
    with pytest.raises(ValueError, match=expected):
        read_resource(made)
