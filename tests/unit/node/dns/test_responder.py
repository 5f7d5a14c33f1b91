"""What is said to a query: from the table at once, and whose the rest is."""

from __future__ import annotations

import asyncio

import dnslib
from dnstools import DOMAIN, Node, answers, external, node, pack, query, read, service
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.node.dns.wire import Query

HEADER = query("api.mesh")[:12]


def with_node(*records: object, check: object) -> None:
    async def run() -> None:
        async with node(*records) as made:  # type: ignore[arg-type]
            check(made)  # type: ignore[operator]

    asyncio.run(run())


def test_a_and_aaaa_come_from_the_addresses_of_their_kind() -> None:
    def check(dns: Node) -> None:
        assert answers(dns.say(query("api.mesh"))) == [("api.mesh.", "A", "240.240.0.1")]
        assert answers(dns.say(query("api.mesh", "AAAA"))) == [("api.mesh.", "AAAA", "2001:2::1")]
        assert len(answers(dns.say(query("api.mesh", "ANY")))) == 2

    with_node(external("api.mesh", "240.240.0.1", "2001:2::1"), check=check)


def test_an_owned_name_without_the_type_is_noerror_and_empty() -> None:
    def check(dns: Node) -> None:
        for qtype in ("AAAA", "MX", "TXT", "HTTPS"):
            response = read(dns.say(query("api.mesh", qtype)))
            assert (response.header.rcode, response.rr) == (0, [])

    with_node(external("api.mesh", "240.240.0.1"), check=check)


def test_letters_are_given_back_as_asked() -> None:
    def check(dns: Node) -> None:
        assert answers(dns.say(query("API.Mesh"))) == [("API.Mesh.", "A", "1.1.1.1")]
        alias = f"API.Mesh.default.svc.{DOMAIN}"
        assert answers(dns.say(query(alias))) == [(f"{alias}.", "CNAME", "API.Mesh."), ("API.Mesh.", "A", "1.1.1.1")]

    with_node(external("api.mesh", "1.1.1.1"), check=check)


def test_an_unknown_name_of_the_mesh_domain_is_nxdomain_without_asking() -> None:
    def check(dns: Node) -> None:
        for name in (f"nobody.default.svc.{DOMAIN}", f"www.example.com.default.svc.{DOMAIN}", DOMAIN):
            assert read(dns.say(query(name))).header.rcode == dnslib.RCODE.NXDOMAIN
        assert dns.counters.forwarded == dns.counters.no_upstream == 0

    with_node(check=check)


def test_before_there_is_a_name_table_nobody_says_that_a_name_does_not_exist() -> None:
    async def test() -> None:
        async with node(informed=False) as dns:
            packet = query(f"web.default.svc.{DOMAIN}")
            assert read(dns.say(packet)).header.rcode == dnslib.RCODE.SERVFAIL
            dns.responder.update([service("web", "default", "10.0.0.1")], ())
            assert answers(dns.say(packet))

    asyncio.run(test())


def test_an_unknown_name_without_any_upstream_is_nxdomain_at_once() -> None:
    def check(dns: Node) -> None:
        response = read(dns.say(query("AppMeshClient.mesh", edns=1232)))
        assert response.header.rcode == dnslib.RCODE.NXDOMAIN
        assert response.header.aa == 0
        assert len(response.ar) == 1

    with_node(check=check)


def test_many_addresses_take_turns_at_the_front() -> None:
    ips = [f"10.1.0.{n}" for n in range(1, 5)]

    def check(dns: Node) -> None:
        view = dns.responder.view("default")
        packet = query(f"db.default.svc.{DOMAIN}")
        assert sorted(a[2] for a in answers(dns.say(packet))) == ips
        assert packet[2:] in view.hot.rotating
        firsts = {answers(dns.say(packet, tcp=True))[0][2] for _ in range(200)}
        assert firsts == set(ips)

    with_node(service("db", "default", *ips), check=check)


