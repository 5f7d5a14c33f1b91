"""First lookups wait for the pod's proxy, for so long and no longer, and later ones find their answer as ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from dnstools import DOMAIN, answers, external, query, service, until
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.node.dns.counters import Counters
from pilotfish.node.dns.demands import Demands
from pilotfish.node.dns.names import Subscription
from pilotfish.node.dns.responder import Held, Responder, View
from pilotfish.node.dns.servers import Servers
from pilotfish.node.dns.table import NameRecord, Table
from pilotfish.node.dns.upstream import Upstream
from pilotfish.node.dns.wire import Query

RECORDS = (external("api.mesh", "240.240.0.1"), service("web", "shop", "10.96.0.1"))
POD = "10.0.0.2"


class Lookups:
    """The parts between a query and the control plane; what goes there is in `subscribed` and `unsubscribed`."""

    def __init__(self, upstream: Upstream, patience: float) -> None:
        self.counters = Counters()
        self.demands = Demands(self.counters, patience)
        self.table = Table(DOMAIN)
        self.responder = Responder(self.table, upstream, DOMAIN, self.counters, self.demands)
        self.responder.update(RECORDS, ())
        self.view = self.responder.pod_view("shop", POD)
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []

    def connect(self) -> None:
        def change(names: Any, gone: Any) -> None:
            self.subscribed += names
            self.unsubscribed += gone

        self.demands.connecting(change)
        self.demands.connected()

    def ask(self, packet: bytes, view: View | None = None) -> bytes | Held:
        outcome = self.responder.respond(view or self.view, packet, tcp=False)
        assert outcome is not None
        assert not isinstance(outcome, Query)
        return outcome

    def start(self, packet: bytes) -> asyncio.Task[bytes]:
        held = self.ask(packet)
        assert isinstance(held, Held)
        return asyncio.create_task(self.responder.resolve(held, tcp=False))


@contextlib.asynccontextmanager
async def lookups(patience: float = 10.0, *, connected: bool = True) -> AsyncIterator[Lookups]:
    async with asyncio.TaskGroup() as group:
        servers = Servers(Path("/nonexistent"), 53)
        made = Lookups(Upstream(group, servers, Counters(), port=53), patience)
        if connected:
            made.connect()
        yield made


def name_of(host: str, pod: str = POD) -> str:
    return demand_name(Demand(pod, host))


def addresses(body: bytes) -> list[str]:
    return [data for _, kind, data in answers(b"\0\0" + body) if kind == "A"]


def test_the_first_lookup_waits_for_the_grant_and_later_ones_do_not() -> None:
    async def test() -> None:
        async with lookups() as dns:
            first, second = dns.start(query("api.mesh")), dns.start(query("API.mesh"))
            await until(lambda: dns.counters.held == 2, "both wait")
            assert dns.subscribed == [name_of("api.mesh")], "they wait for the same"
            assert not first.done()
            dns.demands.granted(name_of("api.mesh"), "1")
            assert addresses(await first) == addresses(await second) == ["240.240.0.1"]
            assert query("api.mesh")[2:] in dns.view.hot.iovecs
            assert isinstance(dns.ask(query("api.mesh", edns=1232)), bytes)
            assert dns.counters.held == 2

    asyncio.run(test())


def test_each_pod_asks_for_itself_by_the_hosts_own_name() -> None:
    async def test() -> None:
        async with lookups() as dns:
            for name in ("web", "web.shop", f"web.shop.svc.{DOMAIN}"):
                assert isinstance(dns.ask(query(name)), Held)
            other = dns.responder.pod_view("shop", "10.0.0.3")
            assert isinstance(dns.ask(query("web"), other), Held)
            host = f"web.shop.svc.{DOMAIN}"
            assert dns.subscribed == [name_of(host), name_of(host, "10.0.0.3")]
            assert isinstance(dns.ask(query("web"), dns.responder.view("shop")), bytes)

    asyncio.run(test())


def test_an_answer_without_an_address_waits_for_nothing() -> None:
    async def test() -> None:
        async with lookups() as dns:
            for qtype in ("AAAA", "MX"):
                assert isinstance(dns.ask(query("api.mesh", qtype)), bytes)
            assert dns.subscribed == []

    asyncio.run(test())


def test_after_the_bound_it_is_answered_and_counted_once() -> None:
    async def test() -> None:
        async with lookups(patience=0.05) as dns:
            assert addresses(await dns.start(query("api.mesh"))) == ["240.240.0.1"]
            assert (dns.counters.held, dns.counters.held_in_vain) == (1, 1)
            assert isinstance(dns.ask(query("api.mesh")), bytes)

    asyncio.run(test())


def test_while_the_control_plane_is_away_nobody_waits() -> None:
    async def test() -> None:
        async with lookups(connected=False) as dns:
            assert isinstance(dns.ask(query("api.mesh")), bytes)
            assert len(dns.view.hot) == 0, "it is not what to say once the control plane is there"
            dns.connect()
            assert list(dns.demands.names) == [name_of("api.mesh")]
            waiting = dns.start(query("api.mesh"))
            await until(lambda: dns.counters.held == 1, "it waits")
            dns.demands.disconnected()
            assert addresses(await waiting) == ["240.240.0.1"]
            assert dns.counters.held_in_vain == 0

    asyncio.run(test())


def test_what_is_revoked_is_waited_for_again() -> None:
    async def test() -> None:
        async with lookups() as dns:
            waiting = dns.start(query("api.mesh"))
            dns.demands.granted(name_of("api.mesh"), "1")
            await waiting
            dns.demands.revoked(name_of("api.mesh"))
            assert len(dns.view.hot) == 0
            again = dns.start(query("api.mesh"))
            assert dns.unsubscribed == [name_of("api.mesh")]
            assert dns.subscribed == [name_of("api.mesh")] * 2, "it is a first lookup again"
            dns.responder.update([external("api.mesh", "240.240.0.9", version="2")], ())
            dns.demands.granted(name_of("api.mesh"), "1")
            assert addresses(await again) == ["240.240.0.9"]

    asyncio.run(test())


def test_a_pod_that_is_gone_asks_for_nothing() -> None:
    async def test() -> None:
        async with lookups() as dns:
            waiting = dns.start(query("api.mesh"))
            await asyncio.sleep(0)
            dns.responder.forget_pod(POD)
            await waiting
            assert dns.unsubscribed == [name_of("api.mesh")]
            assert list(dns.demands.names) == []

    asyncio.run(test())


def test_a_name_that_goes_while_it_is_waited_for_is_unknown() -> None:
    async def test() -> None:
        async with lookups() as dns:
            waiting = dns.start(query("web"))
            await asyncio.sleep(0)
            dns.responder.update((), [record.resource for record in RECORDS])
            dns.demands.granted(name_of(f"web.shop.svc.{DOMAIN}"), "1")
            assert (await waiting)[1] & 0x0F == 3, "NXDOMAIN"

    asyncio.run(test())


class RecordingAds(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """Answers the first request of a stream with nothing, and each demand with its grant."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def DeltaAggregatedResources(self, requests: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        async for request in requests:
            self.requests.append(request)
            granted = [name for name in request.resource_names_subscribe if name.startswith("@")]
            if granted or not request.response_nonce:
                response = discovery_pb2.DeltaDiscoveryResponse(type_url=NAME_TABLE_TYPE, nonce="n")
                for name in granted:
                    added = response.resources.add(name=name, version="1")
                    added.resource.type_url = NAME_TABLE_TYPE
                await context.write(response)


@pytest.mark.parametrize("before", [True, False])
def test_demands_travel_on_the_stream_of_the_name_table(before: bool) -> None:
    async def test() -> None:
        demands, applied = Demands(Counters()), []
        servicer, server = RecordingAds(), grpc.aio.server()
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        held: dict[str, NameRecord] = {}
        subscription = Subscription(
            lambda: grpc.aio.insecure_channel(f"127.0.0.1:{port}"),
            "dns~10.0.0.1~node.kube-system~cluster.local",
            lambda: held,
            lambda changed, removed: applied.append((changed, removed)),
            demands=demands,
        )
        demand = Demand(POD, "api.mesh")
        if before:
            demands.hold(demand)
        task = asyncio.create_task(subscription.run())
        try:
            await until(lambda: subscription.connected, "connected")
            demands.hold(demand)
            await until(lambda: demands.fulfilled(demand), "granted")
            named = [name for request in servicer.requests for name in request.resource_names_subscribe]
            assert named == ["*", name_of("api.mesh")]
            await until(lambda: servicer.requests[-1].response_nonce == "n", "acknowledged")
            assert not any(changed or removed for changed, removed in applied), "a grant is no name"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await server.stop(None)

    asyncio.run(asyncio.wait_for(test(), 15))
