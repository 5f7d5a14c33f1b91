"""Names that stand for others: ExternalName Services, of names of the mesh and of any other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dnslib
from dnstools import (
    DOMAIN,
    FakeResolver,
    Node,
    answers,
    external,
    node,
    query,
    read,
    resolv_conf,
    resolver_reply,
    service,
)

from pilotfish.node.dns.responder import Aliased
from pilotfish.node.dns.table import NameRecord

ALIAS = f"shop.default.svc.{DOMAIN}"


def alias(canonical: str, name: str = "shop") -> NameRecord:
    host = f"{name}.default.svc.{DOMAIN}"
    return NameRecord(f"*/{host}", "1", (), "Kubernetes", name, "default", canonical=canonical)


def within(*records: NameRecord, check: object) -> None:
    async def run() -> None:
        async with node(*records) as made:
            check(made)  # type: ignore[operator]

    asyncio.run(run())


def test_an_alias_of_a_name_of_the_mesh() -> None:
    def check(dns: Node) -> None:
        for name in (ALIAS, "shop", "shop.default", "shop.default.svc", f"{ALIAS}.default.svc.{DOMAIN}"):
            assert answers(dns.say(query(name))) == [(f"{name}.", "CNAME", "Api.Mesh."), ("Api.Mesh.", "A", "1.1.1.1")]
        assert answers(dns.say(query(ALIAS, "AAAA"))) == [(f"{ALIAS}.", "CNAME", "Api.Mesh.")]
        dns.responder.update([external("api.mesh", "2.2.2.2")], ())
        assert answers(dns.say(query(ALIAS)))[1:] == [("Api.Mesh.", "A", "2.2.2.2")], "nothing old is kept"
        dns.responder.update((), [f"*/{ALIAS}"])
        assert read(dns.say(query(ALIAS))).header.rcode == dnslib.RCODE.NXDOMAIN

    within(alias("Api.Mesh"), external("api.mesh", "1.1.1.1"), check=check)


def test_aliases_of_aliases_and_one_that_leads_round() -> None:
    def check(dns: Node) -> None:
        found = answers(dns.say(query(ALIAS)))
        assert found == [
            (f"{ALIAS}.", "CNAME", f"web.default.svc.{DOMAIN}."),
            (f"web.default.svc.{DOMAIN}.", "A", "10.0.0.1"),
        ]
        assert answers(dns.say(query("round.default"))) == []

    one, two = f"one.default.svc.{DOMAIN}", f"round.default.svc.{DOMAIN}"
    web = f"web.default.svc.{DOMAIN}"
    within(alias(one), alias(web, "one"), service("web", "default", "10.0.0.1"), alias(two, "round"), check=check)


def test_a_name_of_the_mesh_that_there_is_not() -> None:
    def check(dns: Node) -> None:
        response = read(dns.say(query(ALIAS)))
        assert response.header.rcode == dnslib.RCODE.NXDOMAIN
        assert [str(r.rdata) for r in response.rr] == [f"gone.default.svc.{DOMAIN}."]

    within(alias(f"gone.default.svc.{DOMAIN}"), check=check)


def ask(folder: Path, resolver: FakeResolver, *packets: bytes, tcp: bool = False) -> list[bytes]:
    """What is answered when names that are not ours go to a resolver."""

    async def run() -> list[bytes]:
        found = []
        with resolver.running():
            path = resolv_conf(folder, "nameserver 127.0.0.1")
            async with node(alias("www.Example.com"), resolv_conf=path, port=resolver.port) as dns:
                await dns.servers.first_look()
                for packet in packets:
                    outcome = dns.responder.respond(dns.responder.view("default"), packet, tcp=tcp)
                    if isinstance(outcome, Aliased):
                        outcome = await dns.responder.resolve(outcome, tcp=tcp)
                    assert isinstance(outcome, bytes)
                    found.append(packet[:2] + outcome)
        return found

    return asyncio.run(run())


def test_an_alias_of_a_name_elsewhere_is_looked_up_there(tmp_path: Path) -> None:
    resolver = FakeResolver(resolver_reply("www.example.com 60 CNAME cdn.test", "cdn.test 60 A 9.9.9.9"))
    first, again, text = ask(tmp_path, resolver, query(ALIAS, edns=1232), query(ALIAS), query(ALIAS, "TXT"))
    expected = [(f"{ALIAS}.", "CNAME", "www.Example.com."), ("www.Example.com.", "A", "9.9.9.9")]
    assert answers(first) == answers(again) == expected
    assert len(read(first).ar) == 1
    assert answers(text) == expected[:1], "other types are for the client to ask"
    assert set(resolver.names) == {"www.Example.com."}


def test_what_the_resolver_does_not_know_is_not_there(tmp_path: Path) -> None:
    [response] = ask(tmp_path, FakeResolver(resolver_reply(rcode="NXDOMAIN")), query(ALIAS))
    assert read(response).header.rcode == dnslib.RCODE.NXDOMAIN
    assert answers(response) == [(f"{ALIAS}.", "CNAME", "www.Example.com.")]


def test_much_is_truncated_and_complete_over_tcp(tmp_path: Path) -> None:
    many = [f"www.example.com 60 A 9.9.9.{n}" for n in range(70)]
    [small] = ask(tmp_path, FakeResolver(resolver_reply(*many)), query(ALIAS))
    assert read(small).header.tc == 1
    [whole] = ask(tmp_path, FakeResolver(resolver_reply(*many)), query(ALIAS), tcp=True)
    assert len(answers(whole)) == 71