def test_too_much_for_udp_is_truncated_and_complete_over_tcp() -> None:
    ips = [f"10.1.{n}.1" for n in range(100)]

    def check(dns: Node) -> None:
        for size in (0, 600, 1232):
            packet = query("many.mesh", edns=size)
            answer = dns.say(packet)
            response = read(answer)
            assert response.header.tc == 1
            assert {str(r.rdata) for r in response.rr} <= set(ips)
            limit = size or 512
            assert limit - 16 < len(answer) <= limit, "what fits is there, for those who never ask over TCP"
        assert len(answers(dns.say(query("many.mesh", edns=4096)))) == 100
        assert len(answers(dns.say(query("many.mesh"), tcp=True))) == 100

    with_node(external("many.mesh", *ips), check=check)


def test_a_change_is_answered_from_then_on() -> None:
    def check(dns: Node) -> None:
        alias = f"api.mesh.default.svc.{DOMAIN}"
        for packet in (query("api.mesh"), query(alias), query("x.wild.mesh")):
            assert read(dns.say(packet)).header.rcode == dnslib.RCODE.NXDOMAIN
        dns.responder.update([external("api.mesh", "1.1.1.1")], ())
        assert answers(dns.say(query(alias)))[1:] == [("api.mesh.", "A", "1.1.1.1")]
        hot = dns.responder.view("default").hot
        assert query(alias)[2:] in hot.iovecs
        dns.responder.update([external("other.mesh", "3.3.3.3")], ())
        assert query(alias)[2:] in hot.iovecs, "a change of another name keeps it"
        dns.responder.update([external("api.mesh", "2.2.2.2")], ())
        assert query(alias)[2:] not in hot.iovecs
        assert answers(dns.say(query("api.mesh"))) == [("api.mesh.", "A", "2.2.2.2")]
        dns.responder.update([external("*.wild.mesh", "4.4.4.4")], ())
        assert len(hot) == 0
        dns.responder.update((), ["*/api.mesh"])
        assert read(dns.say(query("api.mesh"))).header.rcode == dnslib.RCODE.NXDOMAIN

    with_node(check=check)


def test_views_do_not_share_what_they_must_not() -> None:
    def check(dns: Node) -> None:
        assert answers(dns.say(query("web"), "shop")) == [("web.", "A", "10.0.0.1")]
        assert read(dns.say(query("web"), "default")).header.rcode == dnslib.RCODE.NXDOMAIN

    with_node(service("web", "shop", "10.0.0.1"), check=check)


def test_queries_with_cookies_are_answered_and_not_kept() -> None:
    record = dnslib.DNSRecord.question("api.mesh")
    record.add_ar(dnslib.EDNS0(udp_len=1232, opts=[dnslib.EDNSOption(10, b"12345678")]))

    def check(dns: Node) -> None:
        assert answers(dns.say(pack(record))) == [("api.mesh.", "A", "1.1.1.1")]
        assert len(dns.responder.view("default").hot) == 0

    with_node(external("api.mesh", "1.1.1.1"), check=check)


def test_other_classes_are_not_ours() -> None:
    def check(dns: Node) -> None:
        record = dnslib.DNSRecord(q=dnslib.DNSQuestion("api.mesh", dnslib.QTYPE.TXT, dnslib.CLASS.CH))
        assert read(dns.say(pack(record))).header.aa == 0

    with_node(external("api.mesh", "1.1.1.1"), check=check)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=100), st.binary(max_size=40).map(lambda b: HEADER + b))))
def test_no_bytes_raise(packets: list[bytes]) -> None:
    async def run() -> None:
        async with node(external("api.mesh", "1.1.1.1"), external("*.wild.mesh", "1.1.1.1")) as dns:
            for packet in packets:
                for tcp in (False, True):
                    outcome = dns.responder.respond(dns.responder.view("default"), packet, tcp=tcp)
                    assert outcome is None or isinstance(outcome, bytes | Query)
            assert dns.counters.internal_errors == 0

    asyncio.run(run())
