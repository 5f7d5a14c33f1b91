"""What is not ours goes to the host's resolvers and comes back unchanged; what they fail at has its own answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import dnslib
import pytest
from dnstools import (
    FakeResolver,
    Node,
    answers,
    node,
    pack,
    query,
    read,
    resolv_conf,
    resolver_reply,
    until,
)

from pilotfish.node.dns import servers, upstream
from pilotfish.node.dns.wire import Query

WWW = "www.example.com 30 IN A 192.0.2.80"
LOCAL = "nameserver 127.0.0.1"


async def ask(dns: Node, packet: bytes, *, tcp: bool = False) -> bytes:
    outcome = dns.responder.respond(dns.responder.view("default"), packet, tcp=tcp)
    if isinstance(outcome, Query):
        outcome = await dns.responder.resolve(outcome, tcp=tcp)
    assert outcome is not None
    return packet[:2] + outcome


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, shorter, for tests of servers that do not answer."""
    monkeypatch.setattr(upstream, "TOTAL_SECONDS", 0.5)
    monkeypatch.setattr(upstream, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(servers, "PROBE_SECONDS", 0.4)
    monkeypatch.setattr(servers, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(servers, "FIRST_INTERVAL_SECONDS", 0.05)


def test_queries_and_answers_travel_unchanged(tmp_path: Path) -> None:
    def reply(asked: dnslib.DNSRecord, tcp: bool) -> bytes:
        return resolver_reply(WWW)(asked, tcp) + b"whatever follows"

    async def test() -> None:
        with FakeResolver(reply).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                packet = query("www.example.com", edns=1400, flags="do")
                response = await ask(dns, packet)
                sent = resolver.queries[-1]
                assert sent[2:] == packet[2:]
                assert response == packet[:2] + reply(read(sent), False)[2:]

    run(test())


def test_ids_are_not_those_of_the_client(tmp_path: Path) -> None:
    async def test() -> None:
        with FakeResolver(resolver_reply("www.example.com 0 IN A 192.0.2.80")).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                for _ in range(8):
                    assert read(await ask(dns, query("www.example.com", ident=7))).header.id == 7
                ids = {q[:2] for q in resolver.queries}
                assert len(ids) > 4

    run(test())


def test_a_kept_answer_is_given_in_the_letters_of_each_client(tmp_path: Path) -> None:
    async def test() -> None:
        with FakeResolver(resolver_reply(WWW)).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                await ask(dns, query("www.example.com"))
                response = read(await ask(dns, query("WWW.Example.COM", ident=99)))
                assert (response.header.id, str(response.q.qname)) == (99, "WWW.Example.COM.")
                assert resolver.names == ["www.example.com."]
                assert dns.counters.upstream_cached == 1
                await ask(dns, query("www.example.com", edns=1232, flags="do"))
                assert len(resolver.names) == 2, "a question with DO is another one"

    run(test())


def test_concurrent_questions_are_asked_once(tmp_path: Path) -> None:
    let_go = threading.Event()

    def reply(asked: dnslib.DNSRecord, tcp: bool) -> bytes:
        if str(asked.q.qname) != ".":
            let_go.wait(5)
        return resolver_reply(WWW)(asked, tcp)

    async def test() -> None:
        with FakeResolver(reply).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                await until(lambda: "resolves" in dns.servers.report.values(), "the probe")
                asking = [asyncio.create_task(ask(dns, query("www.example.com", ident=n))) for n in range(10)]
                await until(lambda: dns.counters.merged == 9, "nine wait for the first")
                asking[0].cancel()
                let_go.set()
                responses = await asyncio.gather(*asking[1:])
                assert [read(r).header.id for r in responses] == list(range(1, 10))
                assert dns.counters.forwarded == 1

    run(test())


def test_tcp_is_asked_over_tcp(tmp_path: Path) -> None:
    over: list[bool] = []

    def reply(asked: dnslib.DNSRecord, tcp: bool) -> bytes:
        if str(asked.q.qname) != ".":
            over.append(tcp)
        return resolver_reply(*(f"www.example.com 30 IN A 192.0.2.{n}" for n in range(100)))(asked, tcp)

    async def test() -> None:
        with FakeResolver(reply).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                assert len(answers(await ask(dns, query("www.example.com"), tcp=True))) == 100
                assert over == [True]
                response = read(await ask(dns, query("www.example.com")))
                assert (response.header.tc, response.rr) == (1, []), "a server that sends too much over UDP"

    run(test())


@pytest.mark.usefixtures("impatient")
def test_a_silent_server_is_no_upstream(tmp_path: Path) -> None:
    """One that never answers a probe is asked nothing: NXDOMAIN at once, and at first after the probe's time."""

    async def test() -> None:
        with FakeResolver(lambda asked, tcp: None).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.NXDOMAIN
                start = time.monotonic()
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.NXDOMAIN
                assert time.monotonic() - start < 0.1
                assert resolver.names == []

    run(test())


def test_a_closed_port_is_no_upstream(tmp_path: Path) -> None:
    with FakeResolver(lambda asked, tcp: None).running() as resolver:
        port = resolver.port

    async def test() -> None:
        async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=port) as dns:
            assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.NXDOMAIN

    run(test())


@pytest.mark.usefixtures("impatient")
def test_a_server_that_falls_silent_is_servfail_then_no_upstream_then_back(tmp_path: Path) -> None:
    silent = threading.Event()

    def reply(asked: dnslib.DNSRecord, tcp: bool) -> bytes | None:
        return None if silent.is_set() else resolver_reply(WWW.replace(" 30 ", " 0 "))(asked, tcp)

    async def test() -> None:
        with FakeResolver(reply).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                assert answers(await ask(dns, query("www.example.com")))
                silent.set()
                start = time.monotonic()
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.SERVFAIL
                assert time.monotonic() - start < 2 * upstream.TOTAL_SECONDS
                await until(lambda: not dns.servers.usable, "the server counts as gone")
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.NXDOMAIN
                silent.clear()
                await until(lambda: bool(dns.servers.usable), "the server is back", 8)
                assert answers(await ask(dns, query("www.example.com")))

    run(test())


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_a_server_that_only_ever_refuses_is_no_upstream(tmp_path: Path, rcode: str) -> None:
    async def test() -> None:
        with FakeResolver(resolver_reply(rcode=rcode)).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.NXDOMAIN

    run(test())


def test_a_refusal_of_a_good_server_comes_back(tmp_path: Path) -> None:
    def reply(asked: dnslib.DNSRecord, tcp: bool) -> bytes:
        return resolver_reply(rcode="NOERROR" if str(asked.q.qname) == "." else "REFUSED")(asked, tcp)

    async def test() -> None:
        with FakeResolver(reply).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.REFUSED

    run(test())


@pytest.mark.usefixtures("impatient")
def test_forgeries_are_passed_over(tmp_path: Path) -> None:
    """A response to another question, or no response at all, is not taken for the answer."""

    def reply(asked: dnslib.DNSRecord, tcp: bool) -> bytes:
        if str(asked.q.qname) == ".":
            return resolver_reply()(asked, tcp)
        asked.q.qname = "evil.example.com"
        return pack(asked.reply())

    async def test() -> None:
        with FakeResolver(reply).running() as resolver:
            async with node(resolv_conf=resolv_conf(tmp_path, LOCAL), port=resolver.port) as dns:
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.SERVFAIL

    run(test())


def test_the_second_server_answers_where_the_first_does_not(tmp_path: Path) -> None:
    async def test() -> None:
        with FakeResolver(resolver_reply(WWW)).running() as resolver:
            path = resolv_conf(tmp_path, "nameserver 127.0.0.2", LOCAL)
            async with node(resolv_conf=path, port=resolver.port) as dns:
                assert answers(await ask(dns, query("www.example.com")))
                assert dns.servers.report == {"127.0.0.2": "does not answer", "127.0.0.1": "resolves"}

    run(test())


def test_resolv_conf_is_read_again(tmp_path: Path) -> None:
    async def test() -> None:
        with FakeResolver(resolver_reply(WWW)).running() as resolver:
            path = tmp_path / "resolv.conf"
            async with node(resolv_conf=path, port=resolver.port) as dns:
                assert read(await ask(dns, query("www.example.com"))).header.rcode == dnslib.RCODE.NXDOMAIN
                resolv_conf(tmp_path, LOCAL, "search corp.example")
                await until(lambda: "resolves" in dns.servers.report.values(), "the new server is known")
                assert answers(await ask(dns, query("www.example.com")))
                assert b"\x04corp\x07example\0" in dns.responder.view("default").search

    run(test())
